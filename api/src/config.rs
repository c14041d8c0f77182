//! Settings: read once from the environment, refused with a reason, and then only meant values.

mod cache;
mod company;
mod database;
mod edge;
mod environment;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use causeway_runtime::telemetry::LogFormat;
use clap::ValueEnum;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;

pub use self::cache::{Cache, Redis};
pub use self::company::Company;
pub use self::database::{Database, Migrate, Server};
pub use self::edge::Edge;
use self::environment::Environment;
pub use self::environment::{Unusable, option_name};
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

/// One of the services that this program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Surface {
    /// `/hello`.
    Hello,
    /// `/` and `/members`.
    Members,
    /// `/users`.
    Users,
    /// `/beers` and `/seed`.
    Beers,
}

/// Which spellings of their keys the answers about members have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MembersKeys {
    /// `Name` and `name`.
    Both,
    /// `Name`: exactly the keys of the earlier service.
    Original,
    /// `name`.
    Lower,
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

fn read_from(mut environment: Environment) -> Result<Config, Unusable> {
    let config = Config {
        listen: addresses(&environment)?,
        metrics_listen: environment.parsed(
            "METRICS_LISTEN",
            None,
            "an address and a port, such as `0.0.0.0:9090`",
            |text| text.parse().ok().map(Some),
        )?,
        company: company::read(&environment),
        log_level: environment.parsed(
            "LOG_LEVEL RUST_LOG",
            "info".to_owned(),
            "a level: use error, warn, info, debug or trace, or a filter such as \
                 `info,api=debug`",
            |text| is_log_filter(text).then(|| text.to_owned()),
        )?,
        log_format: environment.parsed(
            "LOG_FORMAT",
            LogFormat::Logfmt,
            "`logfmt` or `json`",
            |text| match text {
                "logfmt" => Some(LogFormat::Logfmt),
                "json" => Some(LogFormat::Json),
                _ => None,
            },
        )?,
        surfaces: environment.list(
            "API_SURFACES",
            Surface::value_variants().iter().copied().collect(),
            "a list of `hello`, `members`, `users` and `beers`, with commas",
            |name| Surface::from_str(name, true).ok(),
        )?,
        hello: hello(&environment)?,
        members_keys: environment.choice("MEMBERS_KEYS", MembersKeys::Both)?,
        list_max: environment.number("LIST_MAX", 10_000, 1..=100_000, "number of rows")?,
        validation_status: environment.parsed(
            "VALIDATION_STATUS",
            StatusCode::BAD_REQUEST,
            "`400` or `422`",
            |text| {
                let status = text.parse().ok();
                status.filter(|it: &StatusCode| matches!(it.as_u16(), 400 | 422))
            },
        )?,
        database: database::read(&mut environment)?,
        cache: cache::read(&mut environment)?,
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
    let statement = environment.first("DB_STATEMENT_TIMEOUT");
    let request = environment.first("REQUEST_TIMEOUT");
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
    if environment.first("PORT").is_some() && addresses.iter().all(|it| it.port() != port) {
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
        "HELLO_TZ",
        TimeZone::UTC,
        "a time zone that this host knows, such as `Europe/Berlin`",
        |text| TimeZone::get(text).ok(),
    )?;
    let test_clock = environment.first("API_TEST_CLOCK");
    let fake_today = environment.parsed(
        "API_FAKE_TODAY",
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
        leap_day: environment.choice("HELLO_LEAP_DAY", LeapDay::February28)?,
        case: if is_insensitive {
            Case::Insensitive
        } else {
            Case::Sensitive
        },
    })
}
