//! Every way in which a command can fail that a person or a script may want to tell apart.

use causeway_core::Epoch;
use causeway_core::failover::consent::MissingConsent;

use crate::clients::lease_store::LeaseStoreError;
use crate::config::SettingsError;

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// Something failed that nobody branches on.
    #[error("the command failed")]
    Other(#[from] anyhow::Error),
    /// The settings cannot be used; nothing was touched.
    #[error("the settings are not usable")]
    Settings(#[from] SettingsError),
    /// The lease bucket cannot be used.
    #[error("the lease could not be used")]
    Store(#[from] LeaseStoreError),
    /// The lease is another database's.
    #[error("this is not the cluster that the lease is of")]
    Foreign(#[source] causeway_core::lease::LeaseMismatch),
    /// `init` was run twice.
    #[error("the cluster `{0}` has a lease already, or had one")]
    LeaseExists(String),
    /// There is no lease.
    #[error("the cluster `{0}` has no lease")]
    NoLease(String),
    /// No such node or region.
    #[error("there is no node and no region named `{0}`")]
    UnknownTarget(String),
    /// The target is primary.
    #[error("`{0}` is the primary already")]
    AlreadyPrimary(String),
    /// The target has taken the lease by an operation that has not ended.
    #[error("`{node}` has taken the lease already, by operation {operation}, which has not ended")]
    AlreadyTaken {
        /// The target.
        node: String,
        /// The operation.
        operation: String,
    },
    /// The target cannot be promoted.
    #[error("`{node}` cannot be promoted: {why}")]
    NotPromotable {
        /// The target.
        node: String,
        /// Why.
        why: String,
    },
    /// The primary is healthy.
    #[error("`{0}` is primary and answers")]
    PrimaryHealthy(String),
    /// More would be lost than was accepted.
    #[error("up to {bytes} bytes may be lost, and {accepted} were accepted")]
    WouldLose {
        /// The bytes that may be lost.
        bytes: u64,
        /// The bytes that were accepted.
        accepted: u64,
    },
    /// More rows would be lost than were stated when an operator said yes.
    #[error("up to {rows} rows may be lost, and {accepted} were accepted")]
    WouldLoseRows {
        /// The rows that may be lost.
        rows: u64,
        /// The rows that were accepted.
        accepted: u64,
    },
    /// The old primary is not proved to be shut out.
    #[error("`{node}` is not fenced: {why}")]
    NotFenced {
        /// The old primary.
        node: String,
        /// What is known.
        why: String,
    },
    /// Another operation is under way.
    #[error("`{operator}` is at work: operation {operation}")]
    Busy {
        /// Who.
        operator: String,
        /// Which.
        operation: String,
    },
    /// A question was not answered with yes.
    #[error("nothing was done: the plan was not confirmed")]
    NotConfirmed,
    /// A plan was confirmed by `--yes`, and something dangerous about it was not accepted by name.
    #[error("nothing was done: the plan needs `{0}`, and that was not accepted")]
    ConsentMissing(MissingConsent),
    /// A step failed; the journal says how far it came.
    #[error("step {step} of operation {operation} did not end: {what}")]
    Unfinished {
        /// The operation.
        operation: String,
        /// The number of the step.
        step: usize,
        /// What the step does.
        what: String,
        /// Why it did not.
        source: anyhow::Error,
    },
    /// A node does not follow.
    #[error("`{node}` did not come back: {why}")]
    NotRejoined {
        /// The node.
        node: String,
        /// Why, as far as it is known.
        why: String,
    },
    /// The lease cannot be replaced safely.
    #[error("the lease was not replaced: {0}")]
    LeaseNotReplaced(String),
    /// There is nothing to resume.
    #[error("there is no operation to resume")]
    NothingToResume,
    /// There is nothing to abandon.
    #[error("there is no operation to abandon")]
    NothingToAbandon,
    /// Nothing of an operation can be carried out any more.
    #[error("operation {operation} was overtaken: `{holder}` holds the lease at epoch {epoch}")]
    Overtaken {
        /// The operation.
        operation: String,
        /// Who holds the lease.
        holder: String,
        /// Its epoch.
        epoch: Epoch,
    },
}

impl Error {
    /// Returns the exit code, which is part of the command's interface: a number is never reused.
    /// 2 is clap's, for a command line that cannot be read.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Settings(_) => 3,
            Self::Store(_) => 10,
            Self::Foreign(_) => 11,
            Self::LeaseExists(_) => 12,
            Self::NoLease(_) => 13,
            Self::UnknownTarget(_) => 14,
            Self::AlreadyPrimary(_) | Self::AlreadyTaken { .. } => 15,
            Self::NotPromotable { .. } => 16,
            Self::PrimaryHealthy(_) => 17,
            Self::WouldLose { .. } | Self::WouldLoseRows { .. } => 18,
            Self::NotFenced { .. } => 19,
            Self::Busy { .. } => 20,
            Self::NotConfirmed | Self::ConsentMissing(_) => 21,
            Self::Unfinished { .. } => 22,
            Self::NothingToResume | Self::NothingToAbandon => 23,
            Self::Overtaken { .. } => 24,
            Self::NotRejoined { .. } => 30,
            Self::LeaseNotReplaced(_) => 40,
        }
    }

    /// Returns what the reader can do next, if the error does not say it already.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Other(_) | Self::Settings(_) | Self::Foreign(_) | Self::LeaseNotReplaced(_) => {
                None
            }
            Self::Store(_) => Some("nothing was changed; try again when the lease bucket answers"),
            Self::LeaseExists(_) => Some(
                "`failover-ctl status` shows it; `init` is for a new cluster, `replace-lease` for one that has had a lease",
            ),
            Self::NoLease(_) => Some(
                "run `failover-ctl init` on the node that has the database, or `replace-lease` if there was a lease",
            ),
            Self::UnknownTarget(_) => Some("`failover-ctl status` lists the nodes"),
            Self::AlreadyPrimary(_) => Some("`failover-ctl status` shows the cluster as it is"),
            Self::AlreadyTaken { .. } => Some(
                "`failover-ctl resume` does what remains, `failover-ctl abandon` ends it as it is",
            ),
            Self::NotPromotable { .. } => {
                Some("`failover-ctl status` shows how far it is; choose another node, or wait")
            }
            Self::PrimaryHealthy(_) => Some(
                "`promote` is for a primary that is lost; to move away from one that answers, stop its host first",
            ),
            Self::WouldLose { .. } | Self::WouldLoseRows { .. } => Some(
                "nothing was changed; wait for the standby to receive more, or accept it by name: `--accept-loss BYTES`",
            ),
            Self::NotFenced { .. } => Some(
                "wait until its lease is over, stop its instance, or take the risk by name: `--unfenced`",
            ),
            Self::Busy { .. } => Some(
                "ask them; if they are gone, the same command goes on once they have been silent for 10 s",
            ),
            Self::NotConfirmed => Some("answer `yes`, or pass `--yes`"),
            Self::ConsentMissing(_) => Some(
                "what was accepted for an earlier run is not accepted for this one: name it again, or answer `yes` to the plan",
            ),
            Self::Unfinished { .. } => Some(
                "remove the cause, then run `failover-ctl resume`: what is done is not done again; or `promote` another node",
            ),
            Self::NotRejoined { .. } => Some(
                "`failover-ctl status` shows what keeps it from that; the agent goes on trying where it can",
            ),
            Self::NothingToResume | Self::NothingToAbandon => {
                Some("`failover-ctl history` lists what was done")
            }
            Self::Overtaken { .. } => {
                Some("it is closed; `failover-ctl status` shows the cluster as it is")
            }
        }
    }
}
