//! What is known of this host's server.

use causeway_core::HostInstant;
use causeway_core::agent::{PrimaryView, WriteProbeFailure};
use causeway_core::failover::observation::ReplayProgress;

/// What is known of the server at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PostgresState {
    /// What it answered last, and when.
    pub(crate) answer: Option<(HostInstant, ServerAnswer)>,
    /// When the last write that it has flushed was sent.
    pub(crate) proven_at: Option<HostInstant>,
    /// Why it proves no write, and since when that is seen.
    pub(crate) failure: Option<(HostInstant, WriteProbeFailure)>,
    /// Changes whenever more WAL is replayed.
    pub(crate) replay: Option<u64>,
    /// What keeps clients of a primary that proves writes from writing.
    pub(crate) hindrance: Option<WriteHindrance>,
}

/// What keeps clients from writing, although the server can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteHindrance {
    /// `default_transaction_read_only` is on.
    ReadOnlyDefault,
    /// Clients have taken every connection that is not reserved for superusers.
    ConnectionsExhausted,
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerAnswer {
    /// That it is starting, or shutting down: SQLSTATE 57P03.
    NotYet,
    /// That it has no connection left: SQLSTATE 53300.
    NoConnectionLeft,
    /// That it does not serve the agent, and what that means for a write.
    Refused(WriteProbeFailure),
    /// It is in recovery.
    Standby(StandbyAnswer),
    /// It accepts writes, by its own account.
    Primary(PrimaryView),
}

/// A standby, as it describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StandbyAnswer {
    /// How far it has come.
    pub(crate) progress: ReplayProgress,
    /// Whether it receives at this moment.
    pub(crate) streaming: bool,
    /// Whether somebody has paused its replay.
    pub(crate) replay_paused: bool,
    /// Whether it would hold back the acknowledgement of commits once it is promoted.
    pub(crate) holds_back: bool,
    /// When the last transaction it replayed was committed.
    pub(crate) replayed_commit_at_micros: Option<u64>,
}
