//! Settings, read once from the environment. Each is declared in one place: its variables, its default,
//! its parser, and the text of `--help` and of `docs/reference/settings-api.md`.

mod cache;
mod database;
mod environment;
mod http;
mod services;
mod values;

use causeway_runtime::reference::environment_page;
use causeway_runtime::telemetry::LogFormat;
use clap::{Args, Command};
use tracing::level_filters::LevelFilter;

pub use self::cache::{CacheConfig, RedisConfig};
pub use self::database::{Database, Endpoint};
use self::environment::Environment;
pub use self::environment::{SettingError, option_name};
pub use self::http::Http;
pub use self::services::{Company, Hello, MembersKeys, Services, Surface};
use self::values::expected;

/// The settings.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// The HTTP server.
    #[command(flatten)]
    pub http: Http,
    /// The database.
    #[command(flatten)]
    pub database: Database,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheConfig,
    /// All services.
    #[command(flatten)]
    pub services: Services,
    /// `/hello`.
    #[command(flatten)]
    pub hello: Hello,
    /// The log.
    #[command(flatten)]
    pub log: Log,
    /// Settings that disagree, for the log.
    #[arg(skip)]
    pub warnings: Vec<String>,
}

/// Settings of the log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logs")]
pub struct Log {
    /// Level (`error`, `warn`, `info`, `debug`, `trace`), or a filter such as `info,api=debug`.
    #[arg(
        long = "LOG_LEVEL",
        visible_alias = "RUST_LOG",
        default_value = "info",
        value_parser = expected(
            "a level: use error, warn, info, debug or trace, or a filter such as `info,api=debug`",
            log_filter
        )
    )]
    pub level: String,
    /// `logfmt` or `json`.
    #[arg(
        long = "LOG_FORMAT",
        default_value = "logfmt",
        value_parser = expected("`logfmt` or `json`", |text| match text {
            "logfmt" => Some(LogFormat::Logfmt),
            "json" => Some(LogFormat::Json),
            _ => None,
        })
    )]
    pub format: LogFormat,
}

impl Config {
    /// Reads the settings from environment variables.
    ///
    /// # Errors
    ///
    /// [`SettingError`] names the variable, the reason and the remedy.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingError> {
        let mut environment = Environment::new(variables);
        database::read_url(&mut environment)?;
        let redis = cache::read_redis(&mut environment)?;
        let mut config: Self = environment.parse()?;
        config.database.pair_servers(&environment)?;
        config.cache.redis = redis;
        config.reject_contradictions(&environment)?;
        config.ignore_outweighed(&mut environment);
        config.warnings = environment.warnings;
        Ok(config)
    }

    fn reject_contradictions(&self, environment: &Environment) -> Result<(), SettingError> {
        let (statement, request) = ("DB_STATEMENT_TIMEOUT", "REQUEST_TIMEOUT");
        let are_set = environment.is_set(statement) && environment.is_set(request);
        if are_set && self.database.statement_timeout > self.http.request_timeout {
            let reason = "a statement may not take longer than the request that it is for; lower \
                          the first or raise the second";
            return Err(SettingError::contradiction(statement, request, reason));
        }
        Ok(())
    }

    fn ignore_outweighed(&mut self, environment: &mut Environment) {
        let port = self.http.port;
        let mut addresses = self.http.addresses().into_iter();
        if environment.is_set("PORT") && addresses.all(|address| address.port() != port) {
            environment.warn_of_ignored("LISTEN", "PORT");
        }
        let is_test = self.hello.test_clock.as_deref() == Some("1");
        if self.hello.fake_today.is_some() && !is_test {
            self.hello.fake_today = None;
            environment.warn(
                "`API_FAKE_TODAY` is ignored; it is for tests, which also set `API_TEST_CLOCK=1`"
                    .to_owned(),
            );
        }
        self.services.surfaces.sort();
        self.services.surfaces.dedup();
    }
}

/// Declares every setting: an argument for each, whose names are variables.
pub fn declarations() -> Command {
    RedisConfig::augment_args(Config::augment_args(Command::new("settings")))
}

/// Texts of the reference above the tables, by their headings.
const NOTES: [(&str, &str); 7] = [
    (
        "",
        "Environment variables, read once at the start. A blank value is none.
A value that cannot be right ends the program with exit code 2; the log names the variable, the cause and the remedy.
Of several names of one setting, the first that is set is used, and a warning names those that differ, without their values.
Each name of a secret can be followed by `_FILE`, and then names a file that holds it, which keeps it out of the environment; a blank file is none, with a warning.

Times are written `5`, `0.5`, `5s`, `500ms` or `1m`, at most a day.
Flags are `true` or `false` (also `1`/`0`, `yes`/`no`, `on`/`off`).",
    ),
    ("HTTP", "[Limits](../concepts/api-limits.md) describes load shedding above the limits."),
    (
        "Database",
        "[The primary](../concepts/api-primary.md) describes the search among several servers.
The service needs the rights of the role *service* of [roles.sql](../../api/roles.sql), and `api migrate` those of *owner*.",
    ),
    ("Cache", "Optional: it needs `REDIS_URL` or `REDIS_HOST`. [The user cache](../concepts/api-cache.md) describes the requirements on Redis."),
    ("Services", "[The HTTP API](http-api.md) describes the responses."),
    ("/hello", "`API_FAKE_TODAY` fixes the day, for tests; without `API_TEST_CLOCK=1` it is ignored with a warning."),
    (
        "Logs",
        "`info` logs each rejected request, and each with an `X-Request-Id` or `traceparent` of its client; `debug` logs every request.
A 5xx is a warning, except of a failed probe. The `traceparent` of a request is continued in its response, in problems and in the log; spans are not exported.",
    ),
];

/// Returns the reference of the settings.
pub fn reference() -> String {
    environment_page("the API", "`api/src/config/`", &declarations(), &NOTES)
}

/// Accepts a filter that names levels. A word alone that is none would be taken for the name of a
/// module, and silence all others.
fn log_filter(text: &str) -> Option<String> {
    let is_level = |text: &str| text.trim().parse::<LevelFilter>().is_ok();
    let mut parts = text.split(',');
    let is_filter = parts.all(|part| part.contains('=') || is_level(part));
    is_filter.then(|| text.to_owned())
}
