//! Confirmation of a plan and of its risks, before anything is changed.

use std::io::{self, BufRead as _, IsTerminal as _};

use causeway_core::failover::consent::MissingConsent;
use causeway_core::failover::loss::{DataLoss, LossLimit};
use causeway_core::failover::plan::{FailoverPlan, FencingMethod};

use crate::cli::AcceptArgs;
use crate::error::Error;
use crate::output;

/// Risks that the operator accepted, and the data loss limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AcceptedRisks {
    pub(super) limit: LossLimit,
    pub(super) words: Vec<String>,
}

/// Requires the plan's risks to be accepted by name on the command line, or the whole plan at a prompt.
///
/// # Errors
///
/// [`Error::WouldLose`], [`Error::ConsentMissing`] or [`Error::NotConfirmed`]; nothing was done.
pub(super) fn ask_for_consent(
    plan: &FailoverPlan,
    loss: Option<&DataLoss>,
    accepts: &AcceptArgs,
) -> Result<AcceptedRisks, Error> {
    let named = accepted_by_flags(plan, loss, accepts)?;
    if let Some(accepted) = named {
        return Ok(accepted);
    }
    if !io::stdin().is_terminal() {
        return Err(Error::NotConfirmed);
    }
    output::print_progress("execute the plan, with the data loss as stated? (yes/no)");
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(anyhow::Error::from)?;
    if line.trim() != "yes" {
        return Err(Error::NotConfirmed);
    }
    Ok(risks_accepted_by_answer(plan, loss, accepts))
}

/// Returns the risks that the command line accepts; none if a prompt is required.
fn accepted_by_flags(
    plan: &FailoverPlan,
    loss: Option<&DataLoss>,
    accepts: &AcceptArgs,
) -> Result<Option<AcceptedRisks>, Error> {
    let bytes = loss.map_or(0, |loss| loss.bytes_at_most);
    if let Some(accepted) = accepts.accept_loss
        && bytes > accepted
    {
        return Err(Error::WouldLose { bytes, accepted });
    }
    if !accepts.yes {
        return Ok(None);
    }
    match accepts.consent().missing(plan, loss) {
        Some(MissingConsent::Loss(bytes)) => return Err(Error::WouldLose { bytes, accepted: 0 }),
        Some(other) => return Err(Error::ConsentMissing(other)),
        None => {}
    }
    let limit = LossLimit {
        bytes: accepts.accept_loss.unwrap_or(0),
        rows: None,
    };
    Ok(Some(AcceptedRisks {
        limit,
        words: describe_flags(plan, accepts),
    }))
}

/// Returns the risks that the operator accepted by answering yes to the plan.
fn risks_accepted_by_answer(
    plan: &FailoverPlan,
    loss: Option<&DataLoss>,
    accepts: &AcceptArgs,
) -> AcceptedRisks {
    let (bytes, rows) = loss.map_or((0, 0), |loss| (loss.bytes_at_most, loss.rows_at_most));
    let limit = match accepts.accept_loss {
        Some(bytes) => LossLimit { bytes, rows: None },
        None => LossLimit {
            bytes,
            rows: Some(rows),
        },
    };
    let mut words = describe_flags(plan, accepts);
    words.push(format!(
        "the operator answered yes to the plan, with a loss of at most {bytes} bytes and {rows} rows"
    ));
    AcceptedRisks { limit, words }
}

fn describe_flags(plan: &FailoverPlan, accepts: &AcceptArgs) -> Vec<String> {
    let mut words = Vec::new();
    match plan.fence() {
        FencingMethod::Unfenced => words.push(
            "--unfenced: nothing proves that the old primary accepts no more writes".to_owned(),
        ),
        FencingMethod::InstanceStopped => words.push("--stop-instance".to_owned()),
        FencingMethod::LeaseExpired => {}
    }
    if let Some(timeline) = plan.accept_timeline {
        words.push(format!("--accept-timeline {timeline}"));
    }
    if plan.collation_difference.is_some() {
        words.push("--accept-collation".to_owned());
    }
    if let Some(limit) = accepts.accept_loss {
        words.push(format!("--accept-loss {limit}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use causeway_core::Epoch;
    use causeway_core::failover::plan::PlanStep;

    use super::*;

    #[test]
    fn yes_without_the_flags_then_nothing_dangerous_is_accepted() {
        let missing = |by, loss: Option<&DataLoss>| match accepted_by_flags(
            &plan(by),
            loss,
            &accepts(true, None),
        ) {
            Err(failure) => failure.exit_code(),
            Ok(_) => 0,
        };
        assert_eq!(missing(FencingMethod::Unfenced, None), 21);
        assert_eq!(missing(FencingMethod::InstanceStopped, None), 21);
        assert_eq!(missing(FencingMethod::LeaseExpired, Some(&loss())), 18);
        assert_eq!(missing(FencingMethod::LeaseExpired, None), 0);
    }

    #[test]
    fn accept_loss_exceeded_then_rejected_before_the_question() {
        let plan = plan(FencingMethod::LeaseExpired);
        for yes in [true, false] {
            let refused = accepted_by_flags(&plan, Some(&loss()), &accepts(yes, Some(99)));
            assert!(matches!(
                refused,
                Err(Error::WouldLose {
                    bytes: 100,
                    accepted: 99
                })
            ));
        }
        let accepted = accepted_by_flags(&plan, Some(&loss()), &accepts(true, Some(200)));
        let limit = LossLimit {
            bytes: 200,
            rows: None,
        };
        assert_eq!(accepted.unwrap().unwrap().limit, limit);
    }

    #[test]
    fn answer_of_a_person_then_what_was_stated_is_the_limit() {
        let accepted = risks_accepted_by_answer(
            &plan(FencingMethod::Unfenced),
            Some(&loss()),
            &accepts(false, None),
        );
        let limit = LossLimit {
            bytes: 100,
            rows: Some(7),
        };
        assert_eq!(accepted.limit, limit);
        assert!(accepted.words[0].starts_with("--unfenced"));
    }

    fn accepts(yes: bool, accept_loss: Option<u64>) -> AcceptArgs {
        AcceptArgs {
            accept_loss,
            accept_timeline: None,
            accept_collation: false,
            unfenced: false,
            stop_instance: false,
            yes,
        }
    }

    fn loss() -> DataLoss {
        DataLoss {
            known_bytes: 100,
            unseen: Duration::ZERO,
            bytes_at_most: 100,
            rows_at_most: 7,
            last_commit_at_micros: 0,
            parted: None,
            unopened: None,
        }
    }

    fn plan(by: FencingMethod) -> FailoverPlan {
        let node = "a".parse().unwrap();
        FailoverPlan {
            to: "c".parse().unwrap(),
            from: "a".parse().unwrap(),
            planned_epoch: Epoch::new(7),
            data_loss: None,
            accept_timeline: None,
            collation_difference: None,
            steps: vec![PlanStep::Fence { node, method: by }],
        }
    }
}
