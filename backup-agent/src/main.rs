//! `backup-agent`: encrypted base backups and write-ahead log of PostgreSQL, in S3, in two regions.

mod base_backup;
mod buckets;
mod catalog;
mod catch_up;
mod cli;
mod command;
mod config;
mod control_file;
mod error;
mod layout;
mod memory;
mod object_store;
mod output;
mod reach;
mod restore;
mod seal;
mod wal_archive;
mod wal_file;

use std::process::ExitCode;

use clap::Parser as _;
use ha_runtime::telemetry;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::start(&cli.log, cli.log_format()) {
        output::complain(&format!("`--log` is no filter: {error}"), None);
        return ExitCode::from(2);
    }
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&telemetry::chain(&failure), failure.hint());
            ExitCode::from(failure.exit_code())
        }
    }
}
