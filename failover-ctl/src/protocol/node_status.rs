//! Status of a node: the response to `GET /status`, and a row of `failover-ctl status`.

use causeway_core::failover::collation::{CollationDifference, NodeCollations};
use causeway_core::failover::decision::Decision;
use causeway_core::failover::observation::{DataDirectoryState, ReplayProgress};
use causeway_core::guard::PostgresProcess;
use causeway_core::lease::{LeaseRecord, LeaseStoreId, SystemId};
use causeway_core::lsn::Ancestor;
use causeway_core::problem::ProblemKind;
use causeway_core::{Epoch, Lsn, NodeId, Region, Timeline};
use serde::{Deserialize, Serialize};

use crate::protocol::guard::WatchdogState;

/// Status of a node, as reported by its own agent. New versions may add fields, and keep the meaning of the existing
/// ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    /// Version of this format.
    pub(crate) format: u32,
    /// Cluster of the node.
    pub(crate) cluster: String,
    /// Version of the agent.
    pub(crate) version: String,
    /// Node.
    pub(crate) node: NodeId,
    /// AWS region.
    pub(crate) region: Region,
    /// Availability zone.
    pub(crate) zone: String,
    /// Identity of the host, which a copy of its disk does not have.
    pub(crate) host_id: String,
    /// Role.
    pub(crate) role: NodeRole,
    /// Whether automatic failover is on for the node.
    pub(crate) automatic_failover: bool,
    /// System identifier of the data directory.
    pub(crate) system_id: Option<SystemId>,
    /// Last use of the data directory.
    pub(crate) data_directory_state: Option<DataDirectoryState>,
    /// State of PostgreSQL, as the guard reports it; none if the guard does not respond.
    pub(crate) server: Option<PostgresProcess>,
    /// Received and replayed position of a standby.
    pub(crate) progress: Option<ReplayProgress>,
    /// Ancestors of the timeline that it follows, with the position of each fork; none while unknown.
    #[serde(default)]
    pub(crate) ancestors: Option<Vec<Ancestor>>,
    /// Whether it receives WAL from its primary.
    pub(crate) streaming: bool,
    /// Commit time of the last replayed transaction, by the primary's clock, in microseconds since 1970.
    pub(crate) replayed_commit_at_micros: Option<u64>,
    /// Write position of a primary.
    pub(crate) wal_position: Option<WalPosition>,
    /// Lease as last read by this node.
    pub(crate) lease: Option<LeaseStatus>,
    /// Guard and its deadline.
    pub(crate) guard: GuardStatus,
    /// Reason why it does not take over; none while it holds the lease.
    pub(crate) decision: Option<String>,
    /// Forecast for the loss of the primary; none while it holds the lease.
    #[serde(default)]
    pub(crate) forecast: Option<Forecast>,
    /// Collation versions of its server; none while they are unknown.
    #[serde(default)]
    pub(crate) collations: Option<CollationStatus>,
    /// Lease store that it uses.
    #[serde(default)]
    pub(crate) lease_store: Option<LeaseStoreId>,
    /// Present step of the standby's set-up, while one takes longer than a moment.
    pub(crate) standby_setup: Option<String>,
    /// Problems that keep it from its role.
    pub(crate) problems: Vec<ProblemStatus>,
    /// Highest lease record that it has trusted; it rejects lower ones.
    pub(crate) highest: HighestRecord,
    /// Time since PostgreSQL last verified a write, in seconds; none unless it holds the lease.
    pub(crate) unproven_secs: Option<f64>,
    /// Progress of the last `rejoin` command.
    #[serde(default)]
    pub(crate) rejoin: Option<RejoinStatus>,
}

/// Collation versions of a node's server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollationStatus {
    /// Versions that it has, and those in use that were recorded with other ones.
    #[serde(flatten)]
    pub(crate) node: NodeCollations,
    /// Difference from those with which its indexes were written; the node does not take over automatically.
    pub(crate) difference: Option<CollationDifference>,
}

/// Role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeRole {
    /// Holds the lease and accepts writes.
    Primary,
    /// Holds the lease and is being promoted or started.
    Promoting,
    /// Follows the primary.
    Standby,
    /// None of these.
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

/// Write position of a primary.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct WalPosition {
    /// Timeline.
    pub(crate) timeline: Timeline,
    /// Flushed position.
    pub(crate) flush_lsn: Lsn,
    /// Time of the last observed commit, by its own clock, in microseconds since 1970.
    pub(crate) last_commit_at_micros: u64,
}

/// Lease record and its age.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LeaseStatus {
    /// Record.
    pub(crate) record: LeaseRecord,
    /// Age in seconds: for the holder since it sent the renewal, for other nodes since the response that first
    /// contained the record.
    pub(crate) age_secs: f64,
    /// Confirmed age in seconds, up to the request of the last read that returned the record. It does not grow while
    /// the node cannot read the store.
    pub(crate) stood_secs: f64,
    /// Whether the lease has expired: it was released, or its confirmed age has reached the lease duration.
    pub(crate) expired: bool,
}

/// Position of a record in the order of all records, as also stored on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HighestRecord {
    /// Epoch.
    pub(crate) epoch: Epoch,
    /// Sequence.
    pub(crate) sequence: u64,
    /// Highest timeline that it reserves.
    #[serde(default)]
    pub(crate) timeline: Option<Timeline>,
    /// Store that it was read from.
    #[serde(default)]
    pub(crate) store: Option<LeaseStoreId>,
}

impl HighestRecord {
    /// Record of a node that has not trusted any yet: every stored record is newer.
    pub(crate) const NONE: Self = Self {
        epoch: Epoch::new(0),
        sequence: 0,
        timeline: None,
        store: None,
    };
}

/// Forecast for the loss of the primary, by the function that will decide then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forecast {
    /// Whether the node would take over automatically.
    pub(crate) takes_over: bool,
    /// Reason why not; none if it would.
    pub(crate) why: Option<String>,
    /// Name of the reason, as in the metric `failover_takeover_obstacle`.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

impl From<Decision> for Forecast {
    fn from(decision: Decision) -> Self {
        let reason = decision.obstacle().map(str::to_owned);
        let why = match decision {
            Decision::TakeLease(_) => None,
            Decision::NoAction(why) => Some(why.to_string()),
            Decision::Escalate(why) => Some(why.to_string()),
        };
        Self {
            takes_over: why.is_none(),
            why,
            reason,
        }
    }
}

/// Response of an unexpected node, cluster or database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StatusMismatch {
    /// Another node's agent answers at this address.
    #[error("`{found}` responded at the address of `{expected}`: check `agent` in `[[nodes]]`")]
    Node {
        /// Node that the request was for.
        expected: NodeId,
        /// Node that responded.
        found: NodeId,
    },
    /// Another cluster's agent answers.
    #[error("`{node}` belongs to cluster `{found}`, not `{expected}`")]
    Cluster {
        /// Node that the request was for.
        node: NodeId,
        /// Cluster that the request was for.
        expected: String,
        /// Cluster that responded.
        found: String,
    },
    /// The database is not the lease's.
    #[error(
        "the database of `{node}` has the system identifier {found}, and the lease is of {expected}"
    )]
    Database {
        /// Node.
        node: NodeId,
        /// System identifier in the lease.
        expected: SystemId,
        /// System identifier of the node's data directory.
        found: SystemId,
    },
}

impl NodeStatus {
    /// Checks that `node` of `cluster` sent this status, and that the lease in it is that cluster's.
    ///
    /// # Errors
    ///
    /// [`StatusMismatch`], which names the node or cluster that responded.
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

    /// Checks that the node's database, if it has one, is that of the lease.
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

/// Problem, as in `/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProblemStatus {
    /// Kind of problem.
    pub(crate) problem: ProblemKind,
    /// Last observation.
    pub(crate) detail: String,
    /// Time since it was first observed, in seconds.
    pub(crate) since_secs: f64,
}

/// Progress of the last `rejoin` command, as in `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RejoinStatus {
    /// Id of the command.
    pub(crate) command: String,
    /// Whether the node has streamed since.
    pub(crate) completed: bool,
    /// Reason why the last attempt failed; the agent retries.
    pub(crate) failure: Option<String>,
}

/// Guard, as seen by its agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GuardStatus {
    /// Whether it responds.
    pub(crate) responding: bool,
    /// Epoch of its last deadline, if it ever had one.
    pub(crate) epoch: Option<Epoch>,
    /// Time for which PostgreSQL may continue to accept writes, in seconds; zero once the deadline has passed.
    pub(crate) remaining_secs: f64,
    /// State of the watchdog device.
    #[serde(default)]
    pub(crate) watchdog: WatchdogState,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;
    use crate::test_lease::held_lease;

    fn sample() -> String {
        let lease = serde_json::to_string(&held_lease("a", Epoch::new(3))).unwrap();
        format!(
            r#"{{"format":1,"cluster":"main","version":"0.1.0","node":"a","region":"eu-west-1","zone":"eu-west-1a",
            "host_id":"h","role":"standby","automatic_failover":true,"system_id":"1","data_directory_state":"standby",
            "server":"standby","progress":{{"timeline":2,"received_lsn":"0/5000060","replayed_lsn":"0/5000060"}},
            "ancestors":[{{"timeline":1,"left_at":"0/3000148"}}],"streaming":true,"replayed_commit_at_micros":1,
            "wal_position":{{"timeline":2,"flush_lsn":"0/5000060","last_commit_at_micros":1}},
            "lease":{{"record":{lease},"age_secs":1.5,"stood_secs":1.0,"expired":false}},
            "guard":{{"responding":true,"epoch":3,"remaining_secs":4.5,"watchdog":"armed"}},"decision":"the lease is in force",
            "forecast":{{"takes_over":false,"why":"x","reason":"manual-only"}},
            "collations":{{"actual":[{{"provider":"libc","version":"2.36"}}],"stale":[{{"provider":"icu","recorded":"1","actual":"2"}}],
            "difference":{{"provider":"libc","here":"2.36","there":"2.31","primary":"b"}}}},"lease_store":{{"bucket":"b","region":"r"}},
            "standby_setup":null,"problems":[],"highest":{{"epoch":3,"sequence":9,"timeline":2}},"unproven_secs":null,
            "rejoin":{{"command":"1","completed":true,"failure":null}}}}"#
        )
    }

    #[test]
    fn undamaged_sample_then_parsed() {
        let status: NodeStatus = serde_json::from_str(&sample()).unwrap();
        assert_eq!(status.check_source("main", &"a".parse().unwrap()), Ok(()));
    }

    proptest! {
        #[test]
        fn damaged_node_status_then_no_panic(body in damaged(sample().as_bytes())) {
            let Ok(status) = serde_json::from_slice::<NodeStatus>(&body) else {
                return Ok(());
            };
            status.check_source("main", &"a".parse().unwrap()).ok();
            status.check_database(&held_lease("a", Epoch::new(3))).ok();
            let sent = serde_json::to_vec(&status).unwrap();
            let again: NodeStatus = serde_json::from_slice(&sent).unwrap();
            prop_assert_eq!(serde_json::to_vec(&again).unwrap(), sent);
        }
    }
}
