//! Commands: each reads the settings, runs one operation and reports its result.

mod backup;
mod check;
mod keygen;
mod list;
mod restore;
mod role;
mod verify_restore;
mod wal;

use causeway_runtime::reference::Reference;
use clap::CommandFactory as _;
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Command};
use crate::config::{self, Config};
use crate::error::Error;
use crate::exit_code::BackupExitCode;
use crate::metrics::Metrics;
use crate::unit_user::become_unit_user;

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<(), Error> {
    let settings = || Config::read(&cli.config);
    match cli.command {
        Command::Backup(args) => many_threads()?.block_on(backup::run(&settings()?, &args)),
        Command::Restore(args) => many_threads()?.block_on(restore::run(&settings()?, args)),
        Command::Wal(args) => one_thread()?.block_on(wal::run(&settings()?, args)),
        Command::VerifyRestore(args) => {
            one_thread()?.block_on(verify_restore::run(&settings()?, &args))
        }
        Command::List(args) => one_thread()?.block_on(list::run(&settings()?, &args)),
        Command::Check(args) => {
            if args.judges_files() {
                become_unit_user()?;
            }
            one_thread()?.block_on(check::run(&settings()?, &args))
        }
        Command::Role => one_thread()?.block_on(role::run(&settings()?)),
        Command::Keygen(args) => keygen::run(&args),
        Command::Reference { directory } => {
            let written = reference().write(&directory);
            written.map_err(Error::io("write", &directory))
        }
    }
}

fn reference() -> Reference {
    Reference::new(Cli::command())
        .settings(config::reference())
        .metrics(&Metrics::DECLARED)
        .exit_codes(&BackupExitCode::DECLARED)
}

/// Returns a runtime with one thread. PostgreSQL starts the WAL commands once per segment, where
/// unused threads cost more than they save.
fn one_thread() -> Result<Runtime, Error> {
    started(Builder::new_current_thread())
}

fn many_threads() -> Result<Runtime, Error> {
    started(Builder::new_multi_thread())
}

fn started(mut builder: Builder) -> Result<Runtime, Error> {
    let runtime = builder.enable_all().build();
    runtime.map_err(Error::io("start", "the runtime".as_ref()))
}
