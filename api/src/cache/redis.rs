//! The server that keeps values: Redis, on one connection for all requests.

use std::fmt::Debug;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, TlsCertificates};

use crate::config;

/// A server to connect to. Redis is one; the simulation has another, which loses, delays and forgets.
pub trait CacheBackend: Debug + Send + Sync + 'static {
    /// One connection, on which the commands of many follow each other.
    type Connection: ConnectionLike + Clone + Debug + Send + Sync + 'static;

    /// Opens a connection, which gives up by itself on what is not answered in time.
    fn connect(&self) -> impl Future<Output = RedisResult<Self::Connection>> + Send;
}

/// A Redis server that cannot be used as it was described: its certificate authorities are not usable.
#[derive(Debug, thiserror::Error)]
#[error("`REDIS_TLS_CA_FILE` names no file of certificate authorities that this user can read")]
pub struct Unusable(#[from] RedisError);

/// How to reach it.
#[derive(Debug)]
pub struct Redis {
    client: Client,
    timeouts: AsyncConnectionConfig,
}

impl Redis {
    pub(super) fn new(settings: &config::Redis) -> Result<Self, Unusable> {
        let tcp = TcpSettings::default().set_nodelay(true);
        let place = settings.connection.clone().set_tcp_settings(tcp);
        let client = match &settings.root_cert {
            None => Client::open(place),
            Some(path) => {
                let authorities = std::fs::read(path).map_err(RedisError::from)?;
                let trusted = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(authorities),
                };
                Client::build_with_tls(place, trusted)
            }
        };
        Ok(Self {
            client: client?,
            timeouts: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(settings.connect_timeout))
                .set_response_timeout(Some(settings.timeout)),
        })
    }
}

impl CacheBackend for Redis {
    type Connection = MultiplexedConnection;

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let timeouts = &self.timeouts;
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(timeouts);
        connecting.await
    }
}
