//! Where Redis is, who we are there, and how long an answer is kept in it.

use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use super::environment::{Environment, Unusable};

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

pub(super) fn read(environment: &Environment) -> Result<Cache, Unusable> {
    Ok(Cache {
        redis: redis(environment)?,
        ttl: environment.time("CACHE_TTL", 60)?,
        prefix: environment
            .first(&["CACHE_PREFIX"])
            .map_or_else(String::new, |it| it.value),
    })
}

fn redis(environment: &Environment) -> Result<Option<Redis>, Unusable> {
    let wants_tls = environment.flag("REDIS_TLS")?;
    let Some(place) = place(environment, wants_tls)? else {
        return Ok(None);
    };
    let has_tls = matches!(place.addr(), ConnectionAddr::TcpTls { .. });
    let root_cert = environment.first(&["REDIS_TLS_CA_FILE"]);
    if let Some(of_no_use) = root_cert.as_ref().filter(|_| !has_tls) {
        return Err(Unusable::Contradiction {
            first: of_no_use.name.clone(),
            second: "REDIS_TLS".to_owned(),
            reason: "an authority is of use only with TLS; set the second to `true`, write \
                     `rediss://` in `REDIS_URL`, or unset the first"
                .to_owned(),
        });
    }
    let login = login(environment, place.redis_settings())?;
    Ok(Some(Redis {
        connection: place.set_redis_settings(login),
        root_cert: root_cert.map(|it| PathBuf::from(it.value)),
        connect_timeout: environment
            .time_or("REDIS_CONNECT_TIMEOUT", Duration::from_millis(100))?,
        timeout: environment.time_or("REDIS_TIMEOUT", Duration::from_millis(50))?,
    }))
}

/// Returns what the URL says, or else where the variables say that the server is.
fn place(environment: &Environment, wants_tls: bool) -> Result<Option<ConnectionInfo>, Unusable> {
    let host = environment.first(&["REDIS_HOST"]);
    if let Some(url) = environment.secret(&["REDIS_URL"])? {
        let place = parse_url(&url.name, url.value.reveal())?;
        if let ConnectionAddr::Tcp(name, port)
        | ConnectionAddr::TcpTls {
            host: name, port, ..
        } = place.addr()
        {
            let same_port = |it: &str| it.parse() == Ok(*port);
            if let Some(host) = host.filter(|it| it.value != *name) {
                environment.warn_of(&url.name, &host.name);
            }
            if let Some(port) = environment
                .first(&["REDIS_PORT"])
                .filter(|it| !same_port(&it.value))
            {
                environment.warn_of(&url.name, &port.name);
            }
        }
        // A wish for TLS is not dropped with a mere warning.
        if wants_tls && matches!(place.addr(), ConnectionAddr::Tcp(..)) {
            return Err(Unusable::Contradiction {
                first: url.name,
                second: "REDIS_TLS".to_owned(),
                reason: "the one says `redis://`, which is without TLS; write `rediss://` there, \
                         or unset the other"
                    .to_owned(),
            });
        }
        return Ok(Some(place));
    }
    let Some(host) = host else {
        return Ok(None);
    };
    let expected = "a port from 1 to 65535";
    let port = environment.parsed(&["REDIS_PORT"], 6379, expected, |text| {
        text.parse().ok().filter(|it| *it != 0)
    })?;
    let address = if wants_tls {
        ConnectionAddr::TcpTls {
            host: host.value,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host.value, port)
    };
    let unusable = |error: redis::RedisError| Unusable::Hidden {
        name: host.name,
        reason: error.to_string(),
    };
    address.into_connection_info().map(Some).map_err(unusable)
}

fn parse_url(name: &str, url: &str) -> Result<ConnectionInfo, Unusable> {
    let hidden = |reason: &str| Unusable::Hidden {
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    let form = "write it as `redis://user:password@host:port/0`, or `rediss://…` for TLS";
    // What the parser says may hold parts of the URL, and so of the password.
    let place = url
        .into_connection_info()
        .map_err(|_shows_it| hidden(form))?;
    match place.addr() {
        ConnectionAddr::Tcp(..)
        | ConnectionAddr::TcpTls {
            insecure: false, ..
        } => Ok(place),
        ConnectionAddr::TcpTls { .. } => Err(hidden(
            "it ends in `#insecure`, and a server is always verified; name its authority in \
             `REDIS_TLS_CA_FILE`",
        )),
        ConnectionAddr::Unix(_) | _ => Err(hidden(form)),
    }
}

/// Returns who we are; what the URL leaves open is read from the variables.
fn login(
    environment: &Environment,
    url: &RedisConnectionInfo,
) -> Result<RedisConnectionInfo, Unusable> {
    let password = environment.secret(&["REDIS_PASSWORD"])?;
    let password = match (url.password(), &password) {
        (Some(from_url), Some(variable)) if from_url != variable.value.reveal() => {
            environment.warn_of("REDIS_URL", &variable.name);
            Some(from_url)
        }
        (from_url, variable) => from_url.or(variable.as_ref().map(|it| it.value.reveal())),
    };
    let user = environment.first(&["REDIS_USER"]);
    let user = url.username().or(user.as_ref().map(|it| it.value.as_str()));
    let database = environment.parsed(
        &["REDIS_DB"],
        0,
        "a number of a database, such as `0`",
        |text| text.parse::<u16>().ok(),
    )?;

    let mut login = url.clone();
    if url.db() == 0 {
        login = login.set_db(database.into());
    } else if database != 0 && url.db() != i64::from(database) {
        environment.warn_of("REDIS_URL", "REDIS_DB");
    }
    match (user, password) {
        (Some(user), Some(password)) => Ok(login.set_username(user).set_password(password)),
        (None, Some(password)) => Ok(login.set_password(password)),
        (None, None) => Ok(login),
        // Redis would be spoken to as its user `default`.
        (Some(_), None) => Err(Unusable::Contradiction {
            first: "REDIS_USER".to_owned(),
            second: "REDIS_PASSWORD".to_owned(),
            reason: "a user logs in with a password; set the second or unset the first".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Cache, Unusable> {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        super::read(&Environment::new(owned))
    }

    fn server(variables: &[(&str, &str)]) -> ConnectionInfo {
        read(variables).unwrap().redis.unwrap().connection
    }

    fn refusal(variables: &[(&str, &str)]) -> String {
        read(variables).unwrap_err().to_string()
    }

    #[test]
    fn is_off_without_a_host() {
        let cache = read(&[
            ("REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("REDIS_PASSWORD", "x"),
        ])
        .unwrap();
        assert!(cache.redis.is_none());
        assert_eq!(cache.ttl, Duration::from_mins(1));
    }

    #[test]
    fn url_and_variables_say_the_same() {
        let url = "rediss://cache-user:p%2Fw@cache:6400/2";
        let variables = [
            ("REDIS_HOST", "cache"),
            ("REDIS_PORT", "6400"),
            ("REDIS_USER", "cache-user"),
            ("REDIS_PASSWORD", "p/w"),
            ("REDIS_TLS", "true"),
            ("REDIS_DB", "2"),
        ];
        for server in [server(&[("REDIS_URL", url)]), server(&variables)] {
            let ConnectionAddr::TcpTls {
                host,
                port,
                insecure,
                ..
            } = server.addr()
            else {
                panic!("without TLS: {server:?}");
            };
            assert_eq!((host.as_str(), *port, *insecure), ("cache", 6400, false));
            let login = server.redis_settings();
            assert_eq!(login.username(), Some("cache-user"));
            assert_eq!(login.password(), Some("p/w"));
            assert_eq!(login.db(), 2);
        }
    }

    #[test]
    fn what_the_url_leaves_open_is_read_from_the_variables() {
        let server = server(&[
            ("REDIS_URL", "redis://cache"),
            ("REDIS_PASSWORD", "hunter2"),
            ("REDIS_DB", "3"),
        ]);
        assert_eq!(
            server.addr(),
            &ConnectionAddr::Tcp("cache".to_owned(), 6379)
        );
        assert_eq!(server.redis_settings().password(), Some("hunter2"));
        assert_eq!(server.redis_settings().db(), 3);
    }

    #[test]
    fn a_url_outweighs_the_variables_and_says_so() {
        let variables = [
            ("REDIS_URL", "redis://10.0.0.1:6400/2"),
            ("REDIS_HOST", "10"),
            ("REDIS_PORT", "6401"),
            ("REDIS_DB", "3"),
        ];
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::new(owned);
        super::read(&environment).unwrap();

        let warned = ["REDIS_HOST", "REDIS_PORT", "REDIS_DB"];
        assert_eq!(
            environment.into_warnings(),
            warned
                .map(|it| format!("`REDIS_URL` is used; `{it}` has another value and is ignored"))
        );
    }

    #[test]
    fn a_password_prints_neither_with_the_settings_nor_when_they_are_refused() {
        let cache = read(&[("REDIS_URL", "redis://:hunter2@cache")]).unwrap();
        assert!(!format!("{cache:?}").contains("hunter2"));
        for url in [
            "hunter2",
            "http://:hunter2@cache",
            "redis://:hunter2@cache:port",
            "redis://:hunter2@cache/first",
            "rediss://:hunter2@cache#insecure",
            "redis+unix:///hunter2",
        ] {
            let refusal = refusal(&[("REDIS_URL", url)]);
            assert!(
                refusal.starts_with("`REDIS_URL` is not usable"),
                "{refusal}"
            );
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn tls_is_not_dropped_in_silence() {
        let plain = ("REDIS_URL", "redis://cache");
        assert!(refusal(&[plain, ("REDIS_TLS", "true")]).contains("write `rediss://`"));
        let authority = ("REDIS_TLS_CA_FILE", "/etc/ca.pem");
        assert!(refusal(&[plain, authority]).contains("`REDIS_TLS_CA_FILE` and `REDIS_TLS`"));
        assert!(
            refusal(&[("REDIS_HOST", "cache"), ("REDIS_USER", "api")])
                .contains("`REDIS_USER` and `REDIS_PASSWORD`")
        );
    }

    #[test]
    fn bad_values_are_refused_with_what_to_write() {
        for (name, value) in [
            ("REDIS_PORT", "0"),
            ("REDIS_DB", "-1"),
            ("REDIS_TLS", "perhaps"),
            ("CACHE_TTL", "0"),
            ("REDIS_TIMEOUT", "soon"),
        ] {
            let refusal = refusal(&[("REDIS_HOST", "cache"), (name, value)]);
            assert!(
                refusal.starts_with(&format!("`{name}` is `{value}`, which is not")),
                "{refusal}"
            );
        }
    }
}
