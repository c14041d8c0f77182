//! Every command and flag, and nothing else: help and manual page are made from it.

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
    /// The settings file.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH, env = "FAILOVER_CTL_CONFIG")]
    pub(crate) config: PathBuf,
    /// What is logged to standard error: error, warn, info, debug, or a filter.
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG")]
    pub(crate) log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every node, the lease, and what would happen if the primary were lost now.
    Status {
        /// Print everything that is known, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what a command would do, without doing it.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Make a standby the primary although the primary is lost, and send clients to it.
    Promote(PromoteArgs),
    /// Continue an operation that was cut off.
    Resume(ResumeArgs),
    /// End an operation that was cut off, and leave everything as it is.
    Abandon(AbandonArgs),
    /// Show what was decided and done, when, and from what evidence.
    History {
        /// Print every journal whole, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bring a node back as a standby of the primary.
    Rejoin(RejoinArgs),
    /// Create a cluster's first lease. Once, on the node that has the database.
    Init {
        /// The node that becomes the first primary.
        #[arg(long, value_name = "NODE")]
        holder: NodeId,
    },
    /// Put a lease in place of another: in another bucket, for an upgraded database, or after a restore.
    /// On the node that has the database.
    ReplaceLease(ReplaceLeaseArgs),
    /// Run this node's agent until told to stop.
    Agent {
        /// Read the key that signs orders from standard input, which the supervisor has opened, and not
        /// from `command-signing-key-file`: then the user that PostgreSQL runs as needs no access to the file.
        #[arg(long)]
        key_from_stdin: bool,
    },
    /// Run the process that starts, promotes and ends this node's PostgreSQL.
    Guard,
    /// Write this program's reference, man pages and completions.
    #[command(hide = true)]
    Reference {
        /// Where they are written.
        directory: PathBuf,
    },
    /// Become a program whose life is bound to guard's.
    #[command(hide = true)]
    GuardExec {
        /// Guard's process.
        parent: i32,
        /// The program.
        program: OsString,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run a program, and end it and all that it has started when the agent is gone.
    #[command(hide = true)]
    ToolExec {
        /// The agent's process.
        parent: i32,
        /// The program.
        program: OsString,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Which node comes back, and how long that is waited for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RejoinArgs {
    /// The node.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: NodeId,
    /// Copy the primary anew, even where rewinding would do.
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Return once the node's agent has accepted the command, without waiting for what comes of it.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait at most this long until the node streams.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        conflicts_with = "no_wait"
    )]
    pub(crate) timeout_secs: u64,
}

/// What replacing a lease needs to know.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReplaceLeaseArgs {
    /// The node that becomes primary; the command runs there.
    #[arg(long, value_name = "NODE")]
    pub(crate) holder: NodeId,
    /// A node that does not answer, and is stopped. May be given several times.
    #[arg(long, value_name = "NODE")]
    pub(crate) without: Vec<NodeId>,
    /// Go on although the store that was used before does not answer, so that its lease cannot be
    /// retired.
    #[arg(long)]
    pub(crate) old_store_lost: bool,
    /// The database was restored: WAL that the last primary recorded may be missing.
    #[arg(long)]
    pub(crate) restored: bool,
    /// The highest epoch ever used, where no node and no store can say.
    #[arg(long, value_name = "EPOCH")]
    pub(crate) highest_epoch: Option<u64>,
    /// The highest timeline ever used, where no node and no store can say.
    #[arg(long, value_name = "TIMELINE")]
    pub(crate) highest_reserved_timeline: Option<NonZeroU32>,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What can be planned.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Show what `promote` would do, and what would be lost.
    Promote(PromoteArgs),
    /// Show what `replace-lease` would do, or what stands against it.
    ReplaceLease(ReplaceLeaseArgs),
}

/// What a promotion needs to know.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PromoteArgs {
    /// The node, or the region whose most advanced node is meant.
    #[arg(long, value_name = "NODE|REGION")]
    pub(crate) to: String,
    /// What is accepted.
    #[command(flatten)]
    pub(crate) accepts: AcceptArgs,
    /// Print the plan or the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is accepted before an operation is continued: nothing that was accepted before counts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// What is accepted.
    #[command(flatten)]
    pub(crate) accepts: AcceptArgs,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why an operation is ended.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AbandonArgs {
    /// Why, for those who read the history.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What an operator accepts by name, and whether they are asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AcceptArgs {
    /// How many bytes of log may be lost without being asked; more is refused.
    #[arg(long, value_name = "BYTES", value_parser = crate::output::bytes)]
    pub(crate) accept_loss: Option<u64>,
    /// Promote a node on this timeline although the last primary wrote on another.
    #[arg(long, value_name = "NUMBER", value_parser = timeline)]
    pub(crate) accept_timeline: Option<Timeline>,
    /// Go on although nothing proves that the old primary accepts no more writes.
    #[arg(long)]
    pub(crate) unfenced: bool,
    /// Stop the old primary's EC2 instance to fence it.
    #[arg(long)]
    pub(crate) stop_instance: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

impl AcceptArgs {
    /// Returns what is accepted by name.
    pub(crate) const fn consent(&self) -> Consent {
        Consent {
            accept_loss: self.accept_loss,
            accept_timeline: self.accept_timeline,
            unfenced: self.unfenced,
            stop_instance: self.stop_instance,
        }
    }
}

fn timeline(text: &str) -> Result<Timeline, String> {
    let number = text.parse().ok().and_then(Timeline::new);
    number.ok_or_else(|| format!("`{text}` is not a timeline: write its number, such as `4`"))
}
