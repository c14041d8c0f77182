//! Where PostgreSQL is, who we are there, and how long we wait for it.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use causeway_runtime::postgres::{RootCertificates, SslMode};
use causeway_runtime::secret::Secret;
use clap::ValueEnum;
use percent_encoding::percent_decode_str;

use super::environment::{Environment, Found, Unusable, duration};

const HOST: &str = "PGHOST DB_HOST POSTGRES_HOST APP_DB_HOST";
const PORT: &str = "PGPORT DB_PORT PSQL_PORT POSTGRES_PORT APP_DB_PORT";
const USER: &str = "PGUSER DB_USER PSQL_USER POSTGRES_USER APP_DB_USER";
const PASSWORD: &str = "PGPASSWORD DB_PASSWORD PSQL_PASS POSTGRES_PASSWORD APP_DB_PASSWORD";
const NAME: &str = "PGDATABASE DB_NAME PSQL_DBNAME POSTGRES_DB APP_DB_NAME";
const TLS: &str = "PGSSLMODE DB_SSLMODE";

/// What a URL may say, and the variable that says the same.
const IN_URL: [(&str, &str); 9] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("ssl", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("connect_timeout", "DB_CONNECT_TIMEOUT"),
];

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Migrate {
    /// This program, at its start.
    #[value(name = "on", aliases = ["true", "1", "yes"])]
    AtStart,
    /// Somebody else; this program waits for the tables.
    #[value(aliases = ["false", "0", "no"])]
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
    pub root_cert: Option<RootCertificates>,
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

/// Where a service is given variables and no files, as on ECS, they hold the certificates themselves.
fn root_cert(text: &str) -> Option<RootCertificates> {
    if text.starts_with("-----BEGIN CERTIFICATE-----") {
        return Some(RootCertificates::Text(text.to_owned()));
    }
    let is_readable = File::open(text).is_ok();
    is_readable.then(|| RootCertificates::File(PathBuf::from(text)))
}

pub(super) fn read(environment: &mut Environment) -> Result<Database, Unusable> {
    if let Some(Found {
        name, value: url, ..
    }) = environment.secret("DATABASE_URL")?
    {
        read_url(environment, &name, &url)?;
    }
    let text = |names| environment.first(names).map(|it| it.value);
    let user = text(USER).unwrap_or_else(|| "postgres".to_owned());
    let password = environment.secret(PASSWORD)?;
    Ok(Database {
        servers: servers(environment)?,
        password: password.map(|it| Secret::new(it.value)),
        name: text(NAME).unwrap_or_else(|| user.clone()),
        user,
        tls: environment.parsed(
            TLS,
            SslMode::Prefer,
            "an sslmode: use disable, prefer, require, verify-ca or verify-full",
            |text| text.parse().ok(),
        )?,
        root_cert: environment.parsed(
            "PGSSLROOTCERT",
            None,
            "a file of certificate authorities that this user can read, nor such authorities in PEM format",
            |text| root_cert(text).map(Some),
        )?,
        connect_timeout: environment.time("DB_CONNECT_TIMEOUT", Duration::from_secs(2))?,
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
            "READS_FROM_STANDBY",
            None,
            "`off`, or a time without a primary after which a standby is read, such as `2s`",
            |text| match text {
                "off" | "false" => Some(None),
                _ => duration(text).map(Some),
            },
        )?,
        migrate: environment.choice("MIGRATE", Migrate::AtStart)?,
    })
}

/// Pairs each host with its port: one port for all, or as many as there are hosts.
fn servers(environment: &Environment) -> Result<Vec<Server>, Unusable> {
    let hosts = environment.first(HOST);
    let hosts = hosts.unwrap_or_else(|| Found::new("PGHOST", "localhost"));
    let ports = environment.first(PORT);
    let ports = ports.unwrap_or_else(|| Found::new("PGPORT", "5432"));
    let port = |it: &str| it.parse().ok().filter(|port| *port != 0);
    let numbers: Option<Vec<u16>> = split(&ports.value).map(port).collect();
    let expected = "a port from 1 to 65535, or a list of them with commas";
    let numbers = numbers.ok_or_else(|| ports.not_one(expected))?;
    let names: Vec<&str> = split(&hosts.value).collect();
    if numbers.len() != 1 && numbers.len() != names.len() {
        let reason = format!(
            "there are {} hosts and {} ports; give one port for all, or one for each",
            names.len(),
            numbers.len()
        );
        return Err(Unusable::contradiction(&hosts.name, &ports.name, &reason));
    }
    let paired = names.into_iter().zip(numbers.into_iter().cycle());
    let server = |(host, port): (&str, u16)| Server {
        host: host.to_owned(),
        port,
    };
    Ok(paired.map(server).collect())
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|it| !it.is_empty())
}

/// Reads a URL as libpq and `SQLAlchemy` write it: several hosts, and a driver's name in the scheme. What
/// it says outweighs the variable of the same meaning.
fn read_url(environment: &mut Environment, name: &str, url: &str) -> Result<(), Unusable> {
    let hidden = |reason: &str| Unusable::hidden(name, reason);
    let form = || hidden("write it as `postgres://user:password@host:port/database`");
    let (scheme, rest) = url.trim().split_once("://").ok_or_else(form)?;
    let protocol = scheme.split('+').next().unwrap_or(scheme);
    if !matches!(protocol, "postgres" | "postgresql") {
        return Err(form());
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, place) = place.split_once('@').unwrap_or(("", place));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    // Whatever stands before the `@` of a host is the end of a password, and would be logged.
    if hosts.contains('@') {
        return Err(hidden("write an `@` in a user or a password as `%40`"));
    }
    // The colons of an address in version 6 stand within brackets.
    let each = hosts.split(',').map(|it| match it.rsplit_once(']') {
        Some((address, port)) => (
            address.trim_start_matches('['),
            port.trim_start_matches(':'),
        ),
        None => it.split_once(':').unwrap_or((it, "")),
    });
    let (hosts, ports): (Vec<&str>, Vec<&str>) = each.unzip();
    let has_ports = ports.iter().any(|it| !it.is_empty());
    let port = |it: &&str| if it.is_empty() { "5432" } else { *it }.to_owned();
    let ports: Vec<String> = ports.iter().filter(|_| has_ports).map(port).collect();
    let (hosts, ports) = (hosts.join(","), ports.join(","));
    let address = [
        ("host", &*hosts),
        ("port", &*ports),
        ("user", user),
        ("password", password),
    ];

    let pairs = query.split('&').filter(|it| !it.is_empty());
    let pairs = pairs.map(|it| it.split_once('=').unwrap_or((it, "")));
    for (key, value) in address
        .into_iter()
        .chain([("dbname", database)])
        .chain(pairs)
    {
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_not_utf8| form())?;
        let value = match (key, &*value) {
            ("sslmode" | "ssl", "true" | "1") => "require",
            ("sslmode" | "ssl", "false" | "0") => "disable",
            // In libpq that is no limit.
            ("connect_timeout", "0") => "",
            (_, value) => value,
        };
        match key {
            // The service asks each server itself whether it takes writes.
            "target_session_attrs" if value != "read-write" && value != "any" => {
                return Err(hidden(
                    "`target_session_attrs` must be `read-write`: this service writes",
                ));
            }
            "target_session_attrs" => {}
            "channel_binding" | "options" | "hostaddr" => {
                return Err(hidden(&format!("`{key}` does nothing here; take it out")));
            }
            // It would be logged, and is the end of a password.
            _ if key.contains('@') => {
                return Err(hidden("write a `?` in a user or a password as `%3F`"));
            }
            _ => match IN_URL.iter().find(|it| it.0 == key) {
                Some((_key, variable)) => environment.outweigh(name, variable, value),
                None => environment.warn(format!(
                    "`{name}` sets `{key}`, which does nothing here and is ignored"
                )),
            },
        }
    }
    Ok(())
}
