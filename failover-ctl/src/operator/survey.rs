//! Evidence of an operator's command: the lease in the store, and the status of every node that responds.
//!
//! A record that only a node has read is no evidence for a promotion: a node that cannot read the store reports an old
//! one. Without a response of the store there is therefore no survey; with one, the newest record counts.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_core::NodeId;
use causeway_core::failover::loss_statement::{LeaseVersion, LossStatement, LossStatementStage};
use causeway_core::failover::promotion::{
    self, ClusterObservation, LeaseRole, NodeObservation, PromotionCandidate, PromotionRejected,
    PromotionRequest,
};
use causeway_core::lease::LeaseRecord;
use futures_util::future::join_all;
use tokio::time::{self, Instant};

use crate::clients::agents::{AgentClient, StatusError};
use crate::clients::lease_store::LeaseStore;
use crate::config::{NodeSettings, Settings};
use crate::error::Error;
use crate::operator::journal;
use crate::protocol::node_status::{NodeRole, NodeStatus};

/// Timeout of a node's status where nothing else shows whether the node is primary.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Timeout of a node's status where a live primary would be detected by its renewals. It exceeds the round trip between
/// two regions.
pub(crate) const QUICK_STATUS_TIMEOUT: Duration = Duration::from_millis(400);

/// State of the cluster at one time.
#[derive(Debug)]
pub(crate) struct ClusterSurvey {
    pub(crate) survey: ClusterObservation,
    /// Time of the first request.
    pub(crate) asked_at: Instant,
    roles: BTreeMap<NodeId, NodeRole>,
    /// Reason why a node's response is rejected.
    unusable: BTreeMap<NodeId, String>,
}

/// Reads the lease, and the status of every node concurrently.
///
/// # Errors
///
/// [`Error::Store`] when the store does not answer, [`Error::NoLease`] when it has no lease.
pub(crate) async fn query_cluster(
    settings: &Settings,
    store: &LeaseStore,
    agents: &AgentClient,
    timeout: Duration,
) -> Result<ClusterSurvey, Error> {
    let asked_at = Instant::now();
    let ask = |node| async move {
        let silent = |_| StatusError::Unresponsive(anyhow::anyhow!("no answer in time"));
        let asked = time::timeout(timeout, agents.query_status(node)).await;
        (node, asked.map_err(silent).and_then(|answer| answer))
    };
    let (lease, asked) = tokio::join!(store.lease(), join_all(settings.nodes.iter().map(ask)));
    let stored = lease?.ok_or_else(|| Error::NoLease(settings.cluster.clone()))?;
    stored
        .belongs_to(&settings.cluster, None)
        .map_err(Error::Foreign)?;
    let mut statuses = Vec::new();
    let mut unusable = BTreeMap::new();
    for (node, answer) in asked {
        let checked = answer.and_then(|status| {
            status.check_database(&stored)?;
            Ok(status)
        });
        match checked {
            Ok(status) => statuses.push(status),
            Err(StatusError::Unresponsive(_)) => {}
            Err(StatusError::StatusMismatch(why)) => {
                unusable.insert(node.name.clone(), why.to_string());
            }
        }
    }
    let lease = newest(stored, &statuses);
    let nodes = statuses.iter().map(node_observation).collect();
    let roles = statuses
        .into_iter()
        .map(|status| (status.node, status.role))
        .collect();
    Ok(ClusterSurvey {
        survey: ClusterObservation { lease, nodes },
        asked_at,
        roles,
        unusable,
    })
}

/// Returns the node of this name, or the nodes of the region of this name.
///
/// # Errors
///
/// [`Error::UnknownTarget`] when there is neither.
pub(crate) fn nodes_named<'a>(
    settings: &'a Settings,
    name: &str,
) -> Result<Vec<&'a NodeSettings>, Error> {
    let nodes = settings.nodes.iter();
    if let Some(node) = nodes.clone().find(|node| node.name.as_str() == name) {
        return Ok(vec![node]);
    }
    let there: Vec<_> = nodes.filter(|node| node.region.as_str() == name).collect();
    if there.is_empty() {
        return Err(Error::UnknownTarget(name.to_owned()));
    }
    Ok(there)
}

/// Returns the newest record: a node may have read one that was written after the store's response.
fn newest(stored: LeaseRecord, statuses: &[NodeStatus]) -> LeaseRecord {
    let seen = statuses.iter().filter_map(|status| status.lease.as_ref());
    let of_this = seen
        .map(|lease| &lease.record)
        .filter(|record| record.system_id == stored.system_id);
    let newest = of_this.max_by_key(|record| record.order()).cloned();
    match newest {
        Some(seen) if seen.order() > stored.order() => seen,
        Some(_) | None => stored,
    }
}

fn node_observation(status: &NodeStatus) -> NodeObservation {
    NodeObservation {
        node: status.node.clone(),
        role: match status.role {
            NodeRole::Primary => LeaseRole::Primary,
            NodeRole::Promoting => LeaseRole::Promoting,
            NodeRole::Standby | NodeRole::Stopped => LeaseRole::Other,
        },
        progress: status.progress,
        ancestors: status.ancestors.clone(),
        collation_difference: status
            .collations
            .as_ref()
            .and_then(|collations| collations.difference.clone()),
    }
}

impl ClusterSurvey {
    /// Returns the target of this name: a node, or the most advanced one of a region.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTarget`] when there is neither.
    pub(crate) fn target<'a>(
        &self,
        settings: &'a Settings,
        name: &str,
    ) -> Result<&'a NodeSettings, Error> {
        let nodes = nodes_named(settings, name)?;
        let far = |node: &&NodeSettings| {
            let observation = self
                .survey
                .nodes
                .iter()
                .find(|observation| observation.node == node.name);
            let progress = observation.and_then(|observation| observation.progress);
            progress.map(|progress| (progress.timeline, progress.received_lsn))
        };
        nodes
            .into_iter()
            .max_by_key(far)
            .ok_or_else(|| Error::UnknownTarget(name.to_owned()))
    }

    /// Decides whether a node may be promoted.
    ///
    /// # Errors
    ///
    /// The reason why not; nothing was changed.
    pub(crate) fn check(
        &self,
        settings: &Settings,
        request: PromotionRequest<'_>,
    ) -> Result<PromotionCandidate, Error> {
        promotion::check_promotion(&self.survey, request, &settings.timing).map_err(|refusal| {
            let node = request.to.to_string();
            match &refusal {
                PromotionRejected::AlreadyPrimary(node) => Error::AlreadyPrimary(node.to_string()),
                PromotionRejected::PrimaryHealthy(node) => Error::PrimaryHealthy(node.to_string()),
                PromotionRejected::NotAStandby => {
                    let role = self.roles.get(request.to).copied();
                    let role = role.unwrap_or(NodeRole::Stopped);
                    let why = format!("it is {role}, and not a consistent standby");
                    Error::NotPromotable { node, why }
                }
                PromotionRejected::Unresponsive => {
                    let why = self.unusable.get(request.to).cloned();
                    let why = why.unwrap_or_else(|| format!("{refusal}: start it"));
                    Error::NotPromotable { node, why }
                }
                PromotionRejected::Retired
                | PromotionRejected::OnAnotherTimeline { .. }
                | PromotionRejected::NotTheAcceptedTimeline { .. }
                | PromotionRejected::Behind { .. } => {
                    let why = refusal.to_string();
                    Error::NotPromotable { node, why }
                }
            }
        })
    }

    /// Returns the statement of the data loss, with its evidence.
    pub(crate) fn statement(
        &self,
        after: LossStatementStage,
        node: &NodeId,
        candidate: &PromotionCandidate,
    ) -> LossStatement {
        LossStatement {
            after,
            at: journal::now(),
            lease: LeaseVersion::from(&self.survey.lease),
            node: node.clone(),
            progress: candidate.progress,
            data_loss: candidate.loss,
        }
    }
}
