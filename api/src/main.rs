//! Reads the settings, listens, and runs.

use std::process::ExitCode;

use api::config::Config;
use api::shutdown::Signals;
use api::store::SchemaError;
use api::{Failure, Listeners};
use clap::Parser;
use ha_runtime::shutdown::Tasks;
use ha_runtime::telemetry::{self, LogFormat, chain};
use tracing::{error, warn};

/// The HTTP service of the platform. Its settings are variables of the environment.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {}

/// The settings cannot be used; nothing was begun.
const UNUSABLE_SETTINGS: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    let config = match settings() {
        Ok(config) => config,
        Err(error) => {
            // The level is `info` here, which always parses.
            telemetry::start("info", LogFormat::Logfmt).ok();
            error!(error = format!("{error:#}"), "settings are not usable");
            return ExitCode::from(UNUSABLE_SETTINGS);
        }
    };
    for warning in &config.warnings {
        warn!(reason = warning, "settings disagree");
    }
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let why = chain(&failure);
            // Tools wait for exactly the first of these messages.
            if let Failure::Schema(SchemaError::Unreachable { .. }) = failure {
                error!(error = why, "FailedToConnectToDatabase");
            } else {
                error!(error = why, "could not start");
            }
            ExitCode::FAILURE
        }
    }
}

fn settings() -> anyhow::Result<Config> {
    let readable = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = Config::from_environment(readable)?;
    let unusable = |_error| {
        anyhow::anyhow!(
            "`LOG_LEVEL` is `{}`, which is not a level: use error, warn, info, debug or trace",
            config.log_level
        )
    };
    telemetry::start(&config.log_level, config.log_format).map_err(unusable)?;
    Ok(config)
}

async fn serve(config: Config) -> Result<(), Failure> {
    let signals = Signals::install().map_err(Failure::Signals)?;
    let listeners = Listeners::bind(&config).await?;
    api::run(config, listeners, signals, Tasks::new()).await
}
