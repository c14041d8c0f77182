//! `failover-ctl abandon`: closes an interrupted operation, and reports its unfinished effects.

use std::time::Duration;

use causeway_core::failover::plan::{FailoverPlan, FencingMethod, PlanStep};
use causeway_core::failover::plan_state::{PlanState, StepRecord, plan_state};
use causeway_runtime::telemetry::chain;
use tokio::time;

use crate::cli::AbandonArgs;
use crate::clients::lease_store::LeaseStore;
use crate::clients::route53::DnsRecords;
use crate::config::Settings;
use crate::error::Error;
use crate::operator::history;
use crate::operator::journal::{self, OperationOutcome};
use crate::operator::operation_lock::OpenOperation;
use crate::output;

/// Timeout for reading the records from Route 53.
const ROUTE53_TIMEOUT: Duration = Duration::from_secs(5);

/// Closes an unfinished operation that no operator holds. Changes nothing else.
pub(crate) async fn run(settings: &Settings, asked: &AbandonArgs) -> Result<(), Error> {
    let store = LeaseStore::open(settings).await;
    let open = OpenOperation::find(&store)
        .await?
        .ok_or(Error::NothingToAbandon)?;
    open.wait_until_released().await?;
    let plan = &open.journal.plan;
    let mut left_behind = lease(&store, plan).await;
    left_behind.extend(instance(plan, &open.journal.entries));
    left_behind.extend(records(settings, plan).await);
    let outcome = OperationOutcome::Abandoned {
        by: journal::operator_name(),
        reason: asked.reason.clone(),
        left_behind,
    };
    let (journal, _) = open.close(outcome).await?;
    if asked.json {
        output::print_data(&serde_json::to_string_pretty(&journal).map_err(anyhow::Error::from)?);
    } else {
        output::print_data(&history::describe(&journal));
    }
    Ok(())
}

/// Describes the state of the lease, and what that means for the plan.
async fn lease(store: &LeaseStore, plan: &FailoverPlan) -> Vec<String> {
    let record = match store.lease().await {
        Ok(Some(record)) => record,
        Ok(None) => return vec!["there is no lease".to_owned()],
        Err(error) => {
            return vec![format!("the lease could not be read: {}", chain(&error))];
        }
    };
    let (epoch, state, holder) = (record.epoch, record.state, &record.holder.node);
    let to = &plan.to;
    let meaning = match plan_state(plan, &record) {
        PlanState::NotStarted => {
            format!("`{to}` has not taken it")
        }
        PlanState::LeaseTaken => {
            format!("`{to}` has taken it, and its agent continues automatically")
        }
        PlanState::Overtaken => "it has changed since the plan".to_owned(),
    };
    vec![format!(
        "the lease is at epoch {epoch} ({state}), held by `{holder}`: {meaning}"
    )]
}

/// Returns a warning if an instance was stopped, or may have been: nothing starts it again.
fn instance(plan: &FailoverPlan, entries: &[StepRecord]) -> Option<String> {
    let stops = |(at, step): (usize, &PlanStep)| match step {
        PlanStep::Fence {
            node,
            method: FencingMethod::InstanceStopped,
        } => Some((at, node.clone())),
        PlanStep::Fence { .. }
        | PlanStep::CatchUp { .. }
        | PlanStep::TakeLease { .. }
        | PlanStep::Promote { .. }
        | PlanStep::PointRecord { .. }
        | PlanStep::VerifyWrite { .. } => None,
    };
    let (at, node) = plan.steps.iter().enumerate().find_map(stops)?;
    let mut begun = entries.iter().filter(|entry| entry.step == at).peekable();
    begun.peek()?;
    let how = if begun.any(|entry| entry.completed) {
        "was stopped"
    } else {
        "may have been stopped"
    };
    Some(format!(
        "the instance of `{node}` {how}, and `abandon` does not start it"
    ))
}

/// Describes the target of each record in the plan.
async fn records(settings: &Settings, plan: &FailoverPlan) -> Vec<String> {
    let Some(dns) = &settings.dns else {
        return Vec::new();
    };
    let records = DnsRecords::open(dns).await;
    let mut said = Vec::new();
    for step in &plan.steps {
        let PlanStep::PointRecord { name, .. } = step else {
            continue;
        };
        let found = time::timeout(ROUTE53_TIMEOUT, records.read_record(name)).await;
        said.push(match found {
            Ok(Ok(found)) => {
                let epoch = found
                    .epoch
                    .map_or_else(String::new, |epoch| format!(" under epoch {epoch}"));
                let values = found.values.join(", ");
                format!("`{name}` points at {values}{epoch}")
            }
            Ok(Err(error)) => format!("where `{name}` points is not known: {}", chain(&error)),
            Err(_elapsed) => format!("where `{name}` points is not known: no answer in time"),
        });
    }
    said
}
