//! What one node can see at one moment, and how each thing was measured.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::{LeaseState, PrimaryPosition, SystemId};
use crate::lsn::Ancestor;
use crate::{Epoch, Lsn, NodeId, Timeline};

/// What a challenger knows when it asks itself whether to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The node that asks.
    pub node: NodeId,
    /// The identity of its host.
    pub host_id: String,
    /// The identifier of its database; none while there is none.
    pub system_id: Option<SystemId>,
    /// Whether the WAL on its disk reaches the lease's position.
    pub holds_position: bool,
    /// Whether its server, a standby, would hold back the acknowledgement of commits once it is promoted.
    pub holds_back: bool,
    /// Where the timeline comes from that its server is on; empty while that is not known.
    pub ancestors: Vec<Ancestor>,
    /// The newest lease record it read; none if it never read one.
    pub lease: Option<LeaseView>,
    /// Its own server.
    pub server: ServerView,
    /// What other nodes said when they were last asked, at most two seconds ago.
    pub peers: Vec<PeerView>,
}

/// A lease record, and for how long it has stood unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Who holds it.
    pub holder: NodeId,
    /// The identity of the holder's host.
    pub host_id: String,
    /// The identifier of the database that it is the lease of.
    pub system_id: SystemId,
    /// The number of its term.
    pub epoch: Epoch,
    /// What the holder does with it.
    pub state: LeaseState,
    /// How long this version has stood, from the answer that first showed it, by the slower clock.
    pub age: Duration,
    /// How far the last open primary had come.
    pub last_position: Option<PrimaryPosition>,
    /// The node that recorded the position.
    pub last_primary: Option<NodeId>,
    /// The highest timeline that was reserved.
    pub highest_reserved_timeline: Timeline,
}

/// The server on the node that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerView {
    /// Guard does not answer, so nothing can be started or promoted.
    Unguarded,
    /// No process of it is left, and its control file says what it last was.
    Stopped(DataDirectoryState),
    /// It runs, and has not (or not lately) said how far it is.
    Silent,
    /// It follows, is consistent, and accepts connections.
    Standby(ReplayProgress),
    /// It could accept writes, although this node holds no lease: guard is about to end it.
    MayWrite,
}

/// What a data directory was last used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataDirectoryState {
    /// It is empty, or not a data directory.
    Empty,
    /// A primary's: it may hold log that no other node has.
    Primary,
    /// A standby's.
    Standby,
    /// `pg_rewind` began on it and has not finished: nothing may be started from it.
    Rewinding,
}

/// How far a standby has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// The timeline it follows: that of the log it received last.
    pub timeline: Timeline,
    /// Up to where it holds the log on disk: received by streaming, or replayed from the archive.
    pub received_lsn: Lsn,
    /// Up to where it has replayed it.
    pub replayed_lsn: Lsn,
}

impl ReplayProgress {
    /// Returns whether this standby has all of the log up to `last` although it follows a newer timeline: it
    /// streamed from a node that was promoted with all of that, and never opened.
    pub fn descends_from(self, last: &PrimaryPosition, ancestors: &[Ancestor]) -> bool {
        let left = ancestors.iter().find(|ancestor| ancestor.timeline == last.timeline);
        self.timeline > last.timeline
            && left
                .is_some_and(|ancestor| ancestor.left_at >= last.flush_lsn && self.received_lsn >= ancestor.left_at)
    }
}

/// What another node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The other node.
    pub node: NodeId,
    /// Whether it, too, may take over without being told.
    pub automatic: bool,
    /// The identifier of its database; none while there is none.
    pub system_id: Option<SystemId>,
    /// The highest epoch that it ever trusted, in whichever store it saw it.
    pub highest: Epoch,
    /// How far it has come; none if it does not follow.
    pub progress: Option<ReplayProgress>,
}
