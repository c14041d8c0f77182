//! Where Redis is, who we are there, and how long an answer is kept in it.

use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use super::environment::{Environment, Found, Unusable};

/// Everything about the cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The server; without one there is no cache.
    pub redis: Option<Redis>,
    /// How long an answer is kept, give or take a tenth.
    pub ttl: Duration,
    /// What every key begins with.
    pub prefix: String,
}

/// A Redis server.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Where it is, and who we are there. It does not print the password.
    pub connection: ConnectionInfo,
    /// The trusted authorities, other than the system's.
    pub root_cert: Option<PathBuf>,
    /// How long it may take to accept a connection, TLS and password included.
    pub connect_timeout: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
}

pub(super) fn read(environment: &mut Environment) -> Result<Cache, Unusable> {
    let prefix = environment.first("CACHE_PREFIX");
    Ok(Cache {
        redis: redis(environment)?,
        ttl: environment.time("CACHE_TTL", Duration::from_mins(1))?,
        prefix: prefix.map_or_else(String::new, |it| it.value),
    })
}

fn redis(environment: &mut Environment) -> Result<Option<Redis>, Unusable> {
    let mut is_tls = environment.flag("REDIS_TLS")?;
    if let Some(Found {
        name, value: url, ..
    }) = environment.secret("REDIS_URL")?
    {
        let url_is_tls = read_url(environment, &name, &url)?;
        // A wish for TLS is not dropped with a mere warning.
        if is_tls && !url_is_tls {
            return Err(Unusable::contradiction(
                &name,
                "REDIS_TLS",
                "the one says `redis://`, which is without TLS; write `rediss://` there, or unset \
                 the other",
            ));
        }
        is_tls = url_is_tls;
    }
    let Some(Found {
        name, value: host, ..
    }) = environment.first("REDIS_HOST")
    else {
        return Ok(None);
    };
    let port = environment.number("REDIS_PORT", 6379, 1..=u16::MAX, "port")?;
    let root_cert = environment.first("REDIS_TLS_CA_FILE");
    if let Some(of_no_use) = root_cert.as_ref().filter(|_| !is_tls) {
        return Err(Unusable::contradiction(
            &of_no_use.name,
            "REDIS_TLS",
            "an authority is of use only with TLS; set the second to `true`, write `rediss://` in \
             `REDIS_URL`, or unset the first",
        ));
    }
    let address = if is_tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let address = address.into_connection_info();
    let address = address.map_err(|error| Unusable::hidden(&name, &error.to_string()))?;
    Ok(Some(Redis {
        connection: address.set_redis_settings(login(environment)?),
        root_cert: root_cert.map(|it| PathBuf::from(it.value)),
        connect_timeout: environment.time("REDIS_CONNECT_TIMEOUT", Duration::from_millis(100))?,
        timeout: environment.time("REDIS_TIMEOUT", Duration::from_millis(50))?,
    }))
}

/// Notes what a URL says, which outweighs the variables, and returns whether it asks for TLS.
fn read_url(environment: &mut Environment, name: &str, url: &str) -> Result<bool, Unusable> {
    let form = "write it as `redis://user:password@host:port/0`, or `rediss://…` for TLS";
    // What the parser says may hold parts of the URL, and so of the password.
    let place = url
        .into_connection_info()
        .map_err(|_shows_it| Unusable::hidden(name, form))?;
    let (host, port, is_tls) = match place.addr() {
        ConnectionAddr::Tcp(host, port) => (host, port, false),
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            ..
        } => (host, port, true),
        ConnectionAddr::TcpTls { .. } => {
            let reason = "it ends in `#insecure`, and a server is always verified; name its \
                          authority in `REDIS_TLS_CA_FILE`";
            return Err(Unusable::hidden(name, reason));
        }
        ConnectionAddr::Unix(_) | _ => return Err(Unusable::hidden(name, form)),
    };
    let login = place.redis_settings();
    let (user, password) = (login.username(), login.password());
    environment.outweigh(name, "REDIS_HOST", host);
    environment.outweigh(name, "REDIS_PORT", &port.to_string());
    environment.outweigh(name, "REDIS_USER", user.unwrap_or(""));
    environment.outweigh(name, "REDIS_PASSWORD", password.unwrap_or(""));
    if login.db() != 0 {
        environment.outweigh(name, "REDIS_DB", &login.db().to_string());
    }
    Ok(is_tls)
}

/// Returns who we are.
fn login(environment: &Environment) -> Result<RedisConnectionInfo, Unusable> {
    let number = environment.number("REDIS_DB", 0, 0..=u16::MAX, "number of a database")?;
    let mut login = RedisConnectionInfo::default().set_db(number.into());
    let password = environment.secret("REDIS_PASSWORD")?;
    if let Some(user) = environment.first("REDIS_USER") {
        // Redis would be spoken to as its user `default`.
        if password.is_none() {
            return Err(Unusable::contradiction(
                "REDIS_USER",
                "REDIS_PASSWORD",
                "a user logs in with a password; set the second or unset the first",
            ));
        }
        login = login.set_username(user.value);
    }
    Ok(match password {
        Some(password) => login.set_password(password.value),
        None => login,
    })
}
