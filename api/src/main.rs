//! Parses the command and the settings, and runs the command.

mod cli;

use std::process::ExitCode;

use anyhow::Context as _;
use api::config::Config;
use api::healthcheck;
use api::metrics::Metrics;
use api::store::SchemaError;
use causeway_runtime::declare_exit_codes;
use causeway_runtime::reference::Reference;
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::{self, LogFormat, chain};
use clap::{CommandFactory as _, Parser as _};
use tracing::{error, warn};

use crate::cli::{Cli, Command};

declare_exit_codes! {
    /// `api` and `api serve` run until SIGTERM or SIGINT, and then end with 0.
    /// `api migrate` ends with 0 when the schema is up to date. Declared in `api/src/main.rs`.
    enum ApiExitCode {
        Failed = 1,
            "The API could not start, or had to stop: an address is in use, the database was unavailable for \
             `DB_STARTUP_TIMEOUT`, or the schema cannot be migrated. `api healthcheck`: no successful response \
             within 3 s",
            "The log names the cause, or has the request and the response";
        UnusableSettings = 2,
            "The settings or the command line are invalid; nothing was started",
            "The log names the variable, the cause and the remedy";
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => with_settings(async |config| api::run(config, Tasks::new()).await).await,
        Command::Migrate => {
            with_settings(async |config| api::migrate(config.database, Tasks::new()).await).await
        }
        Command::Healthcheck { ready } => is_healthy(ready).await,
        Command::Reference { directory } => {
            let reference = Reference::new(Cli::command()).settings(api::config::reference());
            let reference = reference.metrics(&Metrics::DECLARED);
            let reference = reference.exit_codes(&ApiExitCode::DECLARED);
            let written = reference.write(&directory);
            written.map_or(ApiExitCode::Failed.into(), |()| ExitCode::SUCCESS)
        }
    }
}

async fn with_settings(act: impl AsyncFnOnce(Config) -> anyhow::Result<()>) -> ExitCode {
    let config = match settings() {
        Ok(config) => config,
        Err(error) => {
            install_default_log();
            error!(error = format!("{error:#}"), "settings are not usable");
            return ApiExitCode::UnusableSettings.into();
        }
    };
    for warning in &config.warnings {
        warn!(reason = warning, "settings disagree");
    }
    let Err(failure) = act(config).await else {
        return ExitCode::SUCCESS;
    };
    let why = format!("{failure:#}");
    // Tools wait for exactly the first of these messages.
    if let Some(SchemaError::Unreachable(..)) = failure.downcast_ref() {
        error!(error = why, "FailedToConnectToDatabase");
    } else {
        error!(error = why, "could not start");
    }
    ApiExitCode::Failed.into()
}

fn settings() -> anyhow::Result<Config> {
    let config = Config::from_environment(environment())?;
    let level = format!("{},{}=info", config.log.level, api::store::ALWAYS_LOGGED);
    telemetry::start(&level, config.log.format).context("`LOG_LEVEL` is not usable")?;
    Ok(config)
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Prints nothing on success. Container runtimes distinguish only the exit codes 0 and 1.
async fn is_healthy(ready: bool) -> ExitCode {
    let Err(unhealthy) = healthcheck::ask(ready, environment()).await else {
        return ExitCode::SUCCESS;
    };
    install_default_log();
    error!(error = chain(unhealthy.as_ref()), "not healthy");
    ApiExitCode::Failed.into()
}

/// Logs with the default settings.
fn install_default_log() {
    telemetry::start("info", LogFormat::Logfmt).ok();
}
