//! What the cache asks of a server that keeps values. Redis is one; the simulation has another, which
//! loses what it is told to.

use std::fmt::Debug;
use std::time::Duration;

/// Where connections come from.
pub(crate) trait Server: Debug + Send + Sync + 'static {
    type Link: Link;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Link, Failure>> + Send;

    /// Returns how long that may take, with a first command on the connection.
    fn patience(&self) -> Duration;
}

/// A connection, which many use at once.
pub(crate) trait Link: Clone + Debug + Send + Sync + 'static {
    /// Returns the generation and the value under `key`, as they were at one moment.
    fn look(&self, key: &str) -> impl Future<Output = Result<Seen, Failure>> + Send;

    /// Stores `value` for as long as `ttl`.
    fn keep(
        &self,
        key: &str,
        value: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Raises the generation, from zero if there is none, and returns it.
    fn raise(&self, by: i64) -> impl Future<Output = Result<i64, Failure>> + Send;

    /// Puts `generation` in the place of whatever is there.
    fn restart(&self, generation: i64) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What a server holds.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) generation: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

/// Why a server was of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It may answer the next one.
    #[error("no answer in time")]
    OutOfTime,
    /// It understood and does not want to.
    #[error("refused: {0}")]
    Refused(String),
    /// It was not asked: another request was still beginning a session, or could not.
    #[error("there is no session yet")]
    NotAsked,
    /// The connection is of no more use, or there is none.
    #[error("{0}")]
    Broken(String),
}
