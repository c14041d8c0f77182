//! Conditions that keep a node from doing its part, under one name in status, metric and log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A current condition, and its details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProblem {
    /// Condition.
    pub kind: ProblemKind,
    /// Details, in one phrase without secrets.
    pub detail: String,
}

impl NodeProblem {
    /// Returns a problem of `kind` with its details.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

/// Conditions that keep a node from doing its part. A name is never reused for another condition, because
/// alerts depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// No lease record has been read yet.
    LeaseUnknown,
    /// The lease object was deleted.
    LeaseMissing,
    /// The lease store has not answered for longer than a request may take.
    LeaseStoreUnreachable,
    /// The store returned a record that cannot be used, or one older than a record observed before.
    LeaseUnusable,
    /// The lease, or the local database, belongs to another cluster.
    ClusterMismatch,
    /// Another host holds the lease under this node's name.
    DuplicateNode,
    /// Guard does not respond.
    GuardUnresponsive,
    /// The holder's PostgreSQL has not proved a write.
    NotWriting,
    /// `default_transaction_read_only` is on, so clients cannot write.
    ReadOnlyDefault,
    /// Clients use every connection.
    ConnectionsExhausted,
    /// PostgreSQL stops soon after each start, or cannot be started.
    CannotStart,
    /// The holder's PostgreSQL stops repeatedly, though it may serve in between.
    CrashLooping,
    /// The holder's PostgreSQL replays WAL before it can accept writes.
    Replaying,
    /// No node has accepted writes for longer than a takeover takes.
    NoHolder,
    /// The lease has expired, and this node may not take it automatically.
    OperatorNeeded,
    /// This node's standby cannot become primary.
    NotPromotable,
    /// This node orders text by another version of a library than the primary, or than its indexes were built with.
    CollationDiffers,
    /// This node's standby does not receive WAL.
    NotStreaming,
    /// The lease names a primary that this node's settings do not know.
    UnknownPrimary,
    /// This node's WAL has diverged from the primary's history.
    Diverged,
    /// The primary has removed WAL that this standby still needs, and no archive has it.
    WalRemoved,
    /// WAL that only this node has could not be saved, so its data directory is not changed.
    DivergedWalNotSaved,
    /// The state directory has many saves of diverged WAL that no operator has removed.
    DivergedWalAccumulated,
    /// The rejoin of this node did not complete.
    RejoinFailed,
    /// Replay on this standby is paused.
    ReplayPaused,
    /// The lease in this node's store is retired, or another node reports a newer one in another store.
    LeaseRetired,
    /// The lease in the previous store could not be retired.
    OldLeaseNotRetired,
    /// This node lists other nodes than the holder of the lease.
    NodesDiffer,
    /// Another node or another cluster responds at a node's address.
    PeerMismatch,
    /// The user that PostgreSQL runs as can read the key that signs commands.
    CommandKeyExposed,
    /// The state directory cannot be written: this node loses its highest lease record when it restarts.
    StateNotStored,
    /// The configured watchdog device is not armed.
    WatchdogNotArmed,
    /// This node is primary, and a DNS record does not point to it yet.
    RecordNotMoved,
}

impl ProblemKind {
    /// Every kind, the most important for an operator first.
    pub const ALL: [Self; 33] = [
        Self::LeaseUnknown,
        Self::LeaseMissing,
        Self::LeaseStoreUnreachable,
        Self::LeaseUnusable,
        Self::ClusterMismatch,
        Self::DuplicateNode,
        Self::GuardUnresponsive,
        Self::NotWriting,
        Self::ReadOnlyDefault,
        Self::ConnectionsExhausted,
        Self::CannotStart,
        Self::CrashLooping,
        Self::Replaying,
        Self::NoHolder,
        Self::OperatorNeeded,
        Self::NotPromotable,
        Self::CollationDiffers,
        Self::NotStreaming,
        Self::UnknownPrimary,
        Self::Diverged,
        Self::WalRemoved,
        Self::DivergedWalNotSaved,
        Self::DivergedWalAccumulated,
        Self::RejoinFailed,
        Self::ReplayPaused,
        Self::LeaseRetired,
        Self::OldLeaseNotRetired,
        Self::NodesDiffer,
        Self::PeerMismatch,
        Self::CommandKeyExposed,
        Self::StateNotStored,
        Self::WatchdogNotArmed,
        Self::RecordNotMoved,
    ];

    /// Returns the name in status, metric and log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeaseUnknown => "lease-unknown",
            Self::LeaseMissing => "lease-missing",
            Self::LeaseStoreUnreachable => "lease-store-unreachable",
            Self::LeaseUnusable => "lease-unusable",
            Self::ClusterMismatch => "cluster-mismatch",
            Self::DuplicateNode => "duplicate-node",
            Self::GuardUnresponsive => "guard-unresponsive",
            Self::NotWriting => "not-writing",
            Self::ReadOnlyDefault => "read-only-default",
            Self::ConnectionsExhausted => "connections-exhausted",
            Self::CannotStart => "cannot-start",
            Self::CrashLooping => "crash-looping",
            Self::Replaying => "replaying",
            Self::NoHolder => "no-holder",
            Self::OperatorNeeded => "operator-needed",
            Self::NotPromotable => "not-promotable",
            Self::CollationDiffers => "collation-differs",
            Self::NotStreaming => "not-streaming",
            Self::UnknownPrimary => "unknown-primary",
            Self::Diverged => "diverged",
            Self::WalRemoved => "wal-removed",
            Self::DivergedWalNotSaved => "diverged-wal-not-saved",
            Self::DivergedWalAccumulated => "diverged-wal-accumulated",
            Self::RejoinFailed => "rejoin-failed",
            Self::ReplayPaused => "replay-paused",
            Self::LeaseRetired => "lease-retired",
            Self::OldLeaseNotRetired => "old-lease-not-retired",
            Self::NodesDiffer => "nodes-differ",
            Self::PeerMismatch => "peer-mismatch",
            Self::CommandKeyExposed => "command-key-exposed",
            Self::StateNotStored => "state-not-stored",
            Self::WatchdogNotArmed => "watchdog-not-armed",
            Self::RecordNotMoved => "record-not-moved",
        }
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_then_name_is_distinct_and_equals_json() {
        let names: BTreeSet<_> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.name()));
        }
    }
}
