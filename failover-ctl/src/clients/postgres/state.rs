//! Last known state of the local server.

use std::sync::Arc;

use causeway_core::HostInstant;
use causeway_core::agent::{PrimaryView, WriteProbeFailure};
use causeway_core::failover::collation::NodeCollations;
use causeway_core::failover::observation::ReplayProgress;

/// Last known state of the local server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PostgresState {
    /// Last answer and its time.
    pub(crate) answer: Option<(HostInstant, ServerAnswer)>,
    /// Time when the last write that was flushed was sent.
    pub(crate) proven_at: Option<HostInstant>,
    /// Time and cause of the last failed write probe.
    pub(crate) failure: Option<(HostInstant, WriteProbeFailure)>,
    /// Fingerprint that changes with replay progress.
    pub(crate) replay: Option<u64>,
    /// Condition that keeps clients of a working primary from writing.
    pub(crate) hindrance: Option<WriteHindrance>,
    /// Collation versions, and the time when they were queried.
    pub(crate) collations: Option<(HostInstant, Arc<NodeCollations>)>,
}

/// Condition that keeps clients from writing although the server can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteHindrance {
    /// `default_transaction_read_only` is on.
    ReadOnlyDefault,
    /// Every connection that is not reserved for superusers is in use.
    ConnectionsExhausted,
}

/// Answer of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerAnswer {
    /// It is starting or shutting down: SQLSTATE 57P03.
    NotYet,
    /// Every connection is in use: SQLSTATE 53300.
    NoConnectionLeft,
    /// It rejects the agent's query; the consequence for writes.
    Refused(WriteProbeFailure),
    /// It is in recovery.
    Standby(StandbyAnswer),
    /// It reports that it accepts writes.
    Primary(PrimaryView),
}

/// Answer of a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StandbyAnswer {
    /// Received and replayed WAL positions.
    pub(crate) progress: ReplayProgress,
    /// Whether the walreceiver is streaming.
    pub(crate) streaming: bool,
    /// Whether replay is paused.
    pub(crate) replay_paused: bool,
    /// Whether it would hold back commit acknowledgements after a promotion.
    pub(crate) holds_back: bool,
    /// Commit time of the last replayed transaction.
    pub(crate) replayed_commit_at_micros: Option<u64>,
}
