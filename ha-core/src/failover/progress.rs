//! Which steps of a plan are done: what `history` shows, and what a second attempt may skip.

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Step};

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the plan, from 0.
    pub step: usize,
    /// When it was begun, as the operator's clock says: RFC 3339.
    pub began_at: String,
    /// When it ended; none if it did not.
    pub ended_at: Option<String>,
    /// What shows that it is done, or why it is not.
    pub evidence: Option<String>,
    /// Whether it is done.
    pub done: bool,
}

/// Returns the steps that are not done yet, each with its place in the plan, in order.
///
/// A step that was begun and not ended is among them: each is safe to repeat.
pub fn remaining<'a>(plan: &'a Plan, entries: &[Entry]) -> Vec<(usize, &'a Step)> {
    let is_done = |at: usize| entries.iter().any(|it| it.step == at && it.done);
    plan.steps
        .iter()
        .enumerate()
        .filter(|(at, _)| !is_done(*at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    fn plan() -> Plan {
        let node: crate::NodeId = "c".parse().unwrap();
        let steps = vec![
            Step::CatchUp { node: node.clone() },
            Step::TakeLease {
                node: node.clone(),
                epoch: Epoch::new(8),
            },
        ];
        let from = "a".parse().unwrap();
        Plan {
            to: node,
            from,
            planned: Epoch::new(7),
            loss: None,
            steps,
        }
    }

    #[test]
    fn what_was_begun_and_not_ended_is_done_again() {
        let entry = |step, done| Entry {
            step,
            began_at: "2026-11-20T20:00:00Z".to_owned(),
            ended_at: None,
            evidence: None,
            done,
        };
        let left = |entries: &[Entry]| -> Vec<usize> {
            remaining(&plan(), entries)
                .into_iter()
                .map(|it| it.0)
                .collect()
        };
        assert_eq!(left(&[]), [0, 1]);
        assert_eq!(left(&[entry(0, true), entry(1, false)]), [1]);
        assert_eq!(
            left(&[entry(0, false), entry(0, true), entry(1, true)]),
            [0; 0]
        );
    }

    #[test]
    fn a_plan_reads_as_a_person_would_say_it() {
        insta::assert_snapshot!(plan(), @r"
        make `c` primary at epoch 8, in place of `a`
          1. wait until `c` has replayed all that it received
          2. have `c` take the lease at epoch 8
        may lose: nothing, no primary was ever open
        ");
    }
}
