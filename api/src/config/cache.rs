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

#[cfg(test)]
mod tests {
    use super::super::environment::from;
    use super::*;

    fn server(variables: &[(&str, &str)]) -> ConnectionInfo {
        let cache = read(&mut from(variables)).unwrap();
        cache.redis.unwrap().connection
    }

    fn refusal(variables: &[(&str, &str)]) -> String {
        read(&mut from(variables)).unwrap_err().to_string()
    }

    #[test]
    fn no_host_then_off() {
        let docker = ("REDIS_PORT", "tcp://10.0.0.1:6379");
        let cache = read(&mut from(&[docker, ("REDIS_PASSWORD", "x")])).unwrap();
        assert!(cache.redis.is_none());
        assert_eq!(cache.ttl, Duration::from_mins(1));
    }

    #[test]
    fn url_and_variables_say_the_same() {
        let all = [("REDIS_URL", "rediss://cache-user:p%2Fw@cache:6400/2")];
        let part = [
            ("REDIS_URL", "rediss://cache:6400"),
            ("REDIS_USER", "cache-user"),
            ("REDIS_PASSWORD", "p/w"),
            ("REDIS_DB", "2"),
        ];
        let address = [
            ("REDIS_HOST", "cache"),
            ("REDIS_PORT", "6400"),
            ("REDIS_TLS", "true"),
        ];
        let none = [&address, &part[1..]].concat();
        for server in [server(&all), server(&part), server(&none)] {
            assert_eq!(server.addr().to_string(), "cache:6400");
            let verified =
                matches!(server.addr(), ConnectionAddr::TcpTls { insecure, .. } if !insecure);
            assert!(verified, "{server:?}");
            let login = server.redis_settings();
            assert_eq!(login.username(), Some("cache-user"));
            assert_eq!((login.password(), login.db()), (Some("p/w"), 2));
        }
    }

    #[test]
    fn a_password_prints_neither_with_the_settings_nor_when_they_are_refused() {
        let server = server(&[("REDIS_URL", "redis://:hunter2@cache")]);
        assert!(!format!("{server:?}").contains("hunter2"));
        for url in [
            "hunter2",
            "http://:hunter2@cache",
            "redis://:hunter2@cache:port",
            "redis://:hunter2@cache/first",
            "rediss://:hunter2@cache#insecure",
            "redis+unix:///hunter2",
        ] {
            let refusal = refusal(&[("REDIS_URL", url)]);
            assert!(refusal.starts_with("`REDIS_URL` is not usable"));
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        let plain = ("REDIS_URL", "redis://cache");
        let host = ("REDIS_HOST", "cache");
        for (variables, expected) in [
            ([plain, ("REDIS_TLS", "true")], "write `rediss://`"),
            (
                [plain, ("REDIS_TLS_CA_FILE", "/etc/ca.pem")],
                "`REDIS_TLS_CA_FILE` and `REDIS_TLS`",
            ),
            (
                [host, ("REDIS_USER", "api")],
                "`REDIS_USER` and `REDIS_PASSWORD`",
            ),
            ([host, ("REDIS_PORT", "0")], "`REDIS_PORT` is `0`, which"),
            ([host, ("REDIS_DB", "-1")], "`REDIS_DB` is `-1`, which"),
            ([host, ("REDIS_TLS", "so")], "`REDIS_TLS` is `so`, which"),
            ([host, ("CACHE_TTL", "0")], "`CACHE_TTL` is `0`, which"),
            ([host, ("REDIS_TIMEOUT", "x")], "`REDIS_TIMEOUT` is `x`, "),
        ] {
            let refusal = refusal(&variables);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}
