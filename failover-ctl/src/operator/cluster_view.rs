//! View of the cluster for a command: the status of every node, and the lease from the store.

mod runbooks;

use std::collections::BTreeMap;

use causeway_core::NodeId;
use causeway_core::failover::loss::{self, DataLoss};
use causeway_core::lease::{LeaseRecord, LeaseState};
use serde::Serialize;

use crate::clients::agents::{AgentClient, StatusError};
use crate::clients::lease_store::LeaseStore;
use crate::config::{NodeSettings, Settings};
use crate::protocol::node_status::{NodeRole, NodeStatus, StatusMismatch};

/// Cluster as seen from this host.
#[derive(Debug)]
pub(crate) struct ClusterView<'a> {
    pub(crate) settings: &'a Settings,
    /// Nodes in the order of the settings, with their status; none for a node that does not respond.
    pub(crate) nodes: Vec<(&'a NodeSettings, Option<NodeStatus>)>,
    /// Lease in the store, or the reason why it is unknown.
    pub(crate) lease: Result<Option<LeaseRecord>, String>,
    /// Nodes whose response is rejected: another node, cluster or database responded.
    pub(crate) mismatches: BTreeMap<NodeId, StatusMismatch>,
}

/// Forecast of the failover if the primary were lost now.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum FailoverForecast {
    /// A node would take over automatically.
    Automatic {
        /// Candidate.
        node: NodeId,
        /// WAL that it has not received, in bytes.
        behind_bytes: u64,
        /// Possible data loss.
        data_loss: DataLoss,
    },
    /// A node could be promoted by command.
    Manual {
        /// Candidate.
        node: NodeId,
        /// Data loss of the promotion.
        data_loss: DataLoss,
        /// Reason why no node would take over automatically.
        why: String,
    },
    /// No node could take over.
    NoCandidate {
        /// Reason.
        why: String,
    },
}

/// Reads the lease and the status of every node concurrently.
pub(crate) async fn read<'a>(
    settings: &'a Settings,
    store: &LeaseStore,
    agents: &AgentClient,
) -> ClusterView<'a> {
    let (statuses, lease) = tokio::join!(agents.statuses(settings), store.lease());
    build_view(settings, statuses, lease.map_err(|error| error.to_string()))
}

/// Combines the responses, and separates those of another cluster or database.
fn build_view(
    settings: &Settings,
    statuses: Vec<Result<NodeStatus, StatusError>>,
    lease: Result<Option<LeaseRecord>, String>,
) -> ClusterView<'_> {
    let mut cluster = ClusterView {
        settings,
        nodes: Vec::new(),
        lease,
        mismatches: BTreeMap::new(),
    };
    for (node, status) in settings.nodes.iter().zip(statuses) {
        let status = match status {
            Ok(status) => Some(status),
            Err(StatusError::Unresponsive(_)) => None,
            Err(StatusError::StatusMismatch(mismatch)) => {
                cluster.mismatches.insert(node.name.clone(), mismatch);
                None
            }
        };
        cluster.nodes.push((node, status));
    }
    let Some(record) = cluster.record().cloned() else {
        return cluster;
    };
    for (node, status) in &mut cluster.nodes {
        let checked = status.as_ref().map(|status| status.check_database(&record));
        if let Some(Err(mismatch)) = checked {
            cluster.mismatches.insert(node.name.clone(), mismatch);
            *status = None;
        }
    }
    cluster
}

impl ClusterView<'_> {
    /// Returns the lease in the store, or the newest that a node has read.
    pub(crate) fn record(&self) -> Option<&LeaseRecord> {
        let seen = self
            .statuses()
            .filter_map(|status| status.lease.as_ref())
            .map(|lease| &lease.record);
        let stored = self.lease.as_ref().ok().and_then(Option::as_ref);
        let stored = stored.filter(|record| record.cluster == self.settings.cluster);
        seen.chain(stored).max_by_key(|record| record.order())
    }

    /// Returns the status of each node that responds.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter_map(|(_, status)| status.as_ref())
    }

    /// Returns the status of a node, if it responds.
    pub(crate) fn status(&self, node: &NodeId) -> Option<&NodeStatus> {
        self.statuses().find(|status| status.node == *node)
    }

    /// Returns the node that accepts writes, if it responds.
    pub(crate) fn primary(&self) -> Option<&NodeStatus> {
        self.statuses()
            .find(|status| status.role == NodeRole::Primary)
    }

    /// Estimates the data loss if a node is promoted now; none if the estimate is impossible.
    pub(crate) fn loss(&self, node: &NodeStatus) -> Option<DataLoss> {
        loss::estimate_loss(
            self.record()?,
            node.progress?,
            node.ancestors.as_deref(),
            &self.settings.timing,
        )
    }

    /// Returns the reason why a node's status is unknown.
    pub(crate) fn unknown_reason(&self, node: &NodeId) -> String {
        self.mismatches.get(node).map_or_else(
            || "its agent does not answer: start it".to_owned(),
            ToString::to_string,
        )
    }

    /// Forecasts the failover if the primary were lost now. Whether a node takes over automatically is its own
    /// forecast, made by the function that decides.
    pub(crate) fn forecast(&self) -> FailoverForecast {
        let no_candidate = |why: &str| FailoverForecast::NoCandidate {
            why: why.to_owned(),
        };
        let Some(record) = self.record() else {
            return no_candidate("no lease is known");
        };
        match record.state {
            LeaseState::Paused => return no_candidate("the cluster is paused"),
            LeaseState::Retired => {
                return no_candidate(
                    "the lease is retired: see `failover-ctl replace-lease --help`",
                );
            }
            LeaseState::Acquiring | LeaseState::Held | LeaseState::Released => {}
        }
        let Some(last) = record.last_position else {
            return no_candidate("no primary has ever accepted writes");
        };
        let far = |status: &&NodeStatus| status.progress.map(|own| own.received_lsn);
        let able = || {
            self.statuses()
                .filter(|status| {
                    status.role == NodeRole::Standby && status.node != record.holder.node
                })
                .filter(|status| {
                    status
                        .progress
                        .is_some_and(|own| own.timeline == last.timeline)
                })
        };
        let takes_over = |status: &&NodeStatus| {
            let current =
                status.lease.as_ref().map(|lease| lease.record.epoch) == Some(record.epoch);
            current
                && status
                    .forecast
                    .as_ref()
                    .is_some_and(|forecast| forecast.takes_over)
        };
        let best = able().filter(takes_over).max_by_key(far);
        if let Some((best, received, loss)) = best
            .and_then(|status| Some((status, status.progress?.received_lsn, self.loss(status)?)))
        {
            let written = self
                .primary()
                .and_then(|status| status.wal_position)
                .map(|position| position.flush_lsn);
            return FailoverForecast::Automatic {
                node: best.node.clone(),
                behind_bytes: written.unwrap_or(last.flush_lsn).bytes_since(received),
                data_loss: loss,
            };
        }
        let why = self.reasons_not_automatic(&record.holder.node);
        match able()
            .max_by_key(far)
            .and_then(|status| Some((status, self.loss(status)?)))
        {
            Some((node, loss)) => FailoverForecast::Manual {
                node: node.node.clone(),
                data_loss: loss,
                why,
            },
            None => FailoverForecast::NoCandidate {
                why: format!("no standby follows the last primary ({why})"),
            },
        }
    }

    /// Returns for each node but the holder the reason against an automatic takeover.
    fn reasons_not_automatic(&self, holder: &NodeId) -> String {
        let reason = |(node, status): &(&NodeSettings, Option<NodeStatus>)| {
            let why = match status {
                None => self.unknown_reason(&node.name),
                Some(NodeStatus {
                    forecast: Some(forecast),
                    ..
                }) => forecast
                    .why
                    .clone()
                    .unwrap_or_else(|| "it does not follow the newest lease yet".to_owned()),
                Some(_) => "it makes no forecast".to_owned(),
            };
            format!("`{}`: {why}", node.name)
        };
        let others = self.nodes.iter().filter(|(node, _)| node.name != *holder);
        let reasons: Vec<_> = others.map(reason).collect();
        if reasons.is_empty() {
            return "there is no other node".to_owned();
        }
        reasons.join("; ")
    }
}

#[cfg(test)]
mod tests;
