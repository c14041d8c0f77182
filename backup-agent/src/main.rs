//! `backup-agent`: encrypted base backups and WAL archive of PostgreSQL, in S3 buckets of two
//! regions.

mod archive;
mod base_backup;
mod cli;
mod command;
mod config;
mod control_file;
#[cfg(test)]
mod damage;
mod display;
mod encryption;
mod error;
mod exit_code;
mod metrics;
mod output;
mod restore;
mod storage;
mod unit_user;

use std::panic;
use std::process::ExitCode;

use causeway_runtime::telemetry;
use clap::Parser as _;

use crate::cli::Cli;
use crate::error::Error;
use crate::exit_code::BackupExitCode;

fn main() -> ExitCode {
    let recovery = is_recovery();
    let ended = panic::catch_unwind(|| run(recovery));
    match ended {
        Ok(code) => code,
        Err(_panic) if recovery => BackupExitCode::RecoveryStopped.into(),
        Err(panicked) => panic::resume_unwind(panicked),
    }
}

fn run(recovery: bool) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            output::usage(&error);
            // `--help` is no error.
            let code = u8::try_from(error.exit_code()).unwrap_or(BackupExitCode::CommandLine as u8);
            return if recovery && code != 0 {
                stopped()
            } else {
                ExitCode::from(code)
            };
        }
    };
    if let Err(error) = telemetry::start(&cli.log, cli.log_format()) {
        output::print_error(&format!("`--log` is not a valid filter: {error}"), None);
        return if recovery {
            stopped()
        } else {
            BackupExitCode::CommandLine.into()
        };
    }
    let Err(failure) = command::run(cli) else {
        return ExitCode::SUCCESS;
    };
    let failure = if recovery {
        failure.stops_recovery()
    } else {
        failure
    };
    output::print_error(&telemetry::chain(&failure), failure.hint());
    if recovery && !matches!(failure, Error::NotArchived { .. }) {
        return stopped();
    }
    ExitCode::from(failure.exit_code())
}

/// Returns whether this is the `restore_command` of a recovery, before anything can fail.
fn is_recovery() -> bool {
    std::env::args_os().any(|argument| argument == "--recovery")
}

/// Ends the `restore_command` of a recovery so that PostgreSQL stops. PostgreSQL takes every code
/// up to 125 for the end of the WAL, where it ends recovery and accepts writes, and stops at a
/// higher one (`RestoreArchivedFile` in `src/backend/access/transam/xlogarchive.c`). 126 to 128 and those of
/// signals have other meanings in a shell.
fn stopped() -> ExitCode {
    output::print_error(
        "recovery stopped: the WAL may continue",
        Some("remove the cause and start PostgreSQL again: recovery resumes where it stopped"),
    );
    BackupExitCode::RecoveryStopped.into()
}
