//! What an agent is told.

use std::time::Duration;

use crate::Moment;
use crate::failover::observation::{PeerView, ServerView};
use crate::guard::Deadline;
use crate::lease::{ETag, LeaseRecord, Nonce, Position, SystemId, Unreadable};

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A read of the lease was answered, or given up.
    Read {
        /// When it was sent.
        asked_at: Moment,
        /// What came back.
        answer: ReadAnswer,
    },
    /// A write of the lease was answered, or given up.
    Wrote {
        /// The nonce of the write.
        nonce: Nonce,
        /// What came back.
        answer: WriteAnswer,
    },
    /// The server and its guard were looked at.
    Looked(Look),
    /// Other nodes were asked how far they are.
    Heard(Vec<PeerView>),
}

/// What a read of the lease brought.
#[derive(Clone, Debug)]
pub enum ReadAnswer {
    /// The object, and its version.
    Found(ETag, Box<LeaseRecord>),
    /// There is no object.
    Missing,
    /// There is an object that this release cannot use.
    Unusable(Unreadable),
    /// No answer came in time, or an error.
    Failed,
}

/// What a write of the lease brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    /// It is stored, as this version.
    Stored(ETag),
    /// The store says that its condition did not hold (412), that another write was under way (409)
    /// or that there is no object (404). After a lost answer that can be said of a write which took
    /// effect, so it decides nothing: a read does.
    Refused,
    /// No answer came in time, or an error.
    Unknown,
}

/// What was seen of this node's own server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The server.
    pub server: ServerView,
    /// The deadline that guard holds; none when it is not armed or does not answer.
    pub armed: Option<Deadline>,
    /// Since when guard wants a renewal, because the machine was paused unseen.
    pub wants_renewal_since: Option<Moment>,
    /// What the server said, if it accepts writes.
    pub primary: Option<PrimaryView>,
    /// How long a server that could accept writes has answered nothing; zero while it answers.
    pub silent_for: Duration,
    /// Whether it says that it is still starting.
    pub starting: bool,
}

/// A server that accepts writes, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryView {
    /// Its place in the log and its pace.
    pub position: Position,
    /// The identifier of its database.
    pub system_id: SystemId,
}
