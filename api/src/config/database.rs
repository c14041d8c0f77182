//! Where PostgreSQL is, who we are there, and how long we wait for it.

use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use ha_runtime::postgres::{RootCert, SslMode};
use ha_runtime::secret::Secret;
use percent_encoding::percent_decode_str;
use tokio_postgres::config::Host;

use super::environment::{Environment, Found, Unusable, duration};

const HOST: &[&str] = &["PGHOST", "DB_HOST", "POSTGRES_HOST", "APP_DB_HOST"];
const PORT: &[&str] = &[
    "PGPORT",
    "DB_PORT",
    "PSQL_PORT",
    "POSTGRES_PORT",
    "APP_DB_PORT",
];
const USER: &[&str] = &[
    "PGUSER",
    "DB_USER",
    "PSQL_USER",
    "POSTGRES_USER",
    "APP_DB_USER",
];
const PASSWORD: &[&str] = &[
    "PGPASSWORD",
    "DB_PASSWORD",
    "PSQL_PASS",
    "POSTGRES_PASSWORD",
    "APP_DB_PASSWORD",
];
const NAME: &[&str] = &[
    "PGDATABASE",
    "DB_NAME",
    "PSQL_DBNAME",
    "POSTGRES_DB",
    "APP_DB_NAME",
];
const TLS: &[&str] = &["PGSSLMODE", "DB_SSLMODE"];

/// One server that may be the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name, resolved anew at each connection, an address, or the directory of a Unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Who brings the schema up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// This program, at its start.
    AtStart,
    /// Somebody else; this program waits for the tables.
    Off,
}

/// Everything about the database.
#[derive(Clone, Debug)]
pub struct Database {
    /// The servers, of which at most one is the primary.
    pub servers: Vec<Server>,
    /// The role to log in as.
    pub user: String,
    /// Its password, where it needs one.
    pub password: Option<Secret>,
    /// The name of the database.
    pub name: String,
    /// How far a server must prove who it is.
    pub tls: SslMode,
    /// The trusted authorities, other than the system's.
    pub root_cert: Option<RootCert>,
    /// How long one server may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How long to wait for the database when the program starts.
    pub startup_timeout: Duration,
    /// How long the database may be away before this replica says that it is not ready.
    pub ready_grace: Duration,
    /// The most connections that writes and long reads may use at once, each alone on its own.
    pub pool_max: usize,
    /// The connections that short reads share.
    pub shared_connections: usize,
    /// How long there has to be no primary before a standby is read, if it may be at all.
    pub reads_from_standby: Option<Duration>,
    /// Who brings the schema up to date.
    pub migrate: Migrate,
}

/// What `DATABASE_URL` says; what it leaves open is read from the other variables.
#[derive(Debug, Default)]
struct Written {
    hosts: Option<Vec<String>>,
    ports: Option<Vec<u16>>,
    user: Option<String>,
    password: Option<Secret>,
    name: Option<String>,
    tls: Option<SslMode>,
    root_cert: Option<PathBuf>,
    connect_timeout: Option<Duration>,
}

/// Where a service is given variables and no files, as on ECS, they hold the certificates themselves.
fn root_cert(text: &str) -> Option<RootCert> {
    if text.starts_with("-----BEGIN CERTIFICATE-----") {
        return Some(RootCert::Text(text.to_owned()));
    }
    let is_readable = File::open(text).is_ok();
    is_readable.then(|| RootCert::File(PathBuf::from(text)))
}

pub(super) fn read(environment: &Environment) -> Result<Database, Unusable> {
    let url = environment.secret(&["DATABASE_URL"])?;
    let url_name = url.as_ref().map(|it| it.name.clone()).unwrap_or_default();
    let url = match &url {
        Some(found) => parse_url(environment, &found.name, found.value.reveal())?,
        None => Written::default(),
    };
    let servers = servers(environment, &url_name, url.hosts, url.ports)?;
    let text = |from_url, names| environment.either(&url_name, from_url, environment.first(names));
    let user = text(url.user, USER).map_or_else(|| "postgres".to_owned(), |it| it.value);
    let name = text(url.name, NAME).map_or_else(|| user.clone(), |it| it.value);
    let password = environment.secret(PASSWORD)?;
    let password = environment.either(&url_name, url.password, password);
    let tls = environment.found(
        TLS,
        "an sslmode: use disable, prefer, require, verify-ca or verify-full",
        |text| SslMode::from_str(text).ok(),
    )?;
    let tls = environment.either(&url_name, url.tls, tls);
    let root_cert = match url.root_cert {
        Some(path) => Some(RootCert::File(path)),
        None => environment.parsed(
            &["PGSSLROOTCERT"],
            None,
            "a file of certificate authorities that this user can read, nor such authorities in PEM format",
            |text| root_cert(text).map(Some),
        )?,
    };
    let connect_timeout = environment.time("DB_CONNECT_TIMEOUT", Duration::from_secs(2))?;
    Ok(Database {
        servers,
        user,
        password: password.map(|it| it.value),
        name,
        tls: tls.map_or(SslMode::Prefer, |it| it.value),
        root_cert,
        connect_timeout: url.connect_timeout.unwrap_or(connect_timeout),
        statement_timeout: environment.time("DB_STATEMENT_TIMEOUT", Duration::from_secs(5))?,
        startup_timeout: environment.time("DB_STARTUP_TIMEOUT", Duration::from_secs(30))?,
        ready_grace: environment.delay("READY_DB_GRACE", Duration::from_secs(10))?,
        pool_max: environment.number("DB_POOL_MAX", 16, 1..=500, "number of connections")?,
        shared_connections: environment.number(
            "DB_SHARED_CONNECTIONS",
            4,
            1..=64,
            "number of connections",
        )?,
        reads_from_standby: environment.parsed(
            &["READS_FROM_STANDBY"],
            None,
            "`off`, or a time without a primary after which a standby is read, such as `2s`",
            |text| match text {
                "off" | "false" => Some(None),
                _ => duration(text).map(Some),
            },
        )?,
        migrate: environment.parsed(&["MIGRATE"], Migrate::AtStart, "`on` or `off`", |text| {
            match text.to_ascii_lowercase().as_str() {
                "on" | "true" | "1" | "yes" => Some(Migrate::AtStart),
                "off" | "false" | "0" | "no" => Some(Migrate::Off),
                _ => None,
            }
        })?,
    })
}

/// Pairs each host with its port: one port for all, or as many as there are hosts.
fn servers(
    environment: &Environment,
    url_name: &str,
    url_hosts: Option<Vec<String>>,
    url_ports: Option<Vec<u16>>,
) -> Result<Vec<Server>, Unusable> {
    let variable = environment.first(HOST).map(|it| Found {
        name: it.name,
        value: split(&it.value).into_iter().map(str::to_owned).collect(),
    });
    let hosts = environment.either(url_name, url_hosts, variable);
    let hosts = hosts.unwrap_or_else(|| Found {
        name: "PGHOST".to_owned(),
        value: vec!["localhost".to_owned()],
    });

    let given = environment.first(PORT);
    let variable = given.as_ref().map(|it| Found {
        name: it.name.clone(),
        value: ports(&it.value),
    });
    let ports = environment.either(url_name, url_ports.map(Some), variable);
    let (ports_name, ports) = ports.map_or_else(
        || ("PGPORT".to_owned(), Some(vec![5432])),
        |it| (it.name, it.value),
    );
    let Some(ports) = ports else {
        let given = given.map(|it| it.value).unwrap_or_default();
        let expected = "a port from 1 to 65535, or a list of them with commas";
        return Err(Unusable::not_one(&ports_name, &given, expected));
    };
    let (hosts_name, hosts) = (hosts.name, hosts.value);
    if ports.len() != 1 && ports.len() != hosts.len() {
        let reason = format!(
            "there are {} hosts and {} ports; give one port for all, or one for each",
            hosts.len(),
            ports.len()
        );
        return Err(Unusable::contradiction(&hosts_name, &ports_name, &reason));
    }
    let paired = hosts.into_iter().zip(ports.iter().cycle());
    Ok(paired
        .map(|(host, port)| Server { host, port: *port })
        .collect())
}

fn ports(list: &str) -> Option<Vec<u16>> {
    split(list)
        .into_iter()
        .map(|it| it.parse().ok().filter(|port| *port != 0))
        .collect()
}

fn split(list: &str) -> Vec<&str> {
    list.split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect()
}

/// Reads a URL as libpq and `SQLAlchemy` write it. What `tokio_postgres` would refuse (verify-full, a
/// root certificate, a driver's name in the scheme) is taken out first; the rest it reads itself.
fn parse_url(environment: &Environment, name: &str, url: &str) -> Result<Written, Unusable> {
    let hidden = |reason: &str| Unusable::hidden(name, reason);
    let form = "write it as `postgres://user:password@host:port/database`";
    let (scheme, rest) = url.split_once("://").ok_or_else(|| hidden(form))?;
    let protocol = scheme.split('+').next().unwrap_or_default();
    if !matches!(protocol, "postgres" | "postgresql") {
        return Err(hidden(form));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));

    let mut written = Written::default();
    let mut passed_on = Vec::new();
    for pair in query.split('&').filter(|it| !it.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = percent_decode_str(value).decode_utf8_lossy();
        match key {
            "sslmode" | "ssl" => {
                let mode = match &*text {
                    "true" | "1" => Ok(SslMode::Require),
                    "false" | "0" => Ok(SslMode::Disable),
                    mode => SslMode::from_str(mode),
                };
                written.tls = Some(mode.map_err(|unknown| hidden(&unknown.to_string()))?);
            }
            "sslrootcert" => written.root_cert = Some(PathBuf::from(text.as_ref())),
            // The service asks each server itself whether it takes writes.
            "target_session_attrs" if text != "read-write" && text != "any" => {
                return Err(hidden(
                    "`target_session_attrs` must be `read-write`: this service writes",
                ));
            }
            "target_session_attrs" => {}
            "channel_binding" | "options" | "hostaddr" => {
                return Err(hidden(&format!("`{key}` does nothing here; take it out")));
            }
            "user" | "password" | "dbname" | "host" | "port" | "connect_timeout" => {
                passed_on.push(pair);
            }
            _ => environment.warn(format!(
                "`{name}` sets `{key}`, which does nothing here and is ignored"
            )),
        }
    }
    let plain = format!("postgresql://{place}?{}", passed_on.join("&"));
    // The error of the parser may hold parts of the URL, and so of the password.
    let config = tokio_postgres::Config::from_str(&plain).map_err(|_shows_it| hidden(form))?;

    let hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
    // Whatever stands before the `@` of a host is the end of a password, and would be logged.
    if hosts.iter().any(|it| it.contains('@')) {
        return Err(hidden("write an `@` in a user or a password as `%40`"));
    }
    // Where the URL names no port the parser puts one of its own for each host.
    let defaults = if names_port(place) {
        0
    } else {
        hosts_of(place).count()
    };
    let ports: Vec<u16> = config.get_ports().iter().skip(defaults).copied().collect();
    written.hosts = (!hosts.is_empty()).then_some(hosts);
    written.ports = (!ports.is_empty()).then_some(ports);
    written.user = config.get_user().map(str::to_owned);
    written.name = config
        .get_dbname()
        .filter(|it| !it.is_empty())
        .map(str::to_owned);
    if let Some(password) = config.get_password() {
        let text = std::str::from_utf8(password).map_err(|_not_utf8| hidden(form))?;
        written.password = Some(Secret::new(text));
    }
    written.connect_timeout = config.get_connect_timeout().copied();
    Ok(written)
}

fn hosts_of(place: &str) -> impl Iterator<Item = &str> {
    let authority = place.split('/').next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
    hosts.split(',').filter(|_| !hosts.is_empty())
}

fn names_port(place: &str) -> bool {
    // The colons of an address in version 6 stand within brackets.
    let after_address = |it: &str| it.rsplit_once(']').map_or(it, |(_, it)| it).contains(':');
    hosts_of(place).any(after_address)
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}
