//! Which steps of a plan are done: what `history` shows, and what a second attempt may skip.

use serde::{Deserialize, Serialize};

use super::plan::{FailoverPlan, PlanStep};
use crate::lease::LeaseRecord;

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its place in the plan, from 0.
    pub step: usize,
    /// When it was begun, as the operator's clock says: RFC 3339.
    pub started_at: String,
    /// When it ended; none if it did not.
    pub ended_at: Option<String>,
    /// What shows that it is done, or why it is not.
    pub evidence: Option<String>,
    /// Whether it is done.
    pub completed: bool,
}

/// Where the lease stands, for a plan that was not carried out to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanState {
    /// The lease is where it was when the plan was made: nothing of it has happened.
    NotStarted,
    /// The target has taken the lease.
    LeaseTaken,
    /// Somebody else has: nothing of the plan can be carried out any more.
    Overtaken,
}

/// Compares a plan with the lease as it is now.
pub fn plan_state(plan: &FailoverPlan, lease: &LeaseRecord) -> PlanState {
    if lease.epoch == plan.planned_epoch {
        PlanState::NotStarted
    } else if lease.epoch > plan.planned_epoch && lease.holder.node == plan.to {
        PlanState::LeaseTaken
    } else {
        PlanState::Overtaken
    }
}

/// Returns the steps that are to be done, each with its place in the plan, in order.
///
/// Until the lease is taken, all of them are: an instance that was stopped yesterday may be running, and a
/// target that had caught up may have been copied anew. Once it is, the old primary needs no fence, and
/// what is done is not done again, but that the target accepts writes is looked at again: the report says
/// so. A step that was begun and not ended is repeated: each is safe to repeat.
pub fn remaining<'a>(
    plan: &'a FailoverPlan,
    entries: &[StepRecord],
    state: PlanState,
) -> Vec<(usize, &'a PlanStep)> {
    let is_done = |at: usize| entries.iter().any(|entry| entry.step == at && entry.completed);
    let steps = plan.steps.iter().enumerate();
    match state {
        PlanState::NotStarted => steps.collect(),
        PlanState::LeaseTaken => steps
            .filter(|(at, step)| match step {
                PlanStep::Fence { .. } | PlanStep::CatchUp { .. } => false,
                PlanStep::Promote { .. } => true,
                PlanStep::TakeLease { .. }
                | PlanStep::PointRecord { .. }
                | PlanStep::VerifyWrite { .. } => !is_done(*at),
            })
            .collect(),
        PlanState::Overtaken => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{LeaseHolder, LeaseState, NonceGenerator, SystemId};
    use crate::{Epoch, Timeline};

    fn plan() -> FailoverPlan {
        let node: crate::NodeId = "c".parse().unwrap();
        let steps = vec![
            PlanStep::CatchUp { node: node.clone() },
            PlanStep::TakeLease {
                node: node.clone(),
                epoch: Epoch::new(8),
            },
            PlanStep::Promote {
                node: node.clone(),
                timeline: Timeline::FIRST.next(),
            },
        ];
        let from = "a".parse().unwrap();
        FailoverPlan {
            to: node,
            from,
            planned_epoch: Epoch::new(7),
            data_loss: None,
            accept_timeline: None,
            steps,
        }
    }

    fn left(entries: &[StepRecord], state: PlanState) -> Vec<usize> {
        remaining_steps(&plan(), entries, state)
            .into_iter()
            .map(|step| step.0)
            .collect()
    }

    fn entry(step: usize, completed: bool) -> StepRecord {
        StepRecord {
            step,
            started_at: "2026-11-20T20:00:00Z".to_owned(),
            ended_at: None,
            evidence: None,
            completed,
        }
    }

    #[test]
    fn lease_not_taken_then_everything_is_done_again() {
        for entries in [&[][..], &[entry(0, true), entry(1, false)]] {
            assert_eq!(left(entries, PlanState::NotStarted), [0, 1, 2]);
        }
    }

    #[test]
    fn lease_taken_then_what_was_begun_and_not_ended_is_done_again() {
        let taken = |entries: &[StepRecord]| left(entries, PlanState::LeaseTaken);
        assert_eq!(taken(&[entry(0, true), entry(1, false)]), [1, 2]);
        // Whether the target accepts writes is a question of the moment.
        assert_eq!(taken(&[entry(1, false), entry(1, true)]), [2]);
        assert_eq!(taken(&[entry(1, true), entry(2, true)]), [2]);
        assert_eq!(left(&[], PlanState::Overtaken), [0; 0]);
    }

    #[test]
    fn standing_follows_from_epoch_and_holder() {
        let at = |epoch, holder: &str| plan_state(&plan(), &lease(epoch, holder));
        assert_eq!(at(7, "a"), PlanState::NotStarted);
        assert_eq!(at(8, "c"), PlanState::LeaseTaken);
        assert_eq!(at(9, "c"), PlanState::LeaseTaken);
        assert_eq!(at(8, "b"), PlanState::Overtaken);
        assert_eq!(at(6, "c"), PlanState::Overtaken);
    }

    fn lease(epoch: u64, holder: &str) -> LeaseRecord {
        LeaseRecord {
            format: 1,
            cluster: "main".into(),
            system_id: SystemId(1),
            epoch: Epoch::new(epoch),
            sequence: 1,
            nonce: NonceGenerator::new(1).generate(),
            holder: LeaseHolder {
                node: holder.parse().unwrap(),
                host_id: String::new(),
                boot_id: String::new(),
            },
            state: LeaseState::Held,
            last_position: None,
            last_primary: None,
            ancestry: None,
            highest_reserved_timeline: Timeline::FIRST,
            synchronous_standby: None,
            members: Vec::new(),
            successor: None,
            unretired: None,
            idle_millis: 0,
        }
    }

    #[test]
    fn a_plan_reads_as_a_person_would_say_it() {
        insta::assert_snapshot!(plan(), @r"
        make `c` primary at epoch 8, in place of `a`
          1. wait until `c` has replayed all that it received
          2. have `c` take the lease at epoch 8
          3. promote `c` onto timeline 2
        may lose: nothing, no primary was ever open
        ");
    }
}
