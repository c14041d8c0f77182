//! Where Redis is, who we are there, and how long an answer is kept in it.

use std::path::PathBuf;
use std::time::Duration;

use ha_runtime::secret::Secret;
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

/// What `REDIS_URL` says; what it leaves open is read from the other variables.
#[derive(Default)]
struct Written {
    host: Option<String>,
    port: Option<String>,
    is_tls: bool,
    login: RedisConnectionInfo,
}

pub(super) fn read(environment: &Environment) -> Result<Cache, Unusable> {
    let prefix = environment.first(&["CACHE_PREFIX"]);
    Ok(Cache {
        redis: redis(environment)?,
        ttl: environment.time("CACHE_TTL", Duration::from_mins(1))?,
        prefix: prefix.map_or_else(String::new, |it| it.value),
    })
}

fn redis(environment: &Environment) -> Result<Option<Redis>, Unusable> {
    let wants_tls = environment.flag("REDIS_TLS")?;
    let (url, written) = match environment.secret(&["REDIS_URL"])? {
        Some(url) => {
            let written = parse_url(&url.name, url.value.reveal())?;
            (url.name, written)
        }
        None => (String::new(), Written::default()),
    };
    let either = |from_url, name| environment.either(&url, from_url, environment.first(&[name]));
    // A wish for TLS is not dropped with a mere warning.
    if wants_tls && written.host.is_some() && !written.is_tls {
        return Err(Unusable::contradiction(
            &url,
            "REDIS_TLS",
            "the one says `redis://`, which is without TLS; write `rediss://` there, or unset the \
             other",
        ));
    }
    let Some(Found { name, value: host }) = either(written.host, "REDIS_HOST") else {
        return Ok(None);
    };
    let port = either(written.port, "REDIS_PORT").map_or(Ok(6379), |it| {
        let port = it.parse("a port from 1 to 65535", |text| {
            text.parse().ok().filter(|it| *it != 0)
        });
        port.map(|it| it.value)
    })?;
    let is_tls = wants_tls || written.is_tls;
    let root_cert = environment.first(&["REDIS_TLS_CA_FILE"]);
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
    let login = login(environment, &url, written.login)?;
    Ok(Some(Redis {
        connection: address.set_redis_settings(login),
        root_cert: root_cert.map(|it| PathBuf::from(it.value)),
        connect_timeout: environment.time("REDIS_CONNECT_TIMEOUT", Duration::from_millis(100))?,
        timeout: environment.time("REDIS_TIMEOUT", Duration::from_millis(50))?,
    }))
}

fn parse_url(name: &str, url: &str) -> Result<Written, Unusable> {
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
    Ok(Written {
        host: Some(host.clone()),
        port: Some(port.to_string()),
        is_tls,
        login: place.redis_settings().clone(),
    })
}

/// Returns who we are; what the URL leaves open is read from the variables.
fn login(
    environment: &Environment,
    url: &str,
    login: RedisConnectionInfo,
) -> Result<RedisConnectionInfo, Unusable> {
    let password = environment.secret(&["REDIS_PASSWORD"])?;
    let password = environment.either(url, login.password().map(Secret::new), password);
    let user = environment.first(&["REDIS_USER"]);
    let user = environment.either(url, login.username().map(str::to_owned), user);
    let database =
        environment.found(&["REDIS_DB"], "a number of a database, such as `0`", |it| {
            it.parse::<u16>().ok().map(i64::from)
        })?;
    let database = environment.either(url, Some(login.db()).filter(|it| *it != 0), database);

    let login = login.set_db(database.map_or(0, |it| it.value));
    match (user, password) {
        (Some(user), Some(password)) => {
            let login = login.set_username(user.value);
            Ok(login.set_password(password.value.reveal()))
        }
        (None, Some(password)) => Ok(login.set_password(password.value.reveal())),
        (None, None) => Ok(login),
        // Redis would be spoken to as its user `default`.
        (Some(_), None) => Err(Unusable::contradiction(
            "REDIS_USER",
            "REDIS_PASSWORD",
            "a user logs in with a password; set the second or unset the first",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::from;
    use super::*;

    fn server(variables: &[(&str, &str)]) -> ConnectionInfo {
        let cache = read(&from(variables)).unwrap();
        cache.redis.unwrap().connection
    }

    fn refusal(variables: &[(&str, &str)]) -> String {
        read(&from(variables)).unwrap_err().to_string()
    }

    #[test]
    fn no_host_then_off() {
        let docker = ("REDIS_PORT", "tcp://10.0.0.1:6379");
        let cache = read(&from(&[docker, ("REDIS_PASSWORD", "x")])).unwrap();
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
    fn a_url_outweighs_the_variables_and_says_so() {
        let environment = from(&[
            ("REDIS_URL", "redis://10.0.0.1:6400/2"),
            ("REDIS_HOST", "10"),
            ("REDIS_PORT", "6401"),
            ("REDIS_DB", "3"),
        ]);
        read(&environment).unwrap();
        let ignored = ["REDIS_HOST", "REDIS_PORT", "REDIS_DB"]
            .map(|it| format!("`REDIS_URL` is used; `{it}` has another value and is ignored"));
        assert_eq!(environment.into_warnings(), ignored);
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
