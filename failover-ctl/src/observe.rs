//! Gathers what a command has to know: every node at once, and the lease from the store itself.

use ha_core::failover::loss::{self, Loss};
use ha_core::lease::{LeaseRecord, LeaseState};
use ha_core::{NodeId, Region};
use serde::Serialize;

use crate::config::{NodeSettings, Settings};
use crate::error::Failure;
use crate::status::{NodeStatus, Role};
use crate::world::agents::Agents;
use crate::world::lease_store::LeaseStore;

/// The cluster, as it looks from here.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    pub(crate) settings: &'a Settings,
    /// In the order of the settings; none for a node that does not answer.
    pub(crate) nodes: Vec<(&'a NodeSettings, Option<NodeStatus>)>,
    /// The lease in the store, or why it is not known.
    pub(crate) lease: Result<Option<LeaseRecord>, String>,
}

/// What would happen if the primary were lost now.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// A node would take over by itself.
    Automatic {
        /// Which.
        node: NodeId,
        /// How many bytes it is behind now.
        behind_bytes: u64,
        /// What could be lost.
        loss: Loss,
    },
    /// A node could be promoted by command.
    ByCommand {
        /// Which.
        node: NodeId,
        /// What would be lost.
        loss: Loss,
    },
    /// Nobody could take over.
    Nobody {
        /// Why.
        why: String,
    },
}

/// Asks everybody at once.
pub(crate) async fn cluster<'a>(
    settings: &'a Settings,
    store: &LeaseStore,
    agents: &Agents,
) -> Cluster<'a> {
    let (statuses, lease) = tokio::join!(agents.statuses(settings), store.lease());
    let nodes = settings.nodes.iter().zip(statuses).collect();
    Cluster {
        settings,
        nodes,
        lease: lease.map_err(|it| it.to_string()),
    }
}

impl Cluster<'_> {
    /// Returns the lease: the store's, or the newest that a node has seen.
    pub(crate) fn record(&self) -> Option<&LeaseRecord> {
        let seen = self
            .statuses()
            .filter_map(|it| it.lease.as_ref())
            .map(|it| &it.record);
        let stored = self.lease.as_ref().ok().and_then(Option::as_ref);
        seen.chain(stored).max_by_key(|it| it.order())
    }

    /// Returns the nodes that answer.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter_map(|(_, status)| status.as_ref())
    }

    /// Returns what a node says of itself.
    pub(crate) fn status(&self, node: &NodeId) -> Option<&NodeStatus> {
        self.statuses().find(|it| it.node == *node)
    }

    /// Returns the node that accepts writes, if it answers.
    pub(crate) fn primary(&self) -> Option<&NodeStatus> {
        self.statuses().find(|it| it.role == Role::Primary)
    }

    /// Finds the node that a person means: its name, or the most advanced in a region.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownTarget`] when there is neither.
    pub(crate) fn target(&self, name: &str) -> Result<&NodeSettings, Failure> {
        if let Some((node, _)) = self
            .nodes
            .iter()
            .find(|(node, _)| node.name.as_str() == name)
        {
            return Ok(node);
        }
        let region: Option<Region> = name.parse().ok();
        let there = self
            .nodes
            .iter()
            .filter(|(node, _)| Some(&node.region) == region.as_ref());
        let far = |status: &Option<NodeStatus>| {
            status
                .as_ref()
                .and_then(|it| it.progress)
                .map(|it| (it.timeline, it.received))
        };
        let best = there.max_by_key(|(_, status)| far(status));
        best.map(|(node, _)| *node)
            .ok_or_else(|| Failure::UnknownTarget(name.to_owned()))
    }

    /// States what is lost if a node is promoted now; none if that cannot be said.
    pub(crate) fn loss(&self, node: &NodeStatus) -> Option<Loss> {
        let position = self.record()?.position?;
        Some(loss::state(
            &position,
            node.progress?,
            &self.settings.timing,
        ))
    }

    /// Says who would take over if the primary were lost now.
    pub(crate) fn verdict(&self) -> Verdict {
        let Some(record) = self.record() else {
            return Verdict::Nobody {
                why: "no lease is known".to_owned(),
            };
        };
        if record.state == LeaseState::Paused {
            return Verdict::Nobody {
                why: "the cluster is paused".to_owned(),
            };
        }
        let follows = |it: &&NodeStatus| it.role == Role::Standby && it.node != record.holder.node;
        let Some(last) = record.position else {
            return Verdict::Nobody {
                why: "no primary was ever open".to_owned(),
            };
        };
        let on_timeline =
            |it: &&NodeStatus| it.progress.is_some_and(|own| own.timeline == last.timeline);
        let far = |it: &&NodeStatus| it.progress.map(|own| own.received);
        let able = || self.statuses().filter(follows).filter(on_timeline);
        let best = able().filter(|it| it.automatic).max_by_key(far);
        if let Some((best, loss)) = best.and_then(|it| Some((it, self.loss(it)?))) {
            let written = self
                .primary()
                .and_then(|it| it.written)
                .map(|it| it.flush_lsn);
            let received = best.progress.map(|it| it.received).unwrap_or_default();
            let behind_bytes = written.unwrap_or(last.flush_lsn).bytes_since(received);
            if loss.known_bytes <= self.settings.policy.max_loss_bytes {
                return Verdict::Automatic {
                    node: best.node.clone(),
                    behind_bytes,
                    loss,
                };
            }
        }
        let by_command = able()
            .max_by_key(far)
            .and_then(|it| Some((it, self.loss(it)?)));
        match by_command {
            Some((node, loss)) => Verdict::ByCommand {
                node: node.node.clone(),
                loss,
            },
            None => Verdict::Nobody {
                why: "no standby follows the last primary".to_owned(),
            },
        }
    }
}
