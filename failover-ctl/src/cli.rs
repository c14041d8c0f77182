//! Commands and flags; help, man pages and `docs/reference/cli-failover-ctl.md` are generated from them.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use causeway_core::failover::consent::Consent;
use causeway_core::{NodeId, Timeline};
use clap::{Parser, Subcommand};

use crate::config::DEFAULT_PATH;

/// Keeps exactly one node of a PostgreSQL cluster writable.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Settings file.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH, env = "FAILOVER_CTL_CONFIG")]
    pub(crate) config: PathBuf,
    /// Log level or filter for standard error: error, warn, info, debug, or `target=level`.
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG")]
    pub(crate) log: Option<String>,
    /// Command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Commands of `failover-ctl`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every node, the lease, and the failover that would follow if the primary were lost now.
    Status {
        /// Print the complete status as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check the settings, and what this host needs, before anything is changed.
    Check(HostCheckArgs),
    /// Print the plan of a command without executing it.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Promote a standby after the loss of the primary, and move the DNS records to it.
    Promote(PromoteArgs),
    /// Resume an interrupted operation.
    Resume(ResumeArgs),
    /// Close an interrupted operation without undoing or continuing it.
    Abandon(AbandonArgs),
    /// Show past operations: decisions, steps, times and evidence.
    History {
        /// Print the complete journals as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Rejoin a node as a standby of the primary.
    Rejoin(RejoinArgs),
    /// Create the first lease of a cluster. Run it once, on the node that has the database.
    Init {
        /// Node that becomes the first primary.
        #[arg(long, value_name = "NODE")]
        holder: NodeId,
    },
    /// Replace the lease: in another bucket, for an upgraded database, or after a restore.
    /// Run it on the node that has the database.
    ReplaceLease(ReplaceLeaseArgs),
    /// Run the agent of this node until SIGTERM.
    Agent {
        /// Read the command signing key from standard input, which systemd has opened, instead of
        /// `command-signing-key-file`. The operating-system user of PostgreSQL then needs no access to the file.
        #[arg(long)]
        key_from_stdin: bool,
    },
    /// Run the guard, the process that supervises PostgreSQL and fences it (a software watchdog).
    Guard,
    /// Write this program's reference, man pages and completions.
    #[command(hide = true)]
    Reference {
        /// Directory to write to.
        directory: PathBuf,
    },
    /// Replace this process with a program that ends with the guard.
    #[command(hide = true)]
    GuardExec {
        /// Process id of the guard.
        parent: i32,
        /// Program.
        program: OsString,
        /// Arguments of the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run a program, and kill it and its children when the agent ends.
    #[command(hide = true)]
    ToolExec {
        /// Process id of the agent.
        parent: i32,
        /// Program.
        program: OsString,
        /// Arguments of the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Arguments of `check`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct HostCheckArgs {
    /// Check nothing but the settings file.
    #[arg(long, conflicts_with = "before_install")]
    pub(crate) settings_only: bool,
    /// Skip what an installation brings while it is missing: keys and passwords, `postgresql.conf`, PostgreSQL's
    /// programs, and agents and servers of other nodes.
    #[arg(long)]
    pub(crate) before_install: bool,
    /// Check nothing but whether a restart of this node's agent interrupts no rewind or copy of the data directory.
    #[arg(long, conflicts_with_all = ["settings_only", "before_install"])]
    pub(crate) agent_restart: bool,
    /// Print the result of each check as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `rejoin`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RejoinArgs {
    /// Node to rejoin.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: NodeId,
    /// Copy the primary even where a rewind would do.
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Return once the agent of the node has accepted the command, before the rejoin completes.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Time to wait until the node streams, in seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        conflicts_with = "no_wait"
    )]
    pub(crate) timeout_secs: u64,
}

/// Arguments of `replace-lease`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReplaceLeaseArgs {
    /// Node that becomes primary; the command runs there.
    #[arg(long, value_name = "NODE")]
    pub(crate) holder: NodeId,
    /// Node that does not respond and is stopped. May be repeated.
    #[arg(long, value_name = "NODE")]
    pub(crate) without: Vec<NodeId>,
    /// Continue although the previous lease store does not respond, so its lease cannot be retired.
    #[arg(long)]
    pub(crate) old_store_lost: bool,
    /// The database was restored: WAL up to the recorded position of the last primary may be missing.
    #[arg(long)]
    pub(crate) restored: bool,
    /// Highest epoch ever used, where no node and no store has it.
    #[arg(long, value_name = "EPOCH")]
    pub(crate) highest_epoch: Option<u64>,
    /// Highest timeline ever used, where no node and no store has it.
    #[arg(long, value_name = "TIMELINE")]
    pub(crate) highest_reserved_timeline: Option<NonZeroU32>,
    /// Skip the confirmation.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Commands with a plan.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Print the plan of `promote` and the data loss.
    Promote(PromoteArgs),
    /// Print the plan of `replace-lease`, or the reason why it is refused.
    ReplaceLease(ReplaceLeaseArgs),
}

/// Arguments of `promote`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PromoteArgs {
    /// Node, or region whose most advanced node is promoted.
    #[arg(long, value_name = "NODE|REGION")]
    pub(crate) to: String,
    /// Accepted risks.
    #[command(flatten)]
    pub(crate) accepts: AcceptArgs,
    /// Print the plan or the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `resume`. Risks accepted for the interrupted run do not count.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// Accepted risks.
    #[command(flatten)]
    pub(crate) accepts: AcceptArgs,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `abandon`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AbandonArgs {
    /// Reason, stored in the history.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Risks that an operator accepts by name, and the confirmation.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AcceptArgs {
    /// Maximum WAL loss to accept without confirmation, in bytes. Promotion is refused above it.
    #[arg(long, value_name = "BYTES", value_parser = causeway_runtime::byte_size::parse)]
    pub(crate) accept_loss: Option<u64>,
    /// Accept a node on this timeline although the last primary wrote on another.
    #[arg(long, value_name = "NUMBER", value_parser = timeline)]
    pub(crate) accept_timeline: Option<Timeline>,
    /// Accept a node whose library orders text in another way than the last primary's. Its indexes over text return wrong
    /// rows until they are rebuilt.
    #[arg(long)]
    pub(crate) accept_collation: bool,
    /// Continue without proof that the old primary is fenced. Risks split-brain.
    #[arg(long)]
    pub(crate) unfenced: bool,
    /// Fence the old primary by stopping its EC2 instance.
    #[arg(long)]
    pub(crate) stop_instance: bool,
    /// Skip the confirmation.
    #[arg(long)]
    pub(crate) yes: bool,
}

impl AcceptArgs {
    /// Returns the risks accepted by name.
    pub(crate) const fn consent(&self) -> Consent {
        Consent {
            accept_loss: self.accept_loss,
            accept_timeline: self.accept_timeline,
            accept_collation: self.accept_collation,
            unfenced: self.unfenced,
            stop_instance: self.stop_instance,
        }
    }
}

fn timeline(text: &str) -> Result<Timeline, String> {
    let number = text.parse().ok().and_then(Timeline::new);
    number.ok_or_else(|| format!("`{text}` is not a timeline: use its number, such as `4`"))
}
