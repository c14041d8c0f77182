//! Settings of the cache.

use std::path::PathBuf;
use std::time::Duration;

use causeway_runtime::secret::Secret;
use clap::Args;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use super::environment::{Environment, SettingError};
use super::values::{flag, secret, timeout, within};

/// Settings of the cache.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cache")]
pub struct CacheConfig {
    /// The server; without one there is no cache.
    #[arg(skip)]
    pub redis: Option<RedisConfig>,
    /// Time for which an answer is kept, give or take a tenth.
    #[arg(long = "CACHE_TTL", default_value = "60s", value_parser = timeout)]
    pub ttl: Duration,
}

/// Settings of a Redis server. They are read only where it has a host: Docker's links set the port of
/// a container that no setting names.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cache")]
pub struct RedisConfig {
    /// `redis://user:password@host:port/0`, or `rediss://…` for TLS. What it leaves out is read from the
    /// variables below.
    #[arg(long = "REDIS_URL", hide_env_values = true, value_parser = secret())]
    pub url: Option<Secret>,
    /// Server, where there is no `REDIS_URL`. Its name is resolved at each connection.
    #[arg(long = "REDIS_HOST", default_value = "")]
    host: String,
    /// Port of the server.
    #[arg(long = "REDIS_PORT", default_value = "6379", value_parser = within(1..=u16::MAX))]
    port: u16,
    /// Whether to use TLS, also where `REDIS_URL` begins with `redis://`. The server's certificate is always
    /// verified.
    #[arg(long = "REDIS_TLS", default_value = "false", value_parser = flag, action = clap::ArgAction::Set)]
    tls: bool,
    /// File of trusted CA certificates in PEM format, by default the system's.
    #[arg(long = "REDIS_TLS_CA_FILE")]
    pub root_cert: Option<PathBuf>,
    /// User of Redis's access list. By default `default`.
    #[arg(long = "REDIS_USER")]
    user: Option<String>,
    /// Password of the user.
    #[arg(long = "REDIS_PASSWORD", hide_env_values = true, value_parser = secret())]
    password: Option<Secret>,
    /// Number of the database. Deployments that share one Redis need one each.
    #[arg(long = "REDIS_DB", default_value = "0", value_parser = within(0..=u16::MAX))]
    db: u16,
    /// Time within which a connection opens, TLS and password included.
    #[arg(long = "REDIS_CONNECT_TIMEOUT", default_value = "100ms", value_parser = timeout)]
    pub connect_timeout: Duration,
    /// Time within which Redis answers.
    #[arg(long = "REDIS_TIMEOUT", default_value = "50ms", value_parser = timeout)]
    pub timeout: Duration,
}

impl RedisConfig {
    /// Returns the address and the login. The password does not print.
    ///
    /// # Errors
    ///
    /// When the address is of a kind that this host does not have.
    pub fn connection(&self) -> redis::RedisResult<ConnectionInfo> {
        let (host, port) = (self.host.clone(), self.port);
        let address = if self.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut login = RedisConnectionInfo::default().set_db(self.db.into());
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password.reveal());
        }
        Ok(address.into_connection_info()?.set_redis_settings(login))
    }

    fn reject_contradictions(&self) -> Result<(), SettingError> {
        if self.root_cert.is_some() && !self.tls {
            return Err(SettingError::contradiction(
                "REDIS_TLS_CA_FILE",
                "REDIS_TLS",
                "a CA certificate is of use only with TLS; set the second to `true`, write \
                 `rediss://` in `REDIS_URL`, or unset the first",
            ));
        }
        // Redis would log in its user `default`.
        if self.user.is_some() && self.password.is_none() {
            return Err(SettingError::contradiction(
                "REDIS_USER",
                "REDIS_PASSWORD",
                "a user logs in with a password; set the second or unset the first",
            ));
        }
        Ok(())
    }
}

/// Reads the settings of Redis, if there are any.
pub(super) fn read_redis(from: &mut Environment) -> Result<Option<RedisConfig>, SettingError> {
    let url_is_tls = match from.find(&["REDIS_URL"], true)? {
        Some(url) => read_url(from, &url.name, &url.value)?,
        None => false,
    };
    if !from.is_set("REDIS_HOST") {
        return Ok(None);
    }
    let mut redis: RedisConfig = from.parse()?;
    redis.tls |= url_is_tls;
    redis.reject_contradictions()?;
    Ok(Some(redis))
}

/// Overrides the variables by the parts of the URL, and returns whether it asks for TLS.
fn read_url(environment: &mut Environment, name: &str, url: &str) -> Result<bool, SettingError> {
    let form = "write it as `redis://user:password@host:port/0`, or `rediss://…` for TLS";
    // The parser's error may contain parts of the URL, and so of the password.
    let place = url
        .into_connection_info()
        .map_err(|_shows_it| SettingError::hidden(name, form))?;
    let (host, port, is_tls) = match place.addr() {
        ConnectionAddr::Tcp(host, port) => (host, port, false),
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            ..
        } => (host, port, true),
        ConnectionAddr::TcpTls { .. } => {
            let reason = "it ends in `#insecure`, and a server is always verified; name its CA \
                          certificate in `REDIS_TLS_CA_FILE`";
            return Err(SettingError::hidden(name, reason));
        }
        ConnectionAddr::Unix(_) | _ => return Err(SettingError::hidden(name, form)),
    };
    let login = place.redis_settings();
    let (user, password) = (login.username(), login.password());
    environment.override_by(name, "REDIS_HOST", host);
    environment.override_by(name, "REDIS_PORT", &port.to_string());
    environment.override_by(name, "REDIS_USER", user.unwrap_or(""));
    environment.override_by(name, "REDIS_PASSWORD", password.unwrap_or(""));
    if login.db() != 0 {
        environment.override_by(name, "REDIS_DB", &login.db().to_string());
    }
    Ok(is_tls)
}
