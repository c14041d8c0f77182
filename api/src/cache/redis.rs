//! The server that keeps values: Redis, on one connection for all requests.

use std::fmt::Debug;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, TlsCertificates};

use crate::config;

/// A server to connect to: Redis, or in the simulation a server that loses and delays commands.
pub trait CacheBackend: Debug + Send + Sync + 'static {
    /// A connection that all requests share.
    type Connection: ConnectionLike + Clone + Debug + Send + Sync + 'static;

    /// Opens a connection with timeouts of its own.
    fn connect(&self) -> impl Future<Output = RedisResult<Self::Connection>> + Send;
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    client: Client,
    timeouts: AsyncConnectionConfig,
}

impl Redis {
    pub(crate) fn new(settings: &config::RedisConfig) -> RedisResult<Self> {
        let tcp = TcpSettings::default().set_nodelay(true);
        let address = settings.connection()?.set_tcp_settings(tcp);
        let client = match &settings.root_cert {
            None => Client::open(address),
            Some(path) => {
                let certificates = std::fs::read(path).map_err(RedisError::from)?;
                let trusted = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(certificates),
                };
                Client::build_with_tls(address, trusted)
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
