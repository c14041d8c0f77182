//! The command line. Settings are environment variables.

use std::path::PathBuf;

use api::config::declarations;
use causeway_runtime::reference::environment_help;
use clap::{Parser, Subcommand};

/// HTTP service of the platform. Its settings are environment variables, which `--help` lists.
#[derive(Debug, Parser)]
#[command(version, after_long_help = environment_help(&declarations()))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve requests until SIGTERM or SIGINT (the default command)
    Serve,
    /// Bring the schema up to date, as the role that owns it
    Migrate,
    /// Check that the service on this host is alive: exit code 0 if it is, 1 if not
    Healthcheck {
        /// Check that it is ready instead: it has its database, and is not shutting down
        #[arg(long)]
        ready: bool,
    },
    /// Write this program's reference, man pages and completions
    #[command(hide = true)]
    Reference {
        /// Directory to write to
        directory: PathBuf,
    },
}
