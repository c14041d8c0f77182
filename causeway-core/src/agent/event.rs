//! What an agent is told.

use crate::failover::observation::{PeerView, ServerView};
use crate::guard::GuardDeadline;
use crate::lease::{
    ETag, LeaseFormatError, LeaseRecord, LeaseStoreId, Nonce, PrimaryPosition, SystemId,
};
use crate::lsn::TimelineHistory;
use crate::{HostInstant, Timeline};

/// What happened.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// Time passed.
    Tick,
    /// A read of the lease was answered, or given up.
    LeaseRead {
        /// When it was sent.
        requested_at: HostInstant,
        /// What came back.
        answer: LeaseReadResult,
    },
    /// A write of the lease was answered, or given up.
    LeaseWritten {
        /// The nonce of the write.
        nonce: Nonce,
        /// What came back.
        answer: LeaseWriteResult,
    },
    /// The server and its guard were looked at.
    LocalObserved(Box<LocalObservation>),
    /// Other nodes were asked how far they are.
    PeersObserved(Vec<PeerView>),
    /// The record in a store that was used before is retired now.
    OldLeaseRetired(LeaseStoreId),
}

/// What a read of the lease brought.
#[derive(Clone, Debug)]
pub enum LeaseReadResult {
    /// The object, and its version.
    Found(ETag, Box<LeaseRecord>),
    /// There is no object.
    Missing,
    /// There is an object that this release cannot use.
    Unusable(LeaseFormatError),
    /// No answer came in time, or an error.
    Failed,
}

/// What a write of the lease brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseWriteResult {
    /// It is stored, as this version.
    Stored(ETag),
    /// The store says that its condition did not hold (412), that another write was under way (409)
    /// or that there is no object (404). After a lost answer that can be said of a write which took
    /// effect, so it decides nothing: a read does.
    Rejected,
    /// No answer came in time, or an error.
    Unknown,
}

/// What was seen of this node's own server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalObservation {
    /// The server.
    pub server: ServerView,
    /// The deadline that guard holds; none when it is not armed or does not answer.
    pub armed: Option<GuardDeadline>,
    /// Since when guard wants a renewal, because the machine was paused unseen.
    pub wants_renewal_since: Option<HostInstant>,
    /// What the server said, if it has lately proved that it accepts writes.
    pub primary: Option<PrimaryView>,
    /// What it answers.
    pub health: ServerHealth,
    /// Changes whenever a server that recovers or is being promoted has replayed more.
    pub replay: Option<u64>,
    /// How many postmasters guard has started; none while guard does not answer.
    pub starts: Option<u64>,
    /// The identifier in the control file; none while there is none.
    pub system_id: Option<SystemId>,
    /// Whether the WAL on this host's disk reaches the position in the lease record.
    pub holds_position: bool,
    /// Whether the acknowledgement of commits is held back: of a standby, by its own account of the setting
    /// in force; of a server that may write, as guard has it.
    pub holds_back: bool,
    /// A timeline that guard found in use when it was told to promote onto that number or a lower one.
    pub taken_timeline: Option<Timeline>,
    /// Where the timeline comes from that the server is on; none while that is not known.
    pub ancestry: Option<TimelineHistory>,
}

/// What a server answers, whatever guard sees of its processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHealth {
    /// Nothing.
    #[default]
    Silent,
    /// That it is starting (SQLSTATE 57P03), or that it is in recovery.
    Recovering,
    /// Questions, and has proved a write lately.
    Writes,
    /// Questions, or that it has no connection left; a write it has not proved lately.
    Unproven(WriteProbeFailure),
}

/// Why a server that answers proves no write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteProbeFailure {
    /// The write has not returned: the disk stalls.
    #[error("a write has not returned")]
    Stalled,
    /// Clients have taken every connection, so none is left to ask with. They are being served.
    #[error("all connections are in use")]
    NoConnectionLeft,
    /// It gives out no more transaction ids until a VACUUM has advanced the oldest (SQLSTATE 54000), and
    /// so would every standby of it.
    #[error("no transaction IDs are left: run VACUUM")]
    XidLimit,
    /// The disk is full (SQLSTATE 53100).
    #[error("the disk is full")]
    DiskFull,
    /// It answers, and refuses the agent's connection or what that asks: its role, database or
    /// `pg_hba.conf` is another than the agent's settings say. Its clients may be served all the same.
    #[error(
        "it rejects the agent's connection: check `[postgres] user`, its privileges and `pg_hba.conf`; the agent's log has the error"
    )]
    Refused,
    /// It answers the write with another error.
    #[error("a write fails")]
    Error,
}

impl WriteProbeFailure {
    /// Says whether clients are served all the same, or would be no better on another node.
    pub const fn is_no_reason_to_move(self) -> bool {
        matches!(
            self,
            Self::NoConnectionLeft | Self::XidLimit | Self::Refused
        )
    }
}

/// A server that accepts writes, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryView {
    /// Its place in the log and its pace.
    pub position: PrimaryPosition,
    /// The identifier of its database.
    pub system_id: SystemId,
}
