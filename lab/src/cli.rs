//! Command line of `lab`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use causeway_core::NodeId;
use causeway_runtime::secret::Secret;
use clap::builder::{StringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use lab::fault::Fault;
use lab::scenarios::Scenario;

/// Causeway on one machine: three PostgreSQL servers in two regions, and AWS beside them
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// Number of the lab, 1 unless given; its addresses are 127.77.<NUMBER>.x
    #[arg(long, global = true)]
    pub(crate) number: Option<u8>,
    /// Directory of the lab, instead of /tmp/causeway-lab-<NUMBER>
    #[arg(long, global = true)]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a lab in the background
    Up {
        /// Mount a disk for each node, for `disk-full` and `disk-read-only`; needs root
        #[arg(long)]
        own_disks: bool,
    },
    /// Show the processes, the disturbed network paths, the nodes and the lease
    Status,
    /// Run a program with the lab's PATH, credentials and settings
    Exec(ExecArgs),
    /// Inject a fault
    #[command(subcommand)]
    Break(Fault),
    /// Undo every fault
    Heal,
    /// Run a scenario under load, and print its result as JSON
    Run {
        /// Scenario
        scenario: Scenario,
    },
    /// Run histories of random faults, each on a lab of its own, and check each
    Chaos(ChaosArgs),
    /// Run histories of backups with failing buckets, restore, and compare every row
    BackupFaults(BackupFaultsArgs),
    /// Lose a zone, a region and a table on a lab of its own, and report downtime and data loss
    Demo {
        /// Directory for report.json and report.html
        #[arg(long, default_value = "target/demo")]
        report_directory: PathBuf,
    },
    /// Stop a lab and remove its directory
    Down,
    /// Run a lab in the foreground until SIGTERM
    #[command(hide = true)]
    Serve {
        /// Mount a disk for each node
        #[arg(long)]
        own_disks: bool,
    },
    /// Serve S3 without a lab, for `make bench-backup` and `make test-ansible`
    #[command(hide = true)]
    S3(S3Args),
    /// Write this program's reference, man pages and completions
    #[command(hide = true)]
    Reference {
        /// Directory to write to
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lab exec -- failover-ctl status
  lab exec -- failover-ctl promote --to eu-central-1
  lab exec -- backup-agent list
  lab exec --node b -- psql --command='select pg_is_in_recovery()'")]
pub(crate) struct ExecArgs {
    /// Act on this node's host, with its settings; as an operator outside both regions unless given
    #[arg(long)]
    pub(crate) node: Option<NodeId>,
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct S3Args {
    /// Directory whose subdirectories are the buckets
    #[arg(long)]
    pub(crate) root: PathBuf,
    /// Address to listen on, without TLS
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Evaluate the condition of a write and store the object in one step, as a lease needs
    #[arg(long)]
    pub(crate) atomic: bool,
    /// Access key of the clients
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    pub(crate) access_key: String,
    /// Secret of the access key
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true, value_parser = StringValueParser::new().map(Secret::new))]
    pub(crate) secret_key: Secret,
}

#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// First seed; generated and printed unless given
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Number of histories, with consecutive seeds
    #[arg(long, default_value_t = 1)]
    pub(crate) seeds: u64,
    /// Number of labs that run in parallel
    #[arg(long, default_value_t = 2)]
    pub(crate) labs: u8,
    /// Print the histories instead of running them
    #[arg(long)]
    pub(crate) show: bool,
    /// Directory for what was observed
    #[arg(long, default_value = "target/chaos")]
    pub(crate) report_directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BackupFaultsArgs {
    /// First seed; generated and printed unless given
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Number of histories, with consecutive seeds
    #[arg(long, default_value_t = 1)]
    pub(crate) histories: u64,
    /// Number of histories that run in parallel
    #[arg(long, default_value_t = 2)]
    pub(crate) parallel: u8,
    /// Print the histories instead of running them
    #[arg(long)]
    pub(crate) show: bool,
    /// Directory for what was observed
    #[arg(long, default_value = "target/backup-faults")]
    pub(crate) report_directory: PathBuf,
}
