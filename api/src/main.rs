//! Parses the command and the settings, and runs the command.

mod cli;

use std::process::ExitCode;

use anyhow::Context as _;
use api::config::Config;
use api::healthcheck;
use api::store::SchemaError;
use causeway_runtime::reference::Reference;
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::{self, LogFormat, chain};
use clap::{CommandFactory as _, Parser as _};
use tracing::{error, warn};

use crate::cli::{Cli, Command};

/// The settings are not usable; nothing was started.
const UNUSABLE_SETTINGS: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => with_settings(async |config| api::run(config, Tasks::new()).await).await,
        Command::Migrate => {
            with_settings(async |config| api::migrate(config.database, Tasks::new()).await).await
        }
        Command::Healthcheck { ready } => is_healthy(ready).await,
        Command::Reference { directory } => {
            let written = Reference::new(Cli::command()).write(&directory);
            written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
    }
}

async fn with_settings(act: impl AsyncFnOnce(Config) -> anyhow::Result<()>) -> ExitCode {
    let config = match settings() {
        Ok(config) => config,
        Err(error) => {
            log_plainly();
            error!(error = format!("{error:#}"), "settings are not usable");
            return ExitCode::from(UNUSABLE_SETTINGS);
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
    ExitCode::FAILURE
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

/// Prints nothing on success. Container runtimes know only the exit codes 0 and 1.
async fn is_healthy(ready: bool) -> ExitCode {
    let Err(unhealthy) = healthcheck::ask(ready, environment()).await else {
        return ExitCode::SUCCESS;
    };
    log_plainly();
    error!(error = chain(unhealthy.as_ref()), "not healthy");
    ExitCode::FAILURE
}

/// Logs with the default settings.
fn log_plainly() {
    telemetry::start("info", LogFormat::Logfmt).ok();
}
