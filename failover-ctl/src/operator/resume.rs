//! `failover-ctl resume`: continues an interrupted operation in the present state of the cluster.

use causeway_core::failover::loss_statement::LossStatementStage;
use causeway_core::failover::plan::FailoverPlan;
use causeway_core::failover::plan_state::{PlanState, plan_state};
use causeway_core::failover::promotion::PromotionRequest;

use crate::cli::ResumeArgs;
use crate::clients::agents::AgentClient;
use crate::clients::lease_store::LeaseStore;
use crate::config::Settings;
use crate::error::Error;
use crate::operator::consent;
use crate::operator::journal::OperationOutcome;
use crate::operator::operation_lock::{OpenOperation, OperationLock};
use crate::operator::plan_executor::PlanExecutor;
use crate::operator::promote::execute_remaining_steps;
use crate::operator::survey::{self, ClusterSurvey, STATUS_TIMEOUT};
use crate::output;
use crate::protocol::signed_command::CommandSigningKey;

/// Continues the unfinished operation. Until its target has taken the lease, every check and confirmation is repeated,
/// because both refer to an earlier state of the cluster.
pub(crate) async fn run(settings: &Settings, asked: &ResumeArgs) -> Result<(), Error> {
    let key = CommandSigningKey::read(&settings.command_signing_key_file)?;
    let store = LeaseStore::open(settings).await;
    let open = OpenOperation::find(&store)
        .await?
        .ok_or(Error::NothingToResume)?;
    open.wait_until_released().await?;
    let agents = AgentClient::new(settings);
    let seen = survey::query_cluster(settings, &store, &agents, STATUS_TIMEOUT).await?;
    let state = plan_state(&open.journal.plan, &seen.survey.lease);
    let lock = match state {
        PlanState::Overtaken => return Err(close(open, &seen).await?),
        PlanState::LeaseTaken => {
            output::print_progress(&open.journal.plan.to_string());
            open.take_over(|_| ()).await?
        }
        PlanState::NotStarted => confirm(settings, asked, open, &seen).await?,
    };
    let executor = PlanExecutor::new(settings, store, agents, key, seen.asked_at);
    Box::pin(execute_remaining_steps(executor, lock, state, asked.json)).await
}

/// Repeats the checks of `promote` and the confirmation of its risks.
async fn confirm(
    settings: &Settings,
    asked: &ResumeArgs,
    open: OpenOperation,
    seen: &ClusterSurvey,
) -> Result<OperationLock, Error> {
    let plan = &open.journal.plan;
    let request = PromotionRequest {
        to: &plan.to,
        accept_timeline: plan.accept_timeline,
        old_primary_stopped: false,
    };
    let candidate = seen.check(settings, request)?;
    let now = FailoverPlan {
        data_loss: candidate.loss,
        collation_difference: candidate.collation_difference.clone(),
        ..plan.clone()
    };
    output::print_progress(&now.to_string());
    let accepted = consent::ask_for_consent(&now, now.data_loss.as_ref(), &asked.accepts)?;
    let stated = seen.statement(LossStatementStage::Planning, &plan.to, &candidate);
    let resumed = |journal: &mut crate::operator::journal::Journal| {
        journal.limit = Some(accepted.limit);
        journal.accepted_risks.push("resumed".to_owned());
        journal.accepted_risks.extend(accepted.words);
        journal.statements.push(stated);
    };
    open.take_over(resumed).await
}

/// Closes an operation none of whose steps can be executed any more.
async fn close(open: OpenOperation, seen: &ClusterSurvey) -> Result<Error, Error> {
    let lease = &seen.survey.lease;
    let epoch = lease.epoch;
    let (journal, _) = open.close(OperationOutcome::Overtaken { epoch }).await?;
    Ok(Error::Overtaken {
        operation: journal.id,
        holder: lease.holder.node.to_string(),
        epoch,
    })
}
