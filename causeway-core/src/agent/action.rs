//! Outputs of an agent: actions, the target role, commands for guard and alerts for the operator.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::WriteProbeFailure;
use crate::failover::decision::PromotionMode;
use crate::lease::{LeaseFormatError, LeaseMismatch, LeaseRecord, WritePrecondition};
use crate::{Epoch, NodeId, Timeline};

/// An action that the caller executes once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentAction {
    /// Read the lease, then report [`AgentEvent::LeaseRead`](super::AgentEvent::LeaseRead).
    ReadLease,
    /// Write the lease, then report [`AgentEvent::LeaseWritten`](super::AgentEvent::LeaseWritten).
    WriteLease(Box<LeaseWrite>),
    /// Store this epoch and sequence on disk: the agent never trusts a record below them again.
    StoreHighest(Epoch, u64),
    /// Alert the operator.
    AlertOperator(OperatorAlert),
}

/// One conditional write of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWrite {
    /// Record to write.
    pub record: LeaseRecord,
    /// Required state of the object.
    pub condition: WritePrecondition,
}

/// A condition that needs the operator's attention.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorAlert {
    /// The store returned a record older than one observed before.
    #[error(
        "lease store rolled back: it returned epoch {found} sequence {sequence} after epoch {known}; the record is ignored"
    )]
    LeaseStoreRolledBack {
        /// Epoch of the returned record.
        found: Epoch,
        /// Sequence of the returned record.
        sequence: u64,
        /// Highest epoch observed.
        known: Epoch,
    },
    /// The lease was lost to another holder while this node held it.
    #[error("deposed: `{by}` holds epoch {epoch}")]
    Deposed {
        /// The new holder.
        by: NodeId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// The lease could not be renewed in time.
    #[error("the lease of epoch {0} expired without a renewal")]
    LeaseExpired(Epoch),
    /// The lease is released.
    #[error("the lease is released: {0}")]
    Released(ReleaseReason),
    /// The lease object cannot be used.
    #[error(transparent)]
    Unusable(LeaseFormatError),
    /// The lease object belongs to another cluster or database.
    #[error(transparent)]
    LeaseMismatch(LeaseMismatch),
    /// Another node has trusted a higher epoch than the one of this node's lease.
    #[error("deposed: `{by}` reports epoch {epoch} from another lease store: compare `[lease]`")]
    Superseded {
        /// The other node.
        by: NodeId,
        /// Epoch that it reports.
        epoch: Epoch,
    },
    /// The promoted server is not on the timeline that was reserved.
    #[error("promoted onto timeline {found} instead of the reserved {reserved}")]
    WrongTimeline {
        /// Its timeline.
        found: Timeline,
        /// Timeline that was reserved.
        reserved: Timeline,
    },
}

/// Reason why a holder releases its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseReason {
    /// An operator's command.
    #[error("released by command")]
    Command,
    /// The server was restarted as often as is allowed.
    #[error("PostgreSQL exited more than `max-restarts-per-minute` times")]
    CrashLooping,
    /// The server does not respond.
    #[error("PostgreSQL does not respond")]
    AnswersNothing,
    /// The server did not become primary in time.
    #[error("PostgreSQL made no start-up or promotion progress for `start-timeout-secs`")]
    NotUpInTime,
    /// The server responds, and proves no write.
    #[error("PostgreSQL responds, but {0}")]
    CannotWrite(WriteProbeFailure),
    /// The lease belongs to another database.
    #[error("the lease belongs to another database: check `[postgres] data-directory`")]
    OtherDatabase,
    /// The server was promoted onto a timeline that was not reserved, so another node may use it.
    #[error("PostgreSQL was promoted onto a timeline that the lease had not reserved")]
    WrongTimeline,
}

/// Role that a node should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetRole {
    /// No lease has been read: change nothing.
    Undecided,
    /// A standby, of `primary` if that is known to accept writes.
    Standby {
        /// Node to follow; none while the lease is this node's own and expired, or another node is acquiring it.
        primary: Option<NodeId>,
        /// Timeline of the primary.
        timeline: Timeline,
    },
    /// The primary, in `epoch`.
    Primary {
        /// Epoch of the lease.
        epoch: Epoch,
        /// Way to become primary.
        mode: PromotionMode,
    },
    /// Stopped, so that the lease can be released.
    Stopped,
}

/// A command for guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardCommand {
    /// Start PostgreSQL as the primary that it was.
    StartPrimary(Epoch, Commits),
    /// Start it as a standby.
    StartStandby,
    /// Promote it onto this timeline, after creating the missing history files of the timelines below.
    Promote(Epoch, Timeline),
    /// Acknowledge the commits that were held back: the lease is stored as `held`.
    Acknowledge(Epoch),
    /// Stop it: clients are disconnected at once, walsenders have this long to drain.
    End(Duration),
}

/// Acknowledgement of commits by a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commits {
    /// Commits are acknowledged.
    Acknowledged,
    /// Commits wait, as for a missing synchronous standby.
    HeldBack,
}
