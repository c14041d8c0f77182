//! The server as it is in production: Redis.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, TlsCertificates, cmd};
use tokio::time;

use super::backend::{CacheBackend, CacheConnection, CacheError, Seen};
use crate::config;

/// The generation, under the prefix.
const GENERATION: &str = "users:gen";

/// A Redis server that cannot be used as it was described: its certificate authorities are not usable.
#[derive(Debug, thiserror::Error)]
#[error("`REDIS_TLS_CA_FILE` names no file of certificate authorities that this user can read")]
pub struct Unusable(#[from] RedisError);

/// How to reach it.
#[derive(Debug)]
pub(crate) struct Redis {
    client: Client,
    connect_timeout: Duration,
    timeout: Duration,
    prefix: String,
}

/// One connection, on which the requests of many follow each other without waiting.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    connection: MultiplexedConnection,
    prefix: String,
}

impl Redis {
    pub(super) fn new(settings: &config::Redis, prefix: &str) -> Result<Self, Unusable> {
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
            connect_timeout: settings.connect_timeout,
            timeout: settings.timeout,
            prefix: prefix.to_owned(),
        })
    }
}

impl CacheBackend for Redis {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection, CacheError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.timeout));
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        // It is as large as it is rare.
        let connection = time::timeout(self.connect_timeout, Box::pin(connecting))
            .await
            .map_err(|_elapsed| CacheError::Timeout)??;
        Ok(Connection {
            connection,
            prefix: self.prefix.clone(),
        })
    }

    fn connect_timeout(&self) -> Duration {
        self.connect_timeout + self.timeout
    }
}

impl Connection {
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.connection.clone()).await
    }
}

impl CacheConnection for Connection {
    async fn look(&self, key: &str) -> Result<Seen, CacheError> {
        let keys = [self.name(GENERATION), self.name(key)];
        let (generation, value) = self.run(cmd("MGET").arg(&keys)).await?;
        Ok(Seen { generation, value })
    }

    async fn keep(&self, key: &str, value: &str, ttl: Duration) -> Result<(), CacheError> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut set = cmd("SET");
        set.arg(self.name(key)).arg(value).arg("PX").arg(millis);
        Ok(self.run(&set).await?)
    }

    async fn raise(&self, by: i64) -> Result<i64, CacheError> {
        let generation = self.name(GENERATION);
        match self.run(cmd("INCRBY").arg(&generation).arg(by)).await {
            // What is there is no number, or none that can be raised.
            Err(error) if error.code().is_some() => {
                let set: Result<(), _> = self.run(cmd("SET").arg(&generation).arg(by)).await;
                Ok(set.map(|()| by)?)
            }
            raised => Ok(raised?),
        }
    }
}

/// What Redis says, and what the system says of the connection, holds no password.
impl From<RedisError> for CacheError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Failed(error.to_string())
        }
    }
}
