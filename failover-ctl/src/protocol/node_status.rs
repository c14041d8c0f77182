//! What a node says of itself: the answer to `GET /status`, and a row of `failover-ctl status`.

use causeway_core::failover::decision::Decision;
use causeway_core::failover::observation::{DataDirectoryState, ReplayProgress};
use causeway_core::guard::PostgresProcess;
use causeway_core::lease::{LeaseRecord, LeaseStoreId, SystemId};
use causeway_core::lsn::Ancestor;
use causeway_core::problem::ProblemKind;
use causeway_core::{Epoch, Lsn, NodeId, Region, Timeline};
use serde::{Deserialize, Serialize};

/// One node, as its own agent sees it. Fields may be added; none changes its meaning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    /// The version of this answer.
    pub(crate) format: u32,
    /// The cluster of the node.
    pub(crate) cluster: String,
    /// The release of the agent.
    pub(crate) version: String,
    /// The node.
    pub(crate) node: NodeId,
    /// Its region.
    pub(crate) region: Region,
    /// Its availability zone.
    pub(crate) zone: String,
    /// The identity of its host, which no copy of the host's disk has.
    pub(crate) host_id: String,
    /// What it is.
    pub(crate) role: NodeRole,
    /// Whether it takes over by itself.
    pub(crate) automatic_failover: bool,
    /// The system identifier of its data directory.
    pub(crate) system_id: Option<SystemId>,
    /// What the directory was last used for.
    pub(crate) data_directory_state: Option<DataDirectoryState>,
    /// The server, as guard sees it; none if guard does not answer.
    pub(crate) server: Option<PostgresProcess>,
    /// How far it has come, if it follows.
    pub(crate) progress: Option<ReplayProgress>,
    /// The ancestors of the timeline that it follows, and where each was left; none while not known.
    #[serde(default)]
    pub(crate) ancestors: Option<Vec<Ancestor>>,
    /// Whether it receives from its primary at this moment.
    pub(crate) streaming: bool,
    /// When the last transaction that it has replayed was committed: microseconds since 1970, by the
    /// primary's clock.
    pub(crate) replayed_commit_at_micros: Option<u64>,
    /// Where it writes, if it is primary.
    pub(crate) wal_position: Option<WalPosition>,
    /// The lease, as this node knows it.
    pub(crate) lease: Option<LeaseStatus>,
    /// Guard's deadline.
    pub(crate) guard: GuardStatus,
    /// Why it does not take over, in words; none while it holds the lease.
    pub(crate) decision: Option<String>,
    /// What it would do if the primary were lost now; none while it holds the lease.
    #[serde(default)]
    pub(crate) forecast: Option<Forecast>,
    /// The lease store that it uses.
    #[serde(default)]
    pub(crate) lease_store: Option<LeaseStoreId>,
    /// What it does to follow, in words, while it takes longer than a moment.
    pub(crate) standby_setup: Option<String>,
    /// What keeps it from doing its part.
    pub(crate) problems: Vec<ProblemStatus>,
    /// The highest record that it ever trusted: it refuses any below.
    pub(crate) highest: HighestRecord,
    /// For how long a holder's PostgreSQL has not proved a write, in seconds; none on other nodes.
    pub(crate) unproven_secs: Option<f64>,
    /// How far it is with the last command to come back.
    #[serde(default)]
    pub(crate) rejoin: Option<RejoinStatus>,
}

/// What a node is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeRole {
    /// It holds the lease and accepts writes.
    Primary,
    /// It holds the lease and is on its way.
    Promoting,
    /// It follows.
    Standby,
    /// It does neither.
    Stopped,
}

impl std::fmt::Display for NodeRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Promoting => "promoting",
            Self::Standby => "standby",
            Self::Stopped => "stopped",
        })
    }
}

/// Where a primary writes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct WalPosition {
    /// The timeline.
    pub(crate) timeline: Timeline,
    /// Up to where its log is flushed.
    pub(crate) flush_lsn: Lsn,
    /// When it last saw a commit: microseconds since 1970 by its own clock.
    pub(crate) last_commit_at_micros: u64,
}

/// A lease record, and for how long a node has known it to stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LeaseStatus {
    /// The record.
    pub(crate) record: LeaseRecord,
    /// For how long it has stood: since the renewal was sent for the holder, since the answer that
    /// first showed it for the others, in seconds.
    pub(crate) age_secs: f64,
    /// For how long it is confirmed to have stood, in seconds: up to the sending of the last read that
    /// showed it. A node that cannot read the store confirms nothing.
    pub(crate) stood_secs: f64,
    /// Whether it is over: released, or confirmed to have stood for the whole term.
    pub(crate) expired: bool,
}

/// The place of a record in the order of all records, as it is also kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HighestRecord {
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// Its sequence.
    pub(crate) sequence: u64,
    /// The highest timeline that was reserved by it.
    #[serde(default)]
    pub(crate) timeline: Option<Timeline>,
    /// The store that it was read from.
    #[serde(default)]
    pub(crate) store: Option<LeaseStoreId>,
}

impl HighestRecord {
    /// Record of a node that has trusted none yet: every stored record is newer.
    pub(crate) const NONE: Self = Self {
        epoch: Epoch::new(0),
        sequence: 0,
        timeline: None,
        store: None,
    };
}

/// What a node would do if the primary were lost now, by the function that will decide it then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forecast {
    /// Whether it would take over automatically.
    pub(crate) takes_over: bool,
    /// Why not; none if it would.
    pub(crate) why: Option<String>,
}

impl From<Decision> for Forecast {
    fn from(decision: Decision) -> Self {
        let why = match decision {
            Decision::TakeLease(_) => None,
            Decision::NoAction(why) => Some(why.to_string()),
            Decision::Escalate(why) => Some(why.to_string()),
        };
        Self {
            takes_over: why.is_none(),
            why,
        }
    }
}

/// An answer to a question that was put to another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StatusMismatch {
    /// Another node's agent answers at this address.
    #[error("`{found}` answers where `{expected}` was asked: check `agent` in `[[nodes]]`")]
    Node {
        /// Who was asked.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// Another cluster's agent answers.
    #[error("`{node}` is asked in cluster `{expected}`, and answers for cluster `{found}`")]
    Cluster {
        /// Who was asked.
        node: NodeId,
        /// In which cluster.
        expected: String,
        /// The cluster of the answer.
        found: String,
    },
    /// Its database is another than the lease's.
    #[error(
        "the database of `{node}` has the system identifier {found}, and the lease is of {expected}"
    )]
    Database {
        /// Who was asked.
        node: NodeId,
        /// The lease's.
        expected: SystemId,
        /// The node's.
        found: SystemId,
    },
}

impl NodeStatus {
    /// Checks that this is the answer of `node` in `cluster`, and that the lease in it is that cluster's.
    ///
    /// # Errors
    ///
    /// [`StatusMismatch`], which says who answers instead.
    pub(crate) fn check_source(&self, cluster: &str, node: &NodeId) -> Result<(), StatusMismatch> {
        let other = |found: &str| StatusMismatch::Cluster {
            node: node.clone(),
            expected: cluster.to_owned(),
            found: found.to_owned(),
        };
        if self.cluster != cluster {
            return Err(other(&self.cluster));
        }
        if self.node != *node {
            let (expected, found) = (node.clone(), self.node.clone());
            return Err(StatusMismatch::Node { expected, found });
        }
        match &self.lease {
            Some(seen) if seen.record.cluster != cluster => Err(other(&seen.record.cluster)),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks that its database, if it has one, is that of the lease.
    ///
    /// # Errors
    ///
    /// [`StatusMismatch::Database`].
    pub(crate) fn check_database(&self, record: &LeaseRecord) -> Result<(), StatusMismatch> {
        match self.system_id {
            Some(found) if found != record.system_id => Err(StatusMismatch::Database {
                node: self.node.clone(),
                expected: record.system_id,
                found,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// One problem, as `/status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProblemStatus {
    /// Which condition.
    pub(crate) problem: ProblemKind,
    /// What was seen of it last.
    pub(crate) detail: String,
    /// For how long it has stood, in seconds.
    pub(crate) since_secs: f64,
}

/// How far this node is with the last command to come back, for `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RejoinStatus {
    /// The order's number.
    pub(crate) command: String,
    /// Whether the node streams since.
    pub(crate) completed: bool,
    /// Why the last attempt failed; it is tried again.
    pub(crate) failure: Option<String>,
}

/// Guard, as its agent knows it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GuardStatus {
    /// Whether it answers.
    pub(crate) responding: bool,
    /// The epoch of its deadline, if it was ever fed one.
    pub(crate) epoch: Option<Epoch>,
    /// How long PostgreSQL may go on accepting writes, in seconds; zero once the deadline is over.
    pub(crate) remaining_secs: f64,
}
