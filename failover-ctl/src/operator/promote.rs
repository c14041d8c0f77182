//! `failover-ctl promote` and `plan promote`: an unplanned failover, whose possible data loss is stated first.

use causeway_core::failover::loss_statement::LossStatementStage;
use causeway_core::failover::plan::{FailoverPlan, FencingMethod, PlanStep};
use causeway_core::failover::plan_state::{PlanState, plan_state};
use causeway_core::failover::promotion::{PromotionCandidate, PromotionRequest};

use crate::cli::PromoteArgs;
use crate::clients::agents::AgentClient;
use crate::clients::ec2;
use crate::clients::lease_store::LeaseStore;
use crate::clients::route53::DnsRecords;
use crate::config::{NodeSettings, Settings};
use crate::error::Error;
use crate::operator::consent;
use crate::operator::history;
use crate::operator::journal::{Journal, OperationOutcome};
use crate::operator::operation_lock::{OpenOperation, OperationLock};
use crate::operator::plan_executor::PlanExecutor;
use crate::operator::survey::{self, ClusterSurvey, STATUS_TIMEOUT};
use crate::output;
use crate::protocol::signed_command::CommandSigningKey;

/// Prints the plan, and changes nothing.
pub(crate) async fn plan(settings: &Settings, asked: &PromoteArgs) -> Result<(), Error> {
    survey::nodes_named(settings, &asked.to)?;
    let store = LeaseStore::open(settings).await;
    let seen = survey::query_cluster(
        settings,
        &store,
        &AgentClient::new(settings),
        STATUS_TIMEOUT,
    )
    .await?;
    let (plan, _) = make_plan(settings, &seen, asked)?;
    print_plan(&plan, asked.json)
}

/// Executes the plan.
pub(crate) async fn run(settings: &Settings, asked: &PromoteArgs) -> Result<(), Error> {
    let key = CommandSigningKey::read(&settings.command_signing_key_file)?;
    survey::nodes_named(settings, &asked.to)?;
    let store = LeaseStore::open(settings).await;
    let agents = AgentClient::new(settings);
    let seen = survey::query_cluster(settings, &store, &agents, STATUS_TIMEOUT).await?;
    let (plan, candidate) = match make_plan(settings, &seen, asked) {
        Err(Error::AlreadyPrimary(node)) => {
            return Err(already_primary_error(&store, &seen, node).await);
        }
        made => made?,
    };
    output::print_progress(&plan.to_string());
    let accepted = consent::ask_for_consent(&plan, plan.data_loss.as_ref(), &asked.accepts)?;
    let stated = seen.statement(LossStatementStage::Planning, &plan.to, &candidate);
    let mut journal = Journal::new(plan, accepted.limit, accepted.words);
    journal.statements.push(stated);
    let lock = OperationLock::acquire(&store, journal, &seen.survey.lease).await?;
    let executor = PlanExecutor::new(settings, store, agents, key, seen.asked_at);
    Box::pin(execute_remaining_steps(
        executor,
        lock,
        PlanState::NotStarted,
        asked.json,
    ))
    .await
}

/// Returns the error for a target that already holds the lease. It names the unfinished operation that took the lease,
/// if there is one.
async fn already_primary_error(store: &LeaseStore, seen: &ClusterSurvey, node: String) -> Error {
    if let Ok(Some(open)) = OpenOperation::find(store).await
        && open.journal.plan.to.as_str() == node
        && plan_state(&open.journal.plan, &seen.survey.lease) == PlanState::LeaseTaken
    {
        let operation = open.journal.id;
        return Error::AlreadyTaken { node, operation };
    }
    Error::AlreadyPrimary(node)
}

/// Executes the remaining steps, and prints the report.
pub(super) async fn execute_remaining_steps(
    executor: PlanExecutor<'_>,
    lock: OperationLock,
    standing: PlanState,
    json: bool,
) -> Result<(), Error> {
    let journal = Box::pin(executor.run(lock, standing)).await?;
    if json {
        output::print_data(&serde_json::to_string_pretty(&journal).map_err(anyhow::Error::from)?);
    } else {
        output::print_data(&history::describe(&journal));
    }
    if let Some(OperationOutcome::Promoted { records_not_moved }) = &journal.outcome
        && !records_not_moved.is_empty()
    {
        output::print_progress(&format!(
            "warning: `{}` is primary, and `{}` does not point at it yet: its agent retries",
            journal.plan.to,
            records_not_moved.join("` and `")
        ));
    }
    Ok(())
}

/// Makes a plan from the survey, or rejects the promotion.
fn make_plan(
    settings: &Settings,
    seen: &ClusterSurvey,
    asked: &PromoteArgs,
) -> Result<(FailoverPlan, PromotionCandidate), Error> {
    let target = seen.target(settings, &asked.to)?;
    let name = target.name.clone();
    let record = &seen.survey.lease;
    let from = record.holder.node.clone();
    let request = PromotionRequest {
        to: &name,
        accept_timeline: asked.accepts.accept_timeline,
        old_primary_stopped: false,
    };
    let candidate = seen.check(settings, request)?;
    let by = match (asked.accepts.unfenced, asked.accepts.stop_instance) {
        (true, _) => FencingMethod::Unfenced,
        (false, true) => FencingMethod::InstanceStopped,
        (false, false) => FencingMethod::LeaseExpired,
    };
    if by == FencingMethod::InstanceStopped {
        check_stop_instance(settings, &from, target)?;
    }
    let last = record.last_position.map(|position| position.timeline);
    let here = candidate.progress.timeline;
    let plan = FailoverPlan {
        planned_epoch: record.epoch,
        data_loss: candidate.loss,
        collation_difference: candidate.collation_difference.clone(),
        accept_timeline: last.filter(|timeline| *timeline != here).map(|_| here),
        steps: steps(settings, seen, target, by),
        to: name,
        from,
    };
    Ok((plan, candidate))
}

fn steps(
    settings: &Settings,
    seen: &ClusterSurvey,
    target: &NodeSettings,
    by: FencingMethod,
) -> Vec<PlanStep> {
    let record = &seen.survey.lease;
    let epoch = record.epoch.next();
    let node = || target.name.clone();
    let mut steps = vec![
        PlanStep::Fence {
            node: record.holder.node.clone(),
            method: by,
        },
        PlanStep::CatchUp { node: node() },
        PlanStep::TakeLease {
            node: node(),
            epoch,
        },
        PlanStep::Promote {
            node: node(),
            timeline: record.highest_reserved_timeline.next(),
        },
    ];
    let records = DnsRecords::wanted_records(settings, target).into_iter();
    steps.extend(records.map(|(name, target)| PlanStep::PointRecord {
        name,
        target,
        epoch,
    }));
    if settings.verify_write.is_some() {
        let host = settings
            .dns
            .as_ref()
            .map_or_else(|| target.address.clone(), |dns| dns.writer.clone());
        steps.push(PlanStep::VerifyWrite { host });
    }
    steps
}

/// Checks that the old primary's instance can be stopped, and is not the target's own.
fn check_stop_instance(
    settings: &Settings,
    from: &causeway_core::NodeId,
    target: &NodeSettings,
) -> Result<(), Error> {
    let not = |why: &str| {
        Err(Error::NotFenced {
            node: from.to_string(),
            why: why.to_owned(),
        })
    };
    if *from == target.name {
        return not("it is the node that is to be promoted, so its instance is not stopped");
    }
    if !ec2::AVAILABLE {
        return not(
            "this build has no EC2 client: use a build with failover-ctl's feature `ec2`, as every release is",
        );
    }
    let instance = settings
        .node(from)
        .and_then(|node| node.instance_id.as_ref());
    if settings.ec2.is_none() || instance.is_none() {
        return not("`--stop-instance` needs `[ec2]` and the node's `instance-id` in the settings");
    }
    Ok(())
}

fn print_plan(plan: &FailoverPlan, json: bool) -> Result<(), Error> {
    let text = if json {
        serde_json::to_string_pretty(plan).map_err(anyhow::Error::from)?
    } else {
        plan.to_string()
    };
    output::print_data(&text);
    Ok(())
}
