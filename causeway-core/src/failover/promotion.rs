//! Whether a node may be promoted by command: asked when a plan is made, and again before each step that
//! relies on the answer.

use super::loss::{self, DataLoss};
use super::observation::ReplayProgress;
use crate::lease::{LeaseRecord, LeaseState, LeaseTiming};
use crate::lsn::Ancestor;
use crate::{NodeId, Timeline};

/// The cluster at one moment: the lease, and every node that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterObservation {
    /// The lease. It is what the store answered with, or newer.
    pub lease: LeaseRecord,
    /// The nodes that answer.
    pub witnesses: Vec<NodeObservation>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeObservation {
    /// The node.
    pub node: NodeId,
    /// What it says that it is.
    pub part: LeaseRole,
    /// How far it has come, if it follows and is consistent.
    pub progress: Option<ReplayProgress>,
    /// The ancestors of the timeline of `progress`; none while that is not known.
    pub ancestors: Option<Vec<Ancestor>>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRole {
    /// It holds the lease and accepts writes.
    Primary,
    /// It holds the lease and is on its way.
    Promoting,
    /// It does not hold the lease.
    Other,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromotionRequest<'a> {
    /// The node to be promoted.
    pub to: &'a NodeId,
    /// The timeline of that node which is accepted although the last primary wrote on another.
    pub accept_timeline: Option<Timeline>,
    /// EC2 says that the old primary's instance is stopped, which outweighs what its agent answered.
    pub old_primary_stopped: bool,
}

/// A node that may be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromotionCandidate {
    /// How far it is.
    pub progress: ReplayProgress,
    /// What that may lose; none if no primary was ever open.
    pub loss: Option<DataLoss>,
}

/// Why a node may not be promoted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromotionRejected {
    /// The target holds the lease.
    #[error("`{0}` holds the lease already")]
    AlreadyPrimary(NodeId),
    /// A node holds the lease and accepts writes.
    #[error("`{0}` is primary and answers")]
    PrimaryHealthy(NodeId),
    /// The lease was retired: another one is in its place, in another store.
    #[error("the lease in this store is retired: name the store that replaced it in `[lease]`")]
    Retired,
    /// The target's agent does not answer.
    #[error("its agent does not answer")]
    Silent,
    /// The target does not follow, or is not consistent.
    #[error("it is not a consistent standby")]
    NotAStandby,
    /// The target is on another timeline than the last primary was, and that was not accepted by name.
    #[error(
        "it is on timeline {here}, and the last primary wrote on {there}; to accept that, name it: \
         `--accept-timeline {here}` ({loss})"
    )]
    OnAnotherTimeline {
        /// The target's.
        here: Timeline,
        /// The last primary's.
        there: Timeline,
        /// What would be lost.
        loss: DataLoss,
    },
    /// The target is not on the timeline that was accepted by name.
    #[error("it is on timeline {found}, and {accepted} was accepted")]
    NotTheAcceptedTimeline {
        /// The target's.
        found: Timeline,
        /// The one that was accepted.
        accepted: Timeline,
    },
    /// Another node that answers has WAL that the target lacks.
    #[error("`{node}` {what}: promote `{node}`, or stop it first")]
    Behind {
        /// The other node.
        node: NodeId,
        /// What it has.
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
    let ClusterObservation { lease, witnesses } = survey;
    let to = request.to;
    if lease.state == LeaseState::Retired {
        return Err(PromotionRejected::Retired);
    }
    let target = witnesses.iter().find(|witness| witness.node == *to);
    let holds = |witness: &NodeObservation| witness.part != LeaseRole::Other;
    // A node that gave the lease up is a standby like any other, also for a command.
    if target.map_or(lease.holder.node == *to, holds) {
        return Err(PromotionRejected::AlreadyPrimary(to.clone()));
    }
    let primary = witnesses
        .iter()
        .filter(|witness| !(request.old_primary_stopped && witness.node == lease.holder.node))
        .find(|witness| witness.part == LeaseRole::Primary);
    if let Some(primary) = primary {
        return Err(PromotionRejected::PrimaryHealthy(primary.node.clone()));
    }
    let target = target.ok_or(PromotionRejected::Silent)?;
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
    let progress = own;
    Ok(PromotionCandidate { progress, loss })
}

/// Finds a node that has what the target lacks: one on the last primary's timeline where the target is on
/// another, or one that is further on the target's.
fn find_node_ahead(
    survey: &ClusterObservation,
    to: &NodeId,
    own: ReplayProgress,
) -> Option<PromotionRejected> {
    let last = survey.lease.last_position.map(|position| position.timeline);
    let others = survey.witnesses.iter().filter(|witness| witness.node != *to);
    let has = |witness: &NodeObservation| {
        let there = witness.progress?;
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
    others.into_iter().find_map(|witness| {
        let node = witness.node.clone();
        has(witness).map(|what| PromotionRejected::Behind { node, what })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{LeaseHolder, NonceGenerator, PrimaryPosition, SystemId};
    use crate::lsn::TimelineHistory;
    use crate::{Epoch, Lsn};

    #[test]
    fn standby_that_has_everything_then_promoted() {
        let found = ask(&survey(&[standby("c", 2, 1000)])).unwrap();
        assert_eq!(found.loss.unwrap().known_bytes, 0);
    }

    #[test]
    fn primary_that_answers_then_refused_until_its_instance_is_stopped() {
        let seen = survey(&[part("a", LeaseRole::Primary), standby("c", 2, 1000)]);
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
        // A third node that is primary is no business of the stopped one's.
        let seen = survey(&[part("b", LeaseRole::Primary), standby("c", 2, 1000)]);
        let found = check_promotion(&seen, stopped, &LeaseTiming::default());
        assert_eq!(found, Err(PromotionRejected::PrimaryHealthy(node("b"))));
    }

    #[test]
    fn target_that_holds_the_lease_then_already_primary() {
        let to = node("c");
        let already = Err(PromotionRejected::AlreadyPrimary(to.clone()));
        for is in [LeaseRole::Primary, LeaseRole::Promoting] {
            assert_eq!(ask(&survey(&[part("c", is)])), already);
        }
        let mut seen = survey(&[]);
        seen.lease.holder.node = to;
        assert_eq!(ask(&seen), already);
        // It gave the lease up, and follows again.
        seen.witnesses = vec![standby("c", 2, 1000)];
        assert!(ask(&seen).is_ok());
    }

    #[test]
    fn silent_or_inconsistent_target_then_refused() {
        assert_eq!(ask(&survey(&[])), Err(PromotionRejected::Silent));
        let stopped = survey(&[part("c", LeaseRole::Other)]);
        assert_eq!(ask(&stopped), Err(PromotionRejected::NotAStandby));
    }

    #[test]
    fn earlier_timeline_then_only_by_its_number_and_with_its_loss() {
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
    fn node_that_has_more_then_that_one() {
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

    fn part(name: &str, part: LeaseRole) -> NodeObservation {
        NodeObservation {
            node: node(name),
            part,
            progress: None,
            ancestors: None,
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
            ..part(name, LeaseRole::Other)
        }
    }

    fn survey(witnesses: &[NodeObservation]) -> ClusterObservation {
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
            witnesses: witnesses.to_vec(),
        }
    }
}
