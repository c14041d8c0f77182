//! State of a plan: its completed steps, and those that remain after an interruption.

use serde::{Deserialize, Serialize};

use super::plan::{FailoverPlan, PlanStep};
use crate::lease::LeaseRecord;

/// Record of one step in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Index of the step in the plan, from 0.
    pub step: usize,
    /// Start time by the operator's clock, in RFC 3339.
    pub started_at: String,
    /// End time; none if it did not end.
    pub ended_at: Option<String>,
    /// Evidence that it is completed, or the reason why it is not.
    pub evidence: Option<String>,
    /// Whether it is completed.
    pub completed: bool,
}

/// State of an unfinished plan, from the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanState {
    /// The lease has the epoch of the plan: the target has not taken it.
    NotStarted,
    /// The target has taken the lease.
    LeaseTaken,
    /// Another node has taken the lease: the plan can no longer be executed.
    Overtaken,
}

/// Compares a plan with the current lease.
pub fn plan_state(plan: &FailoverPlan, lease: &LeaseRecord) -> PlanState {
    if lease.epoch == plan.planned_epoch {
        PlanState::NotStarted
    } else if lease.epoch > plan.planned_epoch && lease.holder.node == plan.to {
        PlanState::LeaseTaken
    } else {
        PlanState::Overtaken
    }
}

/// Returns the steps that remain, in order, each with its index in the plan.
///
/// Until the lease is taken, all steps remain: an instance stopped yesterday may be running, and a target
/// that had caught up may have been copied anew. After that, fencing and catch-up are not needed, and
/// completed steps are skipped, except that the target's writes are verified again for the report. A step
/// that was interrupted is repeated: each is idempotent.
pub fn remaining_steps<'a>(
    plan: &'a FailoverPlan,
    entries: &[StepRecord],
    state: PlanState,
) -> Vec<(usize, &'a PlanStep)> {
    let is_done = |at: usize| {
        entries
            .iter()
            .any(|entry| entry.step == at && entry.completed)
    };
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
            collation_difference: None,
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
    fn lease_not_taken_then_every_step_remains() {
        for entries in [&[][..], &[entry(0, true), entry(1, false)]] {
            assert_eq!(left(entries, PlanState::NotStarted), [0, 1, 2]);
        }
    }

    #[test]
    fn lease_taken_then_interrupted_steps_remain() {
        let taken = |entries: &[StepRecord]| left(entries, PlanState::LeaseTaken);
        assert_eq!(taken(&[entry(0, true), entry(1, false)]), [1, 2]);
        // The target may have stopped accepting writes since.
        assert_eq!(taken(&[entry(1, false), entry(1, true)]), [2]);
        assert_eq!(taken(&[entry(1, true), entry(2, true)]), [2]);
        assert_eq!(left(&[], PlanState::Overtaken), [0; 0]);
    }

    #[test]
    fn epoch_and_holder_then_plan_state() {
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
    fn plan_then_readable_text() {
        insta::assert_snapshot!(plan(), @r"
        promote `c` at epoch 8, replacing `a`
          1. wait until `c` has replayed all received WAL
          2. command `c` to take the lease at epoch 8
          3. promote `c` onto timeline 2
        possible data loss: none, no primary has accepted writes yet
        ");
    }
}
