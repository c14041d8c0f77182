//! Conditions that keep a node from doing its part, under one name in status, metric and log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A condition that stands at this moment, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProblem {
    /// Which condition.
    pub kind: ProblemKind,
    /// What was seen, in one phrase without secrets.
    pub detail: String,
}

impl NodeProblem {
    /// Returns a problem of `kind`, with what was seen of it.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

/// The conditions. A name is never reused for another condition: alerts are written against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// No lease record has been read yet.
    LeaseUnknown,
    /// The lease object was deleted.
    LeaseMissing,
    /// The lease store has not answered for longer than a request may take.
    LeaseStoreUnreachable,
    /// The store showed a record that cannot be used, or an older one than was seen before.
    LeaseUnusable,
    /// The lease, or the local database, belongs to another cluster.
    ClusterMismatch,
    /// Another host writes this node's name into the lease.
    DuplicateNode,
    /// Guard does not answer.
    GuardSilent,
    /// The holder's PostgreSQL has not proved a write.
    NotWriting,
    /// `default_transaction_read_only` is on, so clients cannot write.
    ReadOnlyDefault,
    /// Clients have taken every connection.
    ConnectionsExhausted,
    /// PostgreSQL ended soon after each start, or could not be started.
    CannotStart,
    /// The holder's PostgreSQL ends again and again, though it may serve in between.
    KeepsEnding,
    /// The holder's PostgreSQL replays WAL before it can accept writes.
    Replaying,
    /// The lease was given up because PostgreSQL could not do its work, and no node holds it since.
    NoHolder,
    /// The lease has expired, and this node may not take it automatically.
    OperatorNeeded,
    /// This node's standby cannot become primary now.
    NotPromotable,
    /// This node's standby does not receive WAL.
    NotStreaming,
    /// The lease names a primary that this node's settings do not know.
    UnknownPrimary,
    /// This node's WAL has parted from the primary's history.
    Diverged,
    /// The primary has removed WAL that this standby still needs, and no archive gives it.
    WalRemoved,
    /// WAL that only this node has could not be saved, so its directory is not changed.
    DivergedWalNotSaved,
    /// Many saves of diverged WAL lie unexamined in the state directory.
    DivergedWalKept,
    /// The copy of the primary could not be finished.
    RejoinFailed,
    /// Replay on this standby is paused.
    ReplayPaused,
    /// The lease in this node's store is retired, or another node has seen a newer one elsewhere.
    LeaseRetired,
    /// The lease in the store that was used before could not be retired.
    OldLeaseNotRetired,
    /// This node lists other nodes than the holder of the lease.
    NodesDiffer,
    /// Another node or another cluster answers at a node's address.
    PeerMismatch,
    /// The user that PostgreSQL runs as can read the key that signs commands.
    CommandKeyExposed,
    /// The state directory takes no write: what this node has seen of the lease is lost when it restarts.
    StateNotKept,
    /// This node is primary, and a DNS record does not point at it yet.
    RecordNotMoved,
}

impl ProblemKind {
    /// Every kind, in the order of their names' importance to an operator.
    pub const ALL: [Self; 31] = [
        Self::LeaseUnknown,
        Self::LeaseMissing,
        Self::LeaseStoreUnreachable,
        Self::LeaseUnusable,
        Self::ClusterMismatch,
        Self::DuplicateNode,
        Self::GuardSilent,
        Self::NotWriting,
        Self::ReadOnlyDefault,
        Self::ConnectionsExhausted,
        Self::CannotStart,
        Self::KeepsEnding,
        Self::Replaying,
        Self::NoHolder,
        Self::OperatorNeeded,
        Self::NotPromotable,
        Self::NotStreaming,
        Self::UnknownPrimary,
        Self::Diverged,
        Self::WalRemoved,
        Self::DivergedWalNotSaved,
        Self::DivergedWalKept,
        Self::RejoinFailed,
        Self::ReplayPaused,
        Self::LeaseRetired,
        Self::OldLeaseNotRetired,
        Self::NodesDiffer,
        Self::PeerMismatch,
        Self::CommandKeyExposed,
        Self::StateNotKept,
        Self::RecordNotMoved,
    ];

    /// Returns the name that status, metric and log carry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeaseUnknown => "lease-unknown",
            Self::LeaseMissing => "lease-missing",
            Self::LeaseStoreUnreachable => "lease-store-unreachable",
            Self::LeaseUnusable => "lease-unusable",
            Self::ClusterMismatch => "cluster-mismatch",
            Self::DuplicateNode => "duplicate-node",
            Self::GuardSilent => "guard-silent",
            Self::NotWriting => "not-writing",
            Self::ReadOnlyDefault => "read-only-default",
            Self::ConnectionsExhausted => "connections-exhausted",
            Self::CannotStart => "cannot-start",
            Self::KeepsEnding => "keeps-ending",
            Self::Replaying => "replaying",
            Self::NoHolder => "no-holder",
            Self::OperatorNeeded => "operator-needed",
            Self::NotPromotable => "not-promotable",
            Self::NotStreaming => "not-streaming",
            Self::UnknownPrimary => "unknown-primary",
            Self::Diverged => "diverged",
            Self::WalRemoved => "wal-removed",
            Self::DivergedWalNotSaved => "diverged-wal-not-saved",
            Self::DivergedWalKept => "diverged-wal-kept",
            Self::RejoinFailed => "rejoin-failed",
            Self::ReplayPaused => "replay-paused",
            Self::LeaseRetired => "lease-retired",
            Self::OldLeaseNotRetired => "old-lease-not-retired",
            Self::NodesDiffer => "nodes-differ",
            Self::PeerMismatch => "peer-mismatch",
            Self::CommandKeyExposed => "command-key-exposed",
            Self::StateNotKept => "state-not-kept",
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
    fn names_are_distinct_and_those_of_the_json() {
        let names: BTreeSet<_> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.name()));
        }
    }
}
