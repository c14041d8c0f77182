//! The operations that the cache needs from a server. Redis is one; the simulation has another, which
//! loses, delays and forgets.

use std::fmt::Debug;
use std::time::Duration;

/// A server to connect to.
pub(crate) trait CacheBackend: Debug + Send + Sync + 'static {
    type Connection: CacheConnection;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, CacheError>> + Send;

    /// Returns how long that may take, with a first command on the connection.
    fn connect_timeout(&self) -> Duration;
}

/// A connection, which many requests use at once.
pub(crate) trait CacheConnection: Clone + Debug + Send + Sync + 'static {
    /// Returns the generation and the value under `key`, as they are at one instant.
    fn look(&self, key: &str) -> impl Future<Output = Result<Seen, CacheError>> + Send;

    /// Stores `value` for `ttl`.
    fn keep(
        &self,
        key: &str,
        value: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), CacheError>> + Send;

    /// Raises the generation and returns it. Where there is none, or one that cannot be raised, it
    /// becomes `by`.
    fn raise(&self, by: i64) -> impl Future<Output = Result<i64, CacheError>> + Send;
}

/// What a server holds: bytes, as it may hold anything.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) generation: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

/// A failed operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CacheError {
    /// The next one may be answered.
    #[error("no answer in time")]
    Timeout,
    /// The server answered with an error, or the connection is lost.
    #[error("{0}")]
    Failed(String),
    /// Nothing was sent: another request was still connecting.
    #[error("not connected")]
    NotConnected,
}
