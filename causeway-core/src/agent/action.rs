//! What an agent says: what to do once, what must be so, and what a person should know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::WriteProbeFailure;
use crate::failover::decision::PromotionMode;
use crate::lease::{LeaseFormatError, LeaseMismatch, LeaseRecord, WritePrecondition};
use crate::{Epoch, NodeId, Timeline};

/// What is to be done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentAction {
    /// Read the lease, and come back with [`AgentEvent::LeaseRead`](super::AgentEvent::LeaseRead).
    ReadLease,
    /// Write the lease, and come back with [`AgentEvent::LeaseWritten`](super::AgentEvent::LeaseWritten).
    WriteLease(Box<LeaseWrite>),
    /// Keep this on disk: no record below it is believed again.
    Remember(Epoch, u64),
    /// Call a person.
    AlertOperator(OperatorAlert),
}

/// One conditional write of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWrite {
    /// What is written.
    pub record: LeaseRecord,
    /// What must be there.
    pub condition: WritePrecondition,
}

/// What a person should know of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorAlert {
    /// The store showed a record older than one seen before.
    #[error(
        "lease store rolled back: it returned epoch {found} sequence {sequence} after epoch {known}; the record is ignored"
    )]
    LeaseStoreRolledBack {
        /// The epoch it showed.
        found: Epoch,
        /// The sequence it showed.
        sequence: u64,
        /// The highest epoch seen.
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
    /// The lease is given up because the server cannot do its work.
    #[error("the lease is released: {0}")]
    Released(ReleaseReason),
    /// The lease object cannot be used.
    #[error(transparent)]
    Unusable(LeaseFormatError),
    /// The lease object is another cluster's.
    #[error(transparent)]
    LeaseMismatch(LeaseMismatch),
    /// Another node has trusted a higher epoch than the one that this node holds.
    #[error("deposed: `{by}` reports epoch {epoch} from another lease store: compare `[lease]`")]
    Superseded {
        /// The other node.
        by: NodeId,
        /// The epoch that it has seen.
        epoch: Epoch,
    },
    /// The promoted server is not on the timeline that was reserved.
    #[error("promoted onto timeline {found} instead of the reserved {reserved}")]
    WrongTimeline {
        /// Where it is.
        found: Timeline,
        /// Where it should be.
        reserved: Timeline,
    },
}

/// Why a holder gives its lease up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseReason {
    /// A command asked for it.
    #[error("a command asked for it")]
    Command,
    /// The server was started again as often as is allowed.
    #[error("PostgreSQL stops again and again")]
    KeepsEnding,
    /// The server accepts connections, or not even that, and answers nothing.
    #[error("PostgreSQL does not respond")]
    AnswersNothing,
    /// The server did not become primary in time.
    #[error("PostgreSQL did not become primary in time")]
    NotUpInTime,
    /// The server answers, and proves no write.
    #[error("PostgreSQL responds, but {0}")]
    CannotWrite(WriteProbeFailure),
    /// The database is not the one that the lease is of.
    #[error("the lease belongs to another database: check `[postgres] data-directory`")]
    OtherDatabase,
    /// The server was promoted onto a timeline that somebody else may be using.
    #[error("PostgreSQL was promoted onto a timeline that the lease had not reserved")]
    WrongTimeline,
}

/// What this node has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetRole {
    /// Nothing is known of a lease: leave everything as it is.
    Undecided,
    /// A standby, of `primary` if that is known to be open.
    Standby {
        /// The node to follow; none while the lease is this node's own and over, or is being taken.
        primary: Option<NodeId>,
        /// The timeline it writes on.
        timeline: Timeline,
    },
    /// The primary, in `epoch`.
    Primary {
        /// The epoch of the lease.
        epoch: Epoch,
        /// How it becomes primary.
        mode: PromotionMode,
    },
    /// Ended, so that the lease can be released.
    Stopped,
}

/// What guard should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardCommand {
    /// Start PostgreSQL as the primary it was.
    StartPrimary(Epoch, Commits),
    /// Start it as a standby.
    StartStandby,
    /// Promote it. Before, the history files of the timelines below this one are filled.
    Promote(Epoch, Timeline),
    /// Acknowledge the commits that were held back: the lease says that this node is open.
    Acknowledge(Epoch),
    /// End it: clients are cut at once, walsenders have this long to drain.
    End(Duration),
}

/// What becomes of the commits of a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commits {
    /// They are acknowledged.
    Acknowledged,
    /// They wait, as for a synchronous standby that is not there.
    HeldBack,
}
