//! Settings: read once from the environment, refused with a reason, and then only meant values.

mod cache;
mod company;
mod database;
mod edge;
mod environment;
mod surfaces;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use ha_runtime::telemetry::LogFormat;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;

pub use self::cache::{Cache, Redis};
pub use self::company::Company;
pub use self::database::{Database, Migrate, Server};
pub use self::edge::Edge;
use self::environment::Environment;
pub use self::environment::Unusable;
pub use self::surfaces::{MembersKeys, Surface};
use crate::domain::{Calendar, LeapDay, parse_date};

/// Everything that this program can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses to serve on.
    pub listen: Vec<SocketAddr>,
    /// Where `/metrics` is served, if not on the same addresses.
    pub metrics_listen: Option<SocketAddr>,
    /// The company whose service this is.
    pub company: Company,
    /// Which log lines are written.
    pub log_level: String,
    /// How they are written.
    pub log_format: LogFormat,
    /// The services that are served.
    pub surfaces: BTreeSet<Surface>,
    /// What `/hello` does.
    pub hello: Hello,
    /// How answers about members spell their keys.
    pub members_keys: MembersKeys,
    /// The most rows of a list that names no limit.
    pub list_max: usize,
    /// The status of an answer to values that break a rule, except about users.
    pub validation_status: StatusCode,
    /// Where the data is.
    pub database: Database,
    /// Where answers about users are kept for a while.
    pub cache: Cache,
    /// How long a request may take, retries included.
    pub request_timeout: Duration,
    /// What is asked of every request.
    pub edge: Edge,
    /// How long to go on serving after SIGTERM, until nobody sends requests here any more.
    pub shutdown_delay: Duration,
    /// How long to wait then for requests that are being answered.
    pub shutdown_timeout: Duration,
    /// Settings that disagree, for the log.
    pub warnings: Vec<String>,
}

/// What `/hello` does.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Which day it is.
    pub calendar: Calendar,
    /// When a person born on 29 February has their birthday in a common year.
    pub leap_day: LeapDay,
    /// Whether `John` and `john` are one person.
    pub case: Case,
}

/// Whether `John` and `john` are one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They are two.
    Sensitive,
    /// They are one.
    Insensitive,
}

impl Config {
    /// Reads the settings from the variables of the environment.
    ///
    /// # Errors
    ///
    /// [`Unusable`] names the variable, and says why and what to write instead.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Unusable> {
        read_from(Environment::new(variables))
    }
}

fn read_from(environment: Environment) -> Result<Config, Unusable> {
    let config = Config {
        listen: addresses(&environment)?,
        metrics_listen: environment.parsed(
            &["METRICS_LISTEN"],
            None,
            "an address and a port, such as `0.0.0.0:9090`",
            |text| text.parse().ok().map(Some),
        )?,
        company: company::read(&environment),
        log_level: environment.parsed(
            &["LOG_LEVEL", "RUST_LOG"],
            "info".to_owned(),
            "a level: use error, warn, info, debug or trace, or a filter such as \
                 `info,api=debug`",
            |text| is_log_filter(text).then(|| text.to_owned()),
        )?,
        log_format: environment.choice(
            "LOG_FORMAT",
            LogFormat::Logfmt,
            &[("logfmt", LogFormat::Logfmt), ("json", LogFormat::Json)],
        )?,
        surfaces: surfaces::surfaces(&environment)?,
        hello: hello(&environment)?,
        members_keys: surfaces::members_keys(&environment)?,
        list_max: environment.number("LIST_MAX", 10_000, 1..=100_000, "number of rows")?,
        validation_status: environment.choice(
            "VALIDATION_STATUS",
            StatusCode::BAD_REQUEST,
            &[
                ("400", StatusCode::BAD_REQUEST),
                ("422", StatusCode::UNPROCESSABLE_ENTITY),
            ],
        )?,
        database: database::read(&environment)?,
        cache: cache::read(&environment)?,
        request_timeout: environment.time("REQUEST_TIMEOUT", Duration::from_secs(8))?,
        edge: edge::read(&environment)?,
        shutdown_delay: environment.delay("SHUTDOWN_DELAY", Duration::from_secs(5))?,
        shutdown_timeout: environment.delay("SHUTDOWN_TIMEOUT", Duration::from_secs(20))?,
        warnings: Vec::new(),
    };
    refuse_contradictions(&environment, &config)?;
    let warnings = environment.into_warnings();
    Ok(Config { warnings, ..config })
}

/// Reads the addresses to serve on and nothing else, for whoever only asks a service that runs.
///
/// # Errors
///
/// [`Unusable`], as from [`Config::from_environment`].
pub fn listen(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<SocketAddr>, Unusable> {
    addresses(&Environment::new(variables))
}

fn refuse_contradictions(environment: &Environment, config: &Config) -> Result<(), Unusable> {
    let statement = environment.first(&["DB_STATEMENT_TIMEOUT"]);
    let request = environment.first(&["REQUEST_TIMEOUT"]);
    if let (Some(statement), Some(request)) = (statement, request)
        && config.database.statement_timeout > config.request_timeout
    {
        return Err(Unusable::contradiction(
            &statement.name,
            &request.name,
            "a statement may not take longer than the request that it is for; lower the first or \
             raise the second",
        ));
    }
    if let Some(metrics) = config.metrics_listen
        && config.listen.contains(&metrics)
    {
        let reason = format!("both are `{metrics}`; unset the first to serve `/metrics` there");
        return Err(Unusable::contradiction("METRICS_LISTEN", "LISTEN", &reason));
    }
    Ok(())
}

fn addresses(environment: &Environment) -> Result<Vec<SocketAddr>, Unusable> {
    let port = environment.number("PORT", 8080, 1..=u16::MAX, "port")?;
    let addresses: Vec<SocketAddr> = environment.list(
        "LISTEN",
        Vec::new(),
        "an address and a port, such as `0.0.0.0:8080`, or a list of them with commas",
        |text| text.parse().ok(),
    )?;
    if addresses.is_empty() {
        return Ok(vec![SocketAddr::from(([0, 0, 0, 0], port))]);
    }
    if environment.first(&["PORT"]).is_some() && addresses.iter().all(|it| it.port() != port) {
        environment.warn_of("LISTEN", "PORT");
    }
    Ok(addresses)
}

/// Returns whether a filter says levels. A word alone that is none would be taken for the name of a
/// module, and silence all others.
fn is_log_filter(text: &str) -> bool {
    text.split(',')
        .all(|it| it.contains('=') || it.trim().parse::<LevelFilter>().is_ok())
}

fn hello(environment: &Environment) -> Result<Hello, Unusable> {
    let zone = environment.parsed(
        &["HELLO_TZ"],
        TimeZone::UTC,
        "a time zone that this host knows, such as `Europe/Berlin`",
        |text| TimeZone::get(text).ok(),
    )?;
    let test_clock = environment.first(&["API_TEST_CLOCK"]);
    let fake_today = environment.parsed(
        &["API_FAKE_TODAY"],
        None,
        "a date, such as `2025-02-28`",
        |text| parse_date(text).map(Some),
    )?;
    let is_test = test_clock.is_some_and(|it| it.value == "1");
    if fake_today.is_some() && !is_test {
        environment.warn(
            "`API_FAKE_TODAY` is ignored; it is for tests, which also set `API_TEST_CLOCK=1`"
                .to_owned(),
        );
    }
    let fixed = fake_today.filter(|_| is_test).map(Calendar::Fixed);
    let is_insensitive = environment.flag("HELLO_CASE_INSENSITIVE")?;
    Ok(Hello {
        calendar: fixed.unwrap_or(Calendar::Zone(zone)),
        leap_day: environment.choice(
            "HELLO_LEAP_DAY",
            LeapDay::February28,
            &[("feb28", LeapDay::February28), ("mar1", LeapDay::March1)],
        )?,
        case: if is_insensitive {
            Case::Insensitive
        } else {
            Case::Sensitive
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ha_runtime::postgres::{RootCert, SslMode};

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Unusable> {
        read_from(environment::from(variables))
    }

    fn servers(variables: &[(&str, &str)]) -> String {
        let servers = read(variables).unwrap().database.servers;
        let each: Vec<String> = servers.iter().map(Server::to_string).collect();
        each.join(" ")
    }

    fn refusal(variables: &[(&str, &str)]) -> String {
        read(variables).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_environment_is_enough() {
        let config = read(&[]).unwrap();

        assert_eq!(config.listen, ["0.0.0.0:8080".parse().unwrap()]);
        assert_eq!(servers(&[]), "localhost:5432");
        assert_eq!(config.database.user, "postgres");
        assert_eq!(config.database.name, "postgres");
        assert_eq!(config.database.tls, SslMode::Prefer);
        assert_eq!(config.company.name, "My Company");
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn each_host_has_its_port() {
        let url = |url| ("DATABASE_URL", url);
        let without = url("postgres://u:p@a,[::1]/d");
        for (variables, expected) in [
            (
                &[("PGHOST", "a, b,c"), ("PGPORT", "1,2,3")][..],
                "a:1 b:2 c:3",
            ),
            (&[url("postgres://u@a:1,b:2,c:3/d")], "a:1 b:2 c:3"),
            (&[("DB_HOST", "a,b"), ("DB_PORT", "7")], "a:7 b:7"),
            (&[without, ("PGPORT", "7")], "a:7 ::1:7"),
            (&[without], "a:5432 ::1:5432"),
            (
                &[
                    url("postgres://u:p@[::1]:8/d"),
                    ("DB_PORT", "tcp://10.0.0.1"),
                ],
                "::1:8",
            ),
        ] {
            assert_eq!(servers(variables), expected);
        }
    }

    #[test]
    fn a_url_outweighs_the_variables_and_says_so() {
        let url = ("DATABASE_URL", "postgres://u@a:1/d?sslmode=require");
        let others = [("PGPORT", "2"), ("PGSSLMODE", "verify-full")];
        let config = read(&[url, others[0], others[1]]).unwrap();

        assert_eq!(config.database.tls, SslMode::Require);
        assert_eq!(
            config.warnings,
            ["PGPORT", "PGSSLMODE"].map(|name| format!(
                "`DATABASE_URL` is used; `{name}` has another value and is ignored"
            ))
        );
        for ignored in ["channel_binding=require", "options=-c%20x", "hostaddr=::1"] {
            let url = format!("postgres://u@a/d?{ignored}");
            let name = ignored.split('=').next().unwrap();
            assert_eq!(
                refusal(&[("DATABASE_URL", &url)]),
                format!("`DATABASE_URL` is not usable: `{name}` does nothing here; take it out")
            );
        }
    }

    #[test]
    fn a_parameter_of_the_url_that_does_nothing_is_named() {
        let url = "postgres://u:p@a/d?schema=public&pgbouncer=true&ssl=true";
        let config = read(&[("DATABASE_URL", url)]).unwrap();

        assert_eq!(config.database.tls, SslMode::Require);
        let ignored =
            |key| format!("`DATABASE_URL` sets `{key}`, which does nothing here and is ignored");
        assert_eq!(config.warnings, ["schema", "pgbouncer"].map(ignored));
    }

    #[test]
    fn the_url_may_say_what_tokio_postgres_cannot_read() {
        let url = "postgresql+asyncpg://u%40x:p%2Fw@db:6000/hello?sslmode=verify-full\
                   &sslrootcert=/etc/ca.pem&target_session_attrs=read-write&connect_timeout=3";
        let database = read(&[("DATABASE_URL", url), ("PGUSER", "other")])
            .unwrap()
            .database;

        assert_eq!(database.servers[0].to_string(), "db:6000");
        assert_eq!(database.user + "/" + &database.name, "u@x/hello");
        assert_eq!(database.password.unwrap().reveal(), "p/w");
        assert_eq!(database.tls, SslMode::VerifyFull);
        let file = RootCert::File(PathBuf::from("/etc/ca.pem"));
        assert_eq!(database.root_cert, Some(file));
        assert_eq!(database.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn says_which_setting_why_and_what_to_do() {
        assert_eq!(
            refusal(&[("PGPORT", "tcp://10.0.0.1")]),
            "`PGPORT` is `tcp://10.0.0.1`, which is not a port from 1 to 65535, or a list of them \
             with commas"
        );
        assert_eq!(
            refusal(&[("DB_HOST", "a,b,c"), ("PGPORT", "1,2")]),
            "`DB_HOST` and `PGPORT` contradict each other: there are 3 hosts and 2 ports; give one \
             port for all, or one for each"
        );
        assert!(refusal(&[("HELLO_TZ", "Mars/Olympus")]).contains("`Mars/Olympus`"));
        assert!(
            refusal(&[("DB_STATEMENT_TIMEOUT", "9"), ("REQUEST_TIMEOUT", "3")])
                .contains("lower the first or raise the second")
        );
        assert_eq!(
            refusal(&[("API_SURFACES", "users,birthdays")]),
            "`API_SURFACES` is `users,birthdays`, which is not a list of `hello`, `members`, `users` \
             and `beers`, with commas"
        );
        let names = "PORT LISTEN VALIDATION_STATUS HELLO_LEAP_DAY PGSSLMODE PGSSLROOTCERT MIGRATE \
                     LOG_FORMAT LOG_LEVEL REQUEST_TIMEOUT DB_POOL_MAX READS_FROM_STANDBY API_FAKE_TODAY \
                     SHUTDOWN_DELAY API_SURFACES MEMBERS_KEYS LIST_MAX TRUSTED_PROXIES RATE_LIMIT_RPS \
                     MAX_INFLIGHT MAX_CONNECTIONS";
        for name in names.split(' ') {
            assert!(refusal(&[(name, "nonsense")]).starts_with(&format!("`{name}` is `nonsense`")));
        }
    }

    #[test]
    fn a_url_that_is_refused_is_not_shown() {
        for url in [
            "postgres://u:hunter2@a:port/d",
            "hunter2",
            "postgres://u:p@hunter2@a/d",
            "sqlite:///hunter2",
            "postgres://u:hunter2@a/d?sslmode=maybe",
        ] {
            let refusal = refusal(&[("DATABASE_URL", url)]);
            assert!(
                refusal.starts_with("`DATABASE_URL` is not usable"),
                "{refusal}"
            );
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn secrets_come_from_files_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let path = file.path().to_str().unwrap();

        let database = read(&[("DB_PASSWORD_FILE", path)]).unwrap().database;
        assert_eq!(database.password.unwrap().reveal(), "hunter2");

        let both = read(&[("PGPASSWORD", "other"), ("DB_PASSWORD_FILE", path)]).unwrap();
        assert_eq!(
            both.warnings,
            ["`PGPASSWORD` is used; `DB_PASSWORD_FILE` has another value and is ignored"]
        );
        assert!(
            refusal(&[("PGPASSWORD_FILE", "/does/not/exist")]).starts_with("`PGPASSWORD_FILE`")
        );
    }

    #[test]
    fn a_blank_file_is_no_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " \n").unwrap();
        let path = file.path().to_str().unwrap();

        let config = read(&[("PGPASSWORD_FILE", path), ("DB_PASSWORD", "hunter2")]).unwrap();
        assert_eq!(config.database.password.unwrap().reveal(), "hunter2");
        assert_eq!(
            config.warnings,
            ["the file that `PGPASSWORD_FILE` names is blank, which is no value"]
        );
    }

    #[test]
    fn a_fake_day_needs_the_test_clock() {
        let fake = ("API_FAKE_TODAY", "2025-02-28");
        let fixed = read(&[fake, ("API_TEST_CLOCK", "1")]).unwrap();
        assert!(matches!(fixed.hello.calendar, Calendar::Fixed(_)));

        for clock in ["", "0", "true"] {
            let real = read(&[fake, ("API_TEST_CLOCK", clock)]).unwrap();
            assert!(matches!(real.hello.calendar, Calendar::Zone(_)), "{clock}");
            assert_eq!(real.warnings.len(), 1);
        }
    }
}
