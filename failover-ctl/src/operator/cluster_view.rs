//! Gathers what a command has to know: every node at once, and the lease from the store itself.

use std::collections::BTreeMap;

use causeway_core::NodeId;
use causeway_core::failover::loss::{self, DataLoss};
use causeway_core::lease::{LeaseRecord, LeaseState};
use serde::Serialize;

use crate::clients::agents::{AgentClient, StatusError};
use crate::clients::lease_store::LeaseStore;
use crate::config::{NodeSettings, Settings};
use crate::protocol::node_status::{NodeRole, NodeStatus, StatusMismatch};

/// The cluster, as it looks from here.
#[derive(Debug)]
pub(crate) struct ClusterView<'a> {
    pub(crate) settings: &'a Settings,
    /// In the order of the settings; none for a node that does not answer.
    pub(crate) nodes: Vec<(&'a NodeSettings, Option<NodeStatus>)>,
    /// The lease in the store, or why it is not known.
    pub(crate) lease: Result<Option<LeaseRecord>, String>,
    /// Nodes whose answer is not used, because it is another's, or of another database.
    pub(crate) mismatches: BTreeMap<NodeId, StatusMismatch>,
}

/// What would happen if the primary were lost now.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum FailoverForecast {
    /// A node would take over by itself.
    Automatic {
        /// Which.
        node: NodeId,
        /// How many bytes it is behind now.
        behind_bytes: u64,
        /// What could be lost.
        data_loss: DataLoss,
    },
    /// A node could be promoted by command.
    Manual {
        /// Which.
        node: NodeId,
        /// What would be lost.
        data_loss: DataLoss,
        /// Why no node would take over automatically.
        why: String,
    },
    /// Nobody could take over.
    NoCandidate {
        /// Why.
        why: String,
    },
}

/// Asks everybody at once.
pub(crate) async fn cluster<'a>(
    settings: &'a Settings,
    store: &LeaseStore,
    agents: &AgentClient,
) -> ClusterView<'a> {
    let (statuses, lease) = tokio::join!(agents.statuses(settings), store.lease());
    gathered(settings, statuses, lease.map_err(|error| error.to_string()))
}

/// Puts together what was answered, and leaves out what is not this cluster's.
fn gathered(
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
            Err(StatusError::Silent(_)) => None,
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
    /// Returns the lease: the store's, or the newest that a node has seen.
    pub(crate) fn record(&self) -> Option<&LeaseRecord> {
        let seen = self
            .statuses()
            .filter_map(|status| status.lease.as_ref())
            .map(|lease| &lease.record);
        let stored = self.lease.as_ref().ok().and_then(Option::as_ref);
        let stored = stored.filter(|record| record.cluster == self.settings.cluster);
        seen.chain(stored).max_by_key(|record| record.order())
    }

    /// Returns the nodes that answer.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter_map(|(_, status)| status.as_ref())
    }

    /// Returns what a node says of itself.
    pub(crate) fn status(&self, node: &NodeId) -> Option<&NodeStatus> {
        self.statuses().find(|status| status.node == *node)
    }

    /// Returns the node that accepts writes, if it answers.
    pub(crate) fn primary(&self) -> Option<&NodeStatus> {
        self.statuses()
            .find(|status| status.role == NodeRole::Primary)
    }

    /// States what is lost if a node is promoted now; none if that cannot be said.
    pub(crate) fn loss(&self, node: &NodeStatus) -> Option<DataLoss> {
        loss::estimate_loss(
            self.record()?,
            node.progress?,
            node.ancestors.as_deref(),
            &self.settings.timing,
        )
    }

    /// Says why nothing is known of a node.
    pub(crate) fn why_unknown(&self, node: &NodeId) -> String {
        self.mismatches.get(node).map_or_else(
            || "its agent does not answer: start it".to_owned(),
            ToString::to_string,
        )
    }

    /// Says who would take over if the primary were lost now. Whether a node does so automatically is its
    /// own forecast, made by the function that decides.
    pub(crate) fn forecast(&self) -> FailoverForecast {
        let nobody = |why: &str| FailoverForecast::NoCandidate {
            why: why.to_owned(),
        };
        let Some(record) = self.record() else {
            return nobody("no lease is known");
        };
        match record.state {
            LeaseState::Paused => return nobody("the cluster is paused"),
            LeaseState::Retired => {
                return nobody("the lease is retired: see `failover-ctl replace-lease --help`");
            }
            LeaseState::Acquiring | LeaseState::Held | LeaseState::Released => {}
        }
        let Some(last) = record.last_position else {
            return nobody("no primary was ever open");
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
        let why = self.why_nobody_automatically(&record.holder.node);
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

    /// Says of each node but the holder why it would not take over automatically.
    fn why_nobody_automatically(&self, holder: &NodeId) -> String {
        let reason = |(node, status): &(&NodeSettings, Option<NodeStatus>)| {
            let why = match status {
                None => self.why_unknown(&node.name),
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
