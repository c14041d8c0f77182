//! `failover-ctl`: keeps exactly one node of a PostgreSQL cluster writable.

mod agent;
mod check;
mod cli;
mod clients;
mod config;
#[cfg(test)]
mod damage;
mod data_directory;
mod datagram_socket;
mod durable_file;
mod error;
mod exit_code;
mod guard;
mod highest_record;
mod operator;
mod output;
mod process_lock;
mod protocol;
mod service_manager;
#[cfg(test)]
mod test_lease;
#[cfg(test)]
mod test_server;
mod tool_exec;

use std::process::ExitCode;

use anyhow::Context as _;
use causeway_runtime::reference::Reference;
use causeway_runtime::telemetry::{self, LogFormat};
use clap::{CommandFactory as _, Parser as _};

use crate::agent::metrics::Metrics;
use crate::cli::{Cli, Command, PlanCommand};
use crate::config::Settings;
use crate::error::Error;
use crate::exit_code::FailoverExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            output::print_error(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Error> {
    if let Command::GuardExec {
        parent,
        program,
        arguments,
    } = &cli.command
    {
        let error = guard::child::exec_postgres(*parent, program, arguments);
        return Err(Error::Other(
            anyhow::Error::new(error).context("could not become PostgreSQL"),
        ));
    }
    if let Command::ToolExec {
        parent,
        program,
        arguments,
    } = &cli.command
    {
        let ended = tool_exec::run(*parent, program, arguments);
        return ended.map_err(|error| {
            let what = format!("could not run `{}`", program.display());
            Error::Other(anyhow::Error::new(error).context(what))
        });
    }
    if let Command::Reference { directory } = &cli.command {
        let written = reference().write(directory);
        written.context("could not write the reference")?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_daemon = matches!(cli.command, Command::Agent { .. } | Command::Guard);
    let level = cli
        .log
        .as_deref()
        .unwrap_or(if is_daemon { "info" } else { "error" });
    telemetry::start(level, LogFormat::Logfmt).context("`--log` is not a filter")?;
    let settings = Settings::read(&cli.config)?;
    if matches!(cli.command, Command::Guard) {
        guard::supervisor::run(settings.this_host()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start")?;
    runtime.block_on(async {
        match cli.command {
            Command::Agent { key_from_stdin } => {
                Box::pin(agent::daemon::run(settings, key_from_stdin)).await
            }
            Command::Init { holder } => operator::init::run(&settings, &holder).await,
            Command::ReplaceLease(asked) => operator::replace_lease::run(&settings, &asked).await,
            Command::Plan(PlanCommand::ReplaceLease(asked)) => {
                operator::replace_lease::plan(&settings, &asked).await
            }
            Command::Check(args) => check::run(&settings, &cli.config, &args).await,
            Command::Status { json } => operator::status::run(&settings, json).await,
            Command::Plan(PlanCommand::Promote(asked)) => {
                operator::promote::plan(&settings, &asked).await
            }
            Command::Promote(asked) => operator::promote::run(&settings, &asked).await,
            Command::Resume(asked) => operator::resume::run(&settings, &asked).await,
            Command::Abandon(asked) => operator::abandon::run(&settings, &asked).await,
            Command::History { json } => operator::history::run(&settings, json).await,
            Command::Rejoin(asked) => operator::rejoin::run(&settings, &asked).await,
            Command::Guard
            | Command::Reference { .. }
            | Command::GuardExec { .. }
            | Command::ToolExec { .. } => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn reference() -> Reference {
    Reference::new(Cli::command())
        .settings(config::reference())
        .metrics(&Metrics::DECLARED)
        .exit_codes(&FailoverExitCode::DECLARED)
}
