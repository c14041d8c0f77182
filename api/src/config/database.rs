//! Settings of the database: its servers, the role, and how long to wait for them.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use causeway_runtime::postgres::{RootCertificates, SslMode};
use causeway_runtime::secret::Secret;
use clap::Args;
use percent_encoding::percent_decode_str;

use super::environment::{Environment, SettingError};
use super::values::{delay, expected, flag, secret, timeout, within};

/// Parameters of a URL, and the variable of the same meaning.
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

/// Settings of the database.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Database")]
pub struct Database {
    /// `postgres://user:password@host:port,host:port/database?…`. It overrides the variables below.
    /// `sslmode`, `sslrootcert` and `connect_timeout` are read from it; `target_session_attrs` may be
    /// `read-write` or `any`; `channel_binding`, `options` and `hostaddr` are rejected, as they would
    /// have no effect; any other parameter is ignored with a warning that names it. Without a port in
    /// it, `PGPORT` counts.
    #[arg(long = "DATABASE_URL", hide_env_values = true, value_parser = secret())]
    pub url: Option<Secret>,
    /// Servers, with commas. At most one of them is the primary, which the service finds.
    #[arg(
        long = "PGHOST",
        visible_aliases = ["DB_HOST", "POSTGRES_HOST", "APP_DB_HOST"],
        default_value = "localhost",
        value_delimiter = ','
    )]
    hosts: Vec<String>,
    /// One port for all servers, or one for each.
    #[arg(
        long = "PGPORT",
        visible_aliases = ["DB_PORT", "PSQL_PORT", "POSTGRES_PORT", "APP_DB_PORT"],
        default_value = "5432",
        value_delimiter = ',',
        value_parser = expected("a port from 1 to 65535, or a list of them with commas", |text| {
            text.parse::<u16>().ok().filter(|port| *port != 0)
        })
    )]
    ports: Vec<u16>,
    /// Servers, paired from hosts and ports.
    #[arg(skip)]
    pub servers: Vec<Endpoint>,
    /// Role.
    #[arg(
        long = "PGUSER",
        visible_aliases = ["DB_USER", "PSQL_USER", "POSTGRES_USER", "APP_DB_USER"],
        default_value = "postgres"
    )]
    pub user: String,
    /// Password of the role.
    #[arg(
        long = "PGPASSWORD",
        visible_aliases = ["DB_PASSWORD", "PSQL_PASS", "POSTGRES_PASSWORD", "APP_DB_PASSWORD"],
        hide_env_values = true,
        value_parser = secret()
    )]
    pub password: Option<Secret>,
    /// Database. By default it has the role's name.
    #[arg(
        long = "PGDATABASE",
        visible_aliases = ["DB_NAME", "PSQL_DBNAME", "POSTGRES_DB", "APP_DB_NAME"]
    )]
    name: Option<String>,
    /// libpq's modes, without `allow`. Production uses `verify-full`.
    #[arg(
        long = "PGSSLMODE",
        visible_alias = "DB_SSLMODE",
        default_value = "prefer",
        value_parser = expected(
            "an sslmode: use disable, prefer, require, verify-ca or verify-full",
            |text| text.parse::<SslMode>().ok()
        )
    )]
    pub tls: SslMode,
    /// Trusted CA certificates, by default the system's: a file in PEM format, or the content of such a
    /// file, for a service that is given no files. With it, `require` verifies as `verify-ca` does, as
    /// in libpq.
    #[arg(
        long = "PGSSLROOTCERT",
        value_parser = expected(
            "a file of CA certificates that this user can read, nor CA certificates in PEM format",
            root_cert
        )
    )]
    pub root_cert: Option<RootCertificates>,
    /// Time within which one server accepts a connection.
    #[arg(long = "DB_CONNECT_TIMEOUT", default_value = "2s", value_parser = timeout)]
    pub connect_timeout: Duration,
    /// Time within which one statement ends; not more than `REQUEST_TIMEOUT`.
    #[arg(long = "DB_STATEMENT_TIMEOUT", default_value = "5s", value_parser = timeout)]
    pub statement_timeout: Duration,
    /// Time to wait for the database at the start.
    #[arg(long = "DB_STARTUP_TIMEOUT", default_value = "30s", value_parser = timeout)]
    pub startup_timeout: Duration,
    /// Time without a writable database after which `/readyz` answers 503; may be 0. After three times
    /// as long, requests wait for the database for 1 s only.
    #[arg(long = "READY_DB_GRACE", default_value = "10s", value_parser = delay)]
    pub ready_grace: Duration,
    /// Maximum number of connections for writes and long reads, each used by one at a time, 1 to 500: a
    /// fifth for lists, half for inserts, the rest for birthdays. Fewer than three are not divided.
    #[arg(long = "DB_POOL_MAX", default_value = "16", value_parser = within(1..=500_usize))]
    pub pool_max: usize,
    /// Number of connections that short reads share, 1 to 64. One more asks the primary whether it still
    /// is one, so a replica opens at most `DB_POOL_MAX` + `DB_SHARED_CONNECTIONS` + 1. A connection that
    /// has ended counts until its session at the server has ended.
    #[arg(long = "DB_SHARED_CONNECTIONS", default_value = "4", value_parser = within(1..=64_usize))]
    pub shared_connections: usize,
    /// `off` where `api migrate` brings the schema up to date, as the role that owns it.
    #[arg(long = "MIGRATE", default_value = "on", value_parser = flag, action = clap::ArgAction::Set)]
    pub migrate: bool,
}

/// One server that may be the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, resolved at each connection, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Database {
    /// Returns the name of the database.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.user)
    }

    /// Pairs each host with its port: one port for all, or as many as there are hosts.
    pub(super) fn pair_servers(&mut self, environment: &Environment) -> Result<(), SettingError> {
        let hosts: Vec<&str> = self.hosts.iter().map(|host| host.trim()).collect();
        let hosts: Vec<&str> = hosts.into_iter().filter(|host| !host.is_empty()).collect();
        if hosts.iter().any(|host| host.starts_with('/')) {
            let reason = "give a host name or an address: a socket's directory is not supported";
            return Err(SettingError::hidden(environment.name_of("PGHOST"), reason));
        }
        if self.ports.len() != 1 && self.ports.len() != hosts.len() {
            let reason = format!(
                "there are {} hosts and {} ports; give one port for all, or one for each",
                hosts.len(),
                self.ports.len()
            );
            return Err(SettingError::contradiction(
                environment.name_of("PGHOST"),
                environment.name_of("PGPORT"),
                &reason,
            ));
        }
        let ports = self.ports.iter().copied().cycle();
        let server = |(host, port): (&str, u16)| Endpoint {
            host: host.to_owned(),
            port,
        };
        self.servers = hosts.into_iter().zip(ports).map(server).collect();
        Ok(())
    }
}

/// Certificates, instead of a file, for a service that gets variables and no files, as on ECS.
fn root_cert(text: &str) -> Option<RootCertificates> {
    if text.starts_with("-----BEGIN CERTIFICATE-----") {
        return Some(RootCertificates::Text(text.to_owned()));
    }
    let is_readable = File::open(text).is_ok();
    is_readable.then(|| RootCertificates::File(PathBuf::from(text)))
}

/// Reads `DATABASE_URL` as libpq and `SQLAlchemy` write it: several hosts, and a driver's name in the
/// scheme. Each part overrides the variable of the same meaning.
pub(super) fn read_url(environment: &mut Environment) -> Result<(), SettingError> {
    let Some(found) = environment.find(&["DATABASE_URL"], true)? else {
        return Ok(());
    };
    let (name, url) = (found.name.as_str(), found.value.as_str());
    let hidden = |reason: &str| SettingError::hidden(name, reason);
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
    // The text before the `@` of a host is the end of a password, and would be logged.
    if hosts.contains('@') {
        return Err(hidden("write an `@` in a user or a password as `%40`"));
    }
    let (hosts, ports) = split_hosts(hosts);
    let settings = [
        ("host", &*hosts),
        ("port", &*ports),
        ("user", user),
        ("password", password),
        ("dbname", database),
    ];

    let pairs = query.split('&').filter(|part| !part.is_empty());
    let pairs = pairs.map(|part| part.split_once('=').unwrap_or((part, "")));
    for (key, value) in settings.into_iter().chain(pairs) {
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
            // The service itself queries whether a server accepts writes.
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
            _ => match IN_URL.iter().find(|part| part.0 == key) {
                Some((_key, variable)) => environment.override_by(name, variable, value),
                None => environment.warn(format!(
                    "`{name}` sets `{key}`, which does nothing here and is ignored"
                )),
            },
        }
    }
    Ok(())
}

/// Returns the hosts and, where any has one, the ports of a URL, each separated by commas.
fn split_hosts(hosts: &str) -> (String, String) {
    // The colons of an IPv6 address are within brackets.
    let each = hosts.split(',').map(|part| match part.rsplit_once(']') {
        Some((address, port)) => (
            address.trim_start_matches('['),
            port.trim_start_matches(':'),
        ),
        None => part.split_once(':').unwrap_or((part, "")),
    });
    let (hosts, ports): (Vec<&str>, Vec<&str>) = each.unzip();
    let has_ports = ports.iter().any(|part| !part.is_empty());
    let port = |port: &&str| if port.is_empty() { "5432" } else { *port }.to_owned();
    let ports: Vec<String> = ports.iter().filter(|_| has_ports).map(port).collect();
    (hosts.join(","), ports.join(","))
}
