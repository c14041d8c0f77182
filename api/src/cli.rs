//! The command line: what the program is asked to do. How it does it is said by the environment.

use std::path::PathBuf;

use axum::http::Uri;
use clap::{Parser, Subcommand};

/// The HTTP service of the platform. Its settings are variables of the environment.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve requests until a signal asks to stop; also what happens without a command
    Serve,
    /// Bring the schema up to date, as the role that owns it, and end
    Migrate,
    /// Ask the service that runs here whether it lives; exit code 0 says that it does, 1 that it does not
    Healthcheck {
        /// Ask whether requests should be sent to it: whether it has its database, and is not stopping
        #[arg(long)]
        ready: bool,
        /// Ask here, instead of where `LISTEN` or `PORT` say that the service is
        #[arg(long, value_name = "http://HOST:PORT")]
        url: Option<Uri>,
    },
    /// Write this program's reference, man pages and completions
    #[command(hide = true)]
    Reference {
        /// Where they are written
        directory: PathBuf,
    },
}
