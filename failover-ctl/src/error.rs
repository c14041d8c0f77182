//! Errors of the program, each with its exit code and hint.

use causeway_core::Epoch;
use causeway_core::failover::consent::MissingConsent;

use crate::clients::lease_store::LeaseStoreError;
use crate::config::SettingsError;
use crate::exit_code::FailoverExitCode;

/// Error of a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// An error without an exit code of its own.
    #[error("the command failed")]
    Other(#[from] anyhow::Error),
    /// The settings are invalid; nothing was changed.
    #[error("the settings are not usable")]
    Settings(#[from] SettingsError),
    /// The lease bucket is unusable.
    #[error("the lease could not be used")]
    Store(#[from] LeaseStoreError),
    /// The lease belongs to another cluster or database.
    #[error("the lease belongs to another cluster or database")]
    Foreign(#[source] causeway_core::lease::LeaseMismatch),
    /// `init` was run twice.
    #[error("the cluster `{0}` has a lease already, or had one")]
    LeaseExists(String),
    /// There is no lease.
    #[error("the cluster `{0}` has no lease")]
    NoLease(String),
    /// Unknown node or region.
    #[error("there is no node and no region named `{0}`")]
    UnknownTarget(String),
    /// The target is primary.
    #[error("`{0}` is the primary already")]
    AlreadyPrimary(String),
    /// An unfinished operation has taken the lease for the target.
    #[error("`{node}` has taken the lease already, by operation {operation}, which has not ended")]
    AlreadyTaken {
        /// Target.
        node: String,
        /// Id of the operation.
        operation: String,
    },
    /// The target cannot be promoted.
    #[error("`{node}` cannot be promoted: {why}")]
    NotPromotable {
        /// Target.
        node: String,
        /// Reason.
        why: String,
    },
    /// The primary is healthy.
    #[error("`{0}` is primary and answers")]
    PrimaryHealthy(String),
    /// The data loss exceeds the accepted bytes.
    #[error("up to {bytes} bytes may be lost, and {accepted} were accepted")]
    WouldLose {
        /// Possible loss, in bytes of WAL.
        bytes: u64,
        /// Accepted loss, in bytes of WAL.
        accepted: u64,
    },
    /// The data loss exceeds the rows that the operator confirmed.
    #[error("up to {rows} rows may be lost, and {accepted} were accepted")]
    WouldLoseRows {
        /// Possible loss, in rows.
        rows: u64,
        /// Accepted loss, in rows.
        accepted: u64,
    },
    /// The old primary is not fenced.
    #[error("`{node}` is not fenced: {why}")]
    NotFenced {
        /// Old primary.
        node: String,
        /// Evidence.
        why: String,
    },
    /// Another operator holds the operation.
    #[error("`{operator}` is at work: operation {operation}")]
    Busy {
        /// Operator.
        operator: String,
        /// Id of the operation.
        operation: String,
    },
    /// The operator did not confirm the plan.
    #[error("nothing was done: the plan was not confirmed")]
    NotConfirmed,
    /// `--yes` was passed, and a risk of the plan was not accepted by name.
    #[error("nothing was done: the plan needs `{0}`, which was not given")]
    ConsentMissing(MissingConsent),
    /// A step failed; the journal has the completed steps.
    #[error("step {step} of operation {operation} failed: {what}")]
    Unfinished {
        /// Id of the operation.
        operation: String,
        /// Number of the step.
        step: usize,
        /// Description of the step.
        what: String,
        /// Cause.
        source: anyhow::Error,
    },
    /// A node did not rejoin.
    #[error("`{node}` did not rejoin: {why}")]
    NotRejoined {
        /// Node.
        node: String,
        /// Reason, as far as it is known.
        why: String,
    },
    /// Some checks of `check` failed; each is in its output.
    #[error("{failed} of {all} checks failed")]
    ChecksFailed {
        /// Number of failed checks.
        failed: usize,
        /// Number of checks.
        all: usize,
    },
    /// The lease cannot be replaced safely.
    #[error("the lease was not replaced: {0}")]
    LeaseNotReplaced(String),
    /// No operation can be resumed.
    #[error("there is no operation to resume")]
    NothingToResume,
    /// No operation can be abandoned.
    #[error("there is no operation to abandon")]
    NothingToAbandon,
    /// The lease has moved past the plan of an operation.
    #[error("operation {operation} was overtaken: `{holder}` holds the lease at epoch {epoch}")]
    Overtaken {
        /// Id of the operation.
        operation: String,
        /// Holder of the lease.
        holder: String,
        /// Epoch of the lease.
        epoch: Epoch,
    },
}

impl Error {
    /// Returns the exit code, which is part of the command's interface: a number is never reused. 2 is clap's, for an
    /// invalid command line.
    pub(crate) fn exit_code(&self) -> u8 {
        let code = match self {
            Self::Other(_) => FailoverExitCode::Other,
            Self::Settings(_) => FailoverExitCode::Settings,
            Self::Store(_) => FailoverExitCode::LeaseStore,
            Self::Foreign(_) => FailoverExitCode::LeaseMismatch,
            Self::LeaseExists(_) => FailoverExitCode::LeaseExists,
            Self::NoLease(_) => FailoverExitCode::NoLease,
            Self::UnknownTarget(_) => FailoverExitCode::UnknownTarget,
            Self::AlreadyPrimary(_) | Self::AlreadyTaken { .. } => FailoverExitCode::AlreadyPrimary,
            Self::NotPromotable { .. } => FailoverExitCode::NotPromotable,
            Self::PrimaryHealthy(_) => FailoverExitCode::PrimaryHealthy,
            Self::WouldLose { .. } | Self::WouldLoseRows { .. } => FailoverExitCode::DataLoss,
            Self::NotFenced { .. } => FailoverExitCode::NotFenced,
            Self::Busy { .. } => FailoverExitCode::Busy,
            Self::NotConfirmed | Self::ConsentMissing(_) => FailoverExitCode::NotConfirmed,
            Self::Unfinished { .. } => FailoverExitCode::Unfinished,
            Self::NothingToResume | Self::NothingToAbandon => FailoverExitCode::NoOperation,
            Self::Overtaken { .. } => FailoverExitCode::Overtaken,
            Self::NotRejoined { .. } => FailoverExitCode::NotRejoined,
            Self::LeaseNotReplaced(_) => FailoverExitCode::LeaseNotReplaced,
            Self::ChecksFailed { .. } => FailoverExitCode::ChecksFailed,
        };
        code as u8
    }

    /// Returns the remedy, unless the message contains it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Other(_)
            | Self::Settings(_)
            | Self::Foreign(_)
            | Self::LeaseNotReplaced(_)
            | Self::ChecksFailed { .. } => None,
            Self::Store(_) => Some("nothing was changed; retry when the lease bucket responds"),
            Self::LeaseExists(_) => Some(
                "`failover-ctl status` shows the lease; use `replace-lease` to replace it, `init` only for a new cluster",
            ),
            Self::NoLease(_) => Some(
                "run `failover-ctl init` on the node that has the database, or `replace-lease` if there was a lease",
            ),
            Self::UnknownTarget(_) => Some("`failover-ctl status` lists the nodes"),
            Self::AlreadyPrimary(_) => Some("`failover-ctl status` shows the cluster"),
            Self::AlreadyTaken { .. } => Some(
                "run `failover-ctl resume` for the remaining steps, or `failover-ctl abandon` to close the operation",
            ),
            Self::NotPromotable { .. } => Some(
                "`failover-ctl status` shows its WAL position; promote another node, or wait until it has caught up",
            ),
            Self::PrimaryHealthy(_) => Some(
                "`promote` replaces a lost primary; to move away from a healthy one, stop its host first",
            ),
            Self::WouldLose { .. } | Self::WouldLoseRows { .. } => Some(
                "nothing was changed; wait until the standby has received more WAL, or accept the loss: `--accept-loss BYTES`",
            ),
            Self::NotFenced { .. } => Some(
                "wait for the lease to expire, stop the instance with `--stop-instance`, or risk split-brain with `--unfenced`",
            ),
            Self::Busy { .. } => Some(
                "ask that operator; if the process has ended, retry: the command continues after 10 s without a heartbeat",
            ),
            Self::NotConfirmed => Some("answer `yes`, or pass `--yes`"),
            Self::ConsentMissing(_) => Some(
                "pass the flag, or answer `yes` to the plan; a risk accepted for an earlier run does not count",
            ),
            Self::Unfinished { .. } => Some(
                "remove the cause, then run `failover-ctl resume`, which skips completed steps; or `promote` another node",
            ),
            Self::NotRejoined { .. } => {
                Some("`failover-ctl status` shows the problem; the agent retries")
            }
            Self::NothingToResume | Self::NothingToAbandon => {
                Some("`failover-ctl history` lists past operations")
            }
            Self::Overtaken { .. } => {
                Some("the operation is closed; `failover-ctl status` shows the cluster")
            }
        }
    }
}
