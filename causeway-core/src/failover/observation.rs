//! Observation of the cluster by one node: the input of a failover decision.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::collation::{CollationDifference, CollationVersion};
use crate::lease::{LeaseState, PrimaryPosition, SystemId};
use crate::lsn::Ancestor;
use crate::{Epoch, Lsn, NodeId, Timeline};

/// Input of a candidate's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// This node.
    pub node: NodeId,
    /// Identity of its host.
    pub host_id: String,
    /// System identifier of its database; none without a database.
    pub system_id: Option<SystemId>,
    /// Whether the WAL on its disk reaches the position in the lease.
    pub holds_position: bool,
    /// Whether its standby would hold back the acknowledgement of commits after a promotion.
    pub holds_back: bool,
    /// Difference of its collation versions from those with which its indexes were written.
    pub collation_difference: Option<CollationDifference>,
    /// Ancestors of its server's timeline; empty while they are unknown.
    pub ancestors: Vec<Ancestor>,
    /// Newest lease record; none if it never read one.
    pub lease: Option<LeaseView>,
    /// State of its server.
    pub server: ServerView,
    /// Reports of the other nodes, at most two seconds old.
    pub peers: Vec<PeerView>,
}

/// A lease record, and for how long it has been unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Holder of the lease.
    pub holder: NodeId,
    /// Identity of the holder's host.
    pub host_id: String,
    /// System identifier of the lease's database.
    pub system_id: SystemId,
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// State of the lease.
    pub state: LeaseState,
    /// Time for which this version has been unchanged, from the response that first returned it, by the slower
    /// clock.
    pub age: Duration,
    /// Last position recorded by a primary.
    pub last_position: Option<PrimaryPosition>,
    /// Node that recorded the position.
    pub last_primary: Option<NodeId>,
    /// Highest reserved timeline.
    pub highest_reserved_timeline: Timeline,
}

/// State of the server on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerView {
    /// Guard does not respond, so no server can be started or promoted.
    Unguarded,
    /// No process of it is left; its control file has its last use.
    Stopped(DataDirectoryState),
    /// It runs, and has not recently reported its progress.
    Unresponsive,
    /// It is a consistent standby that accepts connections.
    Standby(ReplayProgress),
    /// It may accept writes. Without a lease of this node, guard is about to stop it.
    MayWrite,
}

/// Last use of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataDirectoryState {
    /// Empty, or not a data directory.
    Empty,
    /// A primary's: it may hold WAL that no other node has.
    Primary,
    /// A standby's.
    Standby,
    /// `pg_rewind` was started and has not finished: no server may be started from it.
    Rewinding,
    /// Unknown, because the control file cannot be read. Only a command changes the directory.
    Unreadable,
}

/// Progress of a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// Timeline that it follows: that of the last received WAL.
    pub timeline: Timeline,
    /// End of the WAL on its disk, received by streaming or replayed from the archive.
    pub received_lsn: Lsn,
    /// End of the replayed WAL.
    pub replayed_lsn: Lsn,
}

impl ReplayProgress {
    /// Returns whether this standby has all WAL up to `last` although it follows a newer timeline: it
    /// streamed from a node that was promoted with that WAL and never accepted writes.
    pub fn descends_from(self, last: &PrimaryPosition, ancestors: &[Ancestor]) -> bool {
        let left = ancestors
            .iter()
            .find(|ancestor| ancestor.timeline == last.timeline);
        self.timeline > last.timeline
            && left.is_some_and(|ancestor| {
                ancestor.left_at >= last.flush_lsn && self.received_lsn >= ancestor.left_at
            })
    }
}

/// Report of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Node that reports.
    pub node: NodeId,
    /// Whether it may take over automatically.
    pub automatic: bool,
    /// System identifier of its database; none without a database.
    pub system_id: Option<SystemId>,
    /// Highest epoch that it ever trusted, in any lease store.
    pub highest: Epoch,
    /// Its progress; none if it is not a standby.
    pub progress: Option<ReplayProgress>,
    /// Collation versions of a primary; none on other nodes, and while they are unknown.
    pub primary_collations: Option<BTreeSet<CollationVersion>>,
}
