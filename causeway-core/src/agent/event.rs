//! Events that an agent processes, and the observations in them.

use crate::failover::collation::NodeCollations;
use crate::failover::observation::{PeerView, ServerView};
use crate::guard::GuardDeadline;
use crate::lease::{
    ETag, LeaseFormatError, LeaseRecord, LeaseStoreId, Nonce, PrimaryPosition, SystemId,
};
use crate::lsn::TimelineHistory;
use crate::{HostInstant, Timeline};

/// An event for the agent.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// Time passed.
    Tick,
    /// A read of the lease ended.
    LeaseRead {
        /// Time at which it was sent.
        requested_at: HostInstant,
        /// Result of the request.
        answer: LeaseReadResult,
    },
    /// A write of the lease ended.
    LeaseWritten {
        /// Nonce of the write.
        nonce: Nonce,
        /// Result of the request.
        answer: LeaseWriteResult,
    },
    /// The local server and its guard were observed.
    LocalObserved(Box<LocalObservation>),
    /// Other nodes reported their progress.
    PeersObserved(Vec<PeerView>),
    /// The lease in a previous store was retired.
    OldLeaseRetired(LeaseStoreId),
}

/// Result of a read of the lease.
#[derive(Clone, Debug)]
pub enum LeaseReadResult {
    /// The record, and its version.
    Found(ETag, Box<LeaseRecord>),
    /// There is no object.
    Missing,
    /// This release cannot use the object.
    Unusable(LeaseFormatError),
    /// The request timed out or failed.
    Failed,
}

/// Result of a write of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseWriteResult {
    /// The record is stored, as this version.
    Stored(ETag),
    /// The store rejected it: the precondition failed (412), another write was in progress (409), or there
    /// is no object (404). After a lost response the store rejects the repetition of a write that took
    /// effect, so only a read decides.
    Rejected,
    /// The request timed out or failed.
    Unknown,
}

/// Observation of this node's server and guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalObservation {
    /// State of the server.
    pub server: ServerView,
    /// Deadline of guard; none if it is not armed or does not respond.
    pub armed: Option<GuardDeadline>,
    /// Time since which guard requires a renewal, because the host was paused without notice.
    pub wants_renewal_since: Option<HostInstant>,
    /// Position of a server that has recently proved that it accepts writes.
    pub primary: Option<PrimaryView>,
    /// Responses of the server.
    pub health: ServerHealth,
    /// Counter that changes whenever a server in recovery or promotion has replayed more WAL.
    pub replay: Option<u64>,
    /// Number of postmasters that guard has started; none while guard does not respond.
    pub starts: Option<u64>,
    /// System identifier in the control file; none without a control file.
    pub system_id: Option<SystemId>,
    /// Whether the WAL on the local disk reaches the position in the lease record.
    pub holds_position: bool,
    /// Whether the acknowledgement of commits is held back: for a standby by its effective setting, for a
    /// server that may write by guard's state.
    pub holds_back: bool,
    /// Collation versions of the running server; none while they are unknown.
    pub collations: Option<NodeCollations>,
    /// Timeline that guard found in use when it was to promote onto that number or a lower one.
    pub taken_timeline: Option<Timeline>,
    /// History of the server's timeline; none while it is unknown.
    pub ancestry: Option<TimelineHistory>,
}

/// Responses of a server, independent of its processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHealth {
    /// It does not respond.
    #[default]
    Unresponsive,
    /// It reports that it is starting (SQLSTATE 57P03), or that it is in recovery.
    Recovering,
    /// It answers queries, and has recently proved a write.
    Writes,
    /// It answers queries, or has no connection left, and has not recently proved a write.
    Unproven(WriteProbeFailure),
}

/// Reason why a server that responds proves no write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteProbeFailure {
    /// The write has not returned: the disk stalls.
    #[error("a write has not completed")]
    Stalled,
    /// Clients use every connection, so none is left for the probe. They are being served.
    #[error("all connections are in use")]
    NoConnectionLeft,
    /// It assigns no transaction ID until a VACUUM has advanced the oldest (SQLSTATE 54000). The same would
    /// hold on each of its standbys.
    #[error("no transaction IDs are left: run VACUUM")]
    XidLimit,
    /// The disk is full (SQLSTATE 53100).
    #[error("the disk is full")]
    DiskFull,
    /// It rejects the agent's connection or query: role, database or `pg_hba.conf` do not match the agent's
    /// settings. Its clients may be served nevertheless.
    #[error(
        "it rejects the agent's connection: check `[postgres] user`, its privileges and `pg_hba.conf`; the agent's log has the error"
    )]
    Refused,
    /// The write fails with another error.
    #[error("a write fails")]
    Error,
}

impl WriteProbeFailure {
    /// Returns whether clients are served nevertheless, or would be served no better by another node.
    pub const fn is_no_reason_to_move(self) -> bool {
        matches!(
            self,
            Self::NoConnectionLeft | Self::XidLimit | Self::Refused
        )
    }
}

/// A server that accepts writes, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryView {
    /// WAL position and write rates.
    pub position: PrimaryPosition,
    /// System identifier of its database.
    pub system_id: SystemId,
}
