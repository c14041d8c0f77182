//! Check that a node may be promoted by command: when a plan is made, and before each step that relies on it.

use super::collation::CollationDifference;
use super::loss::{self, DataLoss};
use super::observation::ReplayProgress;
use crate::lease::{LeaseRecord, LeaseState, LeaseTiming};
use crate::lsn::Ancestor;
use crate::{NodeId, Timeline};

/// Observation of the cluster by an operator's command: the lease, and every node that responds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterObservation {
    /// Lease as the store returned it, or newer.
    pub lease: LeaseRecord,
    /// Nodes that respond.
    pub nodes: Vec<NodeObservation>,
}

/// Report of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeObservation {
    /// Node that reports.
    pub node: NodeId,
    /// Role that it reports.
    pub role: LeaseRole,
    /// Its progress, if it is a consistent standby.
    pub progress: Option<ReplayProgress>,
    /// Ancestors of the timeline of `progress`; none while they are unknown.
    pub ancestors: Option<Vec<Ancestor>>,
    /// Difference of its collation versions from those with which its indexes were written.
    pub collation_difference: Option<CollationDifference>,
}

/// Role of a node with regard to the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRole {
    /// It holds the lease and accepts writes.
    Primary,
    /// It holds the lease and does not accept writes yet.
    Promoting,
    /// It does not hold the lease.
    Other,
}

/// A promotion that the operator requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromotionRequest<'a> {
    /// Node to promote.
    pub to: &'a NodeId,
    /// Timeline of that node, accepted although the last primary wrote on another.
    pub accept_timeline: Option<Timeline>,
    /// Whether EC2 reports the old primary's instance as stopped, which outranks the last report of its agent.
    pub old_primary_stopped: bool,
}

/// A node that may be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromotionCandidate {
    /// Its progress.
    pub progress: ReplayProgress,
    /// Data loss of its promotion; none if no primary has accepted writes yet.
    pub loss: Option<DataLoss>,
    /// Difference of its collation versions from those with which its indexes were written.
    pub collation_difference: Option<CollationDifference>,
}

/// Reason why a node may not be promoted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromotionRejected {
    /// The target holds the lease.
    #[error("`{0}` holds the lease already")]
    AlreadyPrimary(NodeId),
    /// A node holds the lease and accepts writes.
    #[error("`{0}` is primary and answers")]
    PrimaryHealthy(NodeId),
    /// The lease is retired: another lease in another store replaces it.
    #[error("the lease in this store is retired: name the store that replaced it in `[lease]`")]
    Retired,
    /// The target's agent does not respond.
    #[error("its agent does not answer")]
    Unresponsive,
    /// The target is not a consistent standby.
    #[error("it is not a consistent standby")]
    NotAStandby,
    /// The target is on another timeline than the last primary, and that was not accepted by name.
    #[error(
        "it is on timeline {here}, and the last primary wrote on {there}; accept the loss with \
         `--accept-timeline {here}` ({loss})"
    )]
    OnAnotherTimeline {
        /// Timeline of the target.
        here: Timeline,
        /// Timeline of the last primary.
        there: Timeline,
        /// Data loss of the promotion.
        loss: DataLoss,
    },
    /// The target is not on the timeline that was accepted by name.
    #[error("it is on timeline {found}, and {accepted} was accepted")]
    NotTheAcceptedTimeline {
        /// Timeline of the target.
        found: Timeline,
        /// Timeline that was accepted.
        accepted: Timeline,
    },
    /// Another node has WAL that the target lacks.
    #[error("`{node}` {what}: promote `{node}`, or stop it first")]
    Behind {
        /// Other node.
        node: NodeId,
        /// Description of what it has.
        what: String,
    },
}

/// Decides whether a node may be promoted in place of the primary that the lease names.
///
/// # Errors
///
/// [`PromotionRejected`].
pub fn check_promotion(
    survey: &ClusterObservation,
    request: PromotionRequest<'_>,
    timing: &LeaseTiming,
) -> Result<PromotionCandidate, PromotionRejected> {
    let ClusterObservation { lease, nodes } = survey;
    let to = request.to;
    if lease.state == LeaseState::Retired {
        return Err(PromotionRejected::Retired);
    }
    let target = nodes.iter().find(|observation| observation.node == *to);
    let holds = |observation: &NodeObservation| observation.role != LeaseRole::Other;
    // A node that released the lease is a standby like any other.
    if target.map_or(lease.holder.node == *to, holds) {
        return Err(PromotionRejected::AlreadyPrimary(to.clone()));
    }
    let primary = nodes
        .iter()
        .filter(|observation| {
            !(request.old_primary_stopped && observation.node == lease.holder.node)
        })
        .find(|observation| observation.role == LeaseRole::Primary);
    if let Some(primary) = primary {
        return Err(PromotionRejected::PrimaryHealthy(primary.node.clone()));
    }
    let target = target.ok_or(PromotionRejected::Unresponsive)?;
    let own = target.progress.ok_or(PromotionRejected::NotAStandby)?;
    let loss = loss::estimate_loss(lease, own, target.ancestors.as_deref(), timing);
    if let Some(accepted) = request.accept_timeline
        && accepted != own.timeline
    {
        let found = own.timeline;
        return Err(PromotionRejected::NotTheAcceptedTimeline { found, accepted });
    }
    if let Some(refusal) = find_node_ahead(survey, to, own) {
        return Err(refusal);
    }
    if let (Some(last), Some(loss)) = (lease.last_position, loss)
        && own.timeline != last.timeline
        && request.accept_timeline.is_none()
        && !own.descends_from(&last, target.ancestors.as_deref().unwrap_or(&[]))
    {
        return Err(PromotionRejected::OnAnotherTimeline {
            here: own.timeline,
            there: last.timeline,
            loss,
        });
    }
    Ok(PromotionCandidate {
        progress: own,
        loss,
        collation_difference: target.collation_difference.clone(),
    })
}

/// Finds a node with WAL that the target lacks: on the last primary's timeline if the target is on another,
/// or further ahead on the target's timeline.
fn find_node_ahead(
    survey: &ClusterObservation,
    to: &NodeId,
    own: ReplayProgress,
) -> Option<PromotionRejected> {
    let last = survey.lease.last_position.map(|position| position.timeline);
    let others = survey
        .nodes
        .iter()
        .filter(|observation| observation.node != *to);
    let has = |observation: &NodeObservation| {
        let there = observation.progress?;
        if there.timeline == own.timeline && there.received_lsn > own.received_lsn {
            let bytes = there.received_lsn.bytes_since(own.received_lsn);
            return Some(format!("is {bytes} bytes of WAL ahead"));
        }
        let nearer = Some(there.timeline) == last && Some(own.timeline) != last;
        nearer.then(|| {
            let timeline = there.timeline;
            format!("is on timeline {timeline}, which the last primary wrote on")
        })
    };
    others.into_iter().find_map(|observation| {
        let node = observation.node.clone();
        has(observation).map(|what| PromotionRejected::Behind { node, what })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{LeaseHolder, NonceGenerator, PrimaryPosition, SystemId};
    use crate::lsn::TimelineHistory;
    use crate::{Epoch, Lsn};

    #[test]
    fn standby_with_all_wal_then_allowed() {
        let found = ask(&survey(&[standby("c", 2, 1000)])).unwrap();
        assert_eq!(found.loss.unwrap().known_bytes, 0);
    }

    #[test]
    fn primary_responds_then_rejected_unless_stopped() {
        let seen = survey(&[role("a", LeaseRole::Primary), standby("c", 2, 1000)]);
        assert_eq!(
            ask(&seen),
            Err(PromotionRejected::PrimaryHealthy(node("a")))
        );

        let to = node("c");
        let stopped = PromotionRequest {
            old_primary_stopped: true,
            ..request(&to)
        };
        assert!(check_promotion(&seen, stopped, &LeaseTiming::default()).is_ok());
        // A third node that is primary does not depend on the stopped instance.
        let seen = survey(&[role("b", LeaseRole::Primary), standby("c", 2, 1000)]);
        let found = check_promotion(&seen, stopped, &LeaseTiming::default());
        assert_eq!(found, Err(PromotionRejected::PrimaryHealthy(node("b"))));
    }

    #[test]
    fn target_that_holds_the_lease_then_already_primary() {
        let to = node("c");
        let already = Err(PromotionRejected::AlreadyPrimary(to.clone()));
        for is in [LeaseRole::Primary, LeaseRole::Promoting] {
            assert_eq!(ask(&survey(&[role("c", is)])), already);
        }
        let mut seen = survey(&[]);
        seen.lease.holder.node = to;
        assert_eq!(ask(&seen), already);
        // It released the lease, and is a standby again.
        seen.nodes = vec![standby("c", 2, 1000)];
        assert!(ask(&seen).is_ok());
    }

    #[test]
    fn silent_or_inconsistent_target_then_rejected() {
        assert_eq!(ask(&survey(&[])), Err(PromotionRejected::Unresponsive));
        let stopped = survey(&[role("c", LeaseRole::Other)]);
        assert_eq!(ask(&stopped), Err(PromotionRejected::NotAStandby));
    }

    #[test]
    fn earlier_timeline_then_allowed_only_by_its_number() {
        let seen = survey(&[standby("c", 1, 900)]);
        let refused = ask(&seen).unwrap_err();
        assert!(
            matches!(&refused, PromotionRejected::OnAnotherTimeline { loss, .. } if loss.known_bytes == 400),
            "{refused}"
        );
        assert!(refused.to_string().contains("--accept-timeline 1"));
        let to = node("c");
        let with = |number| {
            let accept_timeline = Timeline::new(number);
            let request = PromotionRequest {
                accept_timeline,
                ..request(&to)
            };
            check_promotion(&seen, request, &LeaseTiming::default())
        };
        assert_eq!(with(1).unwrap().loss.unwrap().known_bytes, 400);
        assert!(matches!(
            with(2),
            Err(PromotionRejected::NotTheAcceptedTimeline { .. })
        ));
    }

    #[test]
    fn other_node_has_more_wal_then_rejected() {
        let behind = |others: &[NodeObservation]| {
            let mut all = vec![standby("c", 2, 900)];
            all.extend_from_slice(others);
            matches!(ask(&survey(&all)), Err(PromotionRejected::Behind { .. }))
        };
        assert!(behind(&[standby("b", 2, 901)]));
        assert!(!behind(&[standby("b", 2, 900)]));
        assert!(!behind(&[standby("b", 1, 2000)]));

        let seen = survey(&[standby("c", 1, 900), standby("b", 2, 600)]);
        assert!(matches!(ask(&seen), Err(PromotionRejected::Behind { .. })));
    }

    fn ask(survey: &ClusterObservation) -> Result<PromotionCandidate, PromotionRejected> {
        check_promotion(survey, request(&node("c")), &LeaseTiming::default())
    }

    fn request(to: &NodeId) -> PromotionRequest<'_> {
        PromotionRequest {
            to,
            accept_timeline: None,
            old_primary_stopped: false,
        }
    }

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn role(name: &str, role: LeaseRole) -> NodeObservation {
        NodeObservation {
            node: node(name),
            role,
            progress: None,
            ancestors: None,
            collation_difference: None,
        }
    }

    fn standby(name: &str, timeline: u32, received: u64) -> NodeObservation {
        let received = Lsn::new(received);
        let progress = ReplayProgress {
            timeline: Timeline::new(timeline).unwrap(),
            received_lsn: received,
            replayed_lsn: received,
        };
        NodeObservation {
            progress: Some(progress),
            ..role(name, LeaseRole::Other)
        }
    }

    fn survey(nodes: &[NodeObservation]) -> ClusterObservation {
        let timeline = Timeline::new(2).unwrap();
        let ancestors = vec![Ancestor {
            timeline: Timeline::FIRST,
            left_at: Lsn::new(600),
        }];
        let position = PrimaryPosition {
            timeline,
            flush_lsn: Lsn::new(1000),
            last_commit_at_micros: 0,
            wal_bytes_per_sec: 0,
            rows_per_sec: 0,
            age_millis: 0,
        };
        let lease = LeaseRecord {
            format: 1,
            cluster: "main".into(),
            system_id: SystemId(1),
            epoch: Epoch::new(7),
            sequence: 1,
            nonce: NonceGenerator::new(1).generate(),
            holder: LeaseHolder {
                node: node("a"),
                host_id: String::new(),
                boot_id: String::new(),
            },
            state: LeaseState::Held,
            last_position: Some(position),
            last_primary: Some(node("a")),
            ancestry: Some(TimelineHistory::new(timeline, ancestors)),
            highest_reserved_timeline: timeline,
            synchronous_standby: None,
            members: Vec::new(),
            successor: None,
            unretired: None,
            idle_millis: 0,
        };
        ClusterObservation {
            lease,
            nodes: nodes.to_vec(),
        }
    }
}
