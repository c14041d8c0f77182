//! Plan executor: executes one step at a time, journals it before and after, and states the data loss again before
//! each step that cannot be undone.

use std::cell::OnceCell;
use std::pin::pin;
use std::time::Duration;

use causeway_core::NodeId;
use causeway_core::failover::loss::LossLimit;
use causeway_core::failover::loss_statement::{LossStatement, LossStatementStage};
use causeway_core::failover::plan::{FailoverPlan, FencingMethod, PlanStep};
use causeway_core::failover::plan_state::{PlanState, plan_state, remaining_steps};
use causeway_core::failover::promotion::PromotionRequest;
use causeway_runtime::retry::{self, RetryClass, RetryPolicy};
use causeway_runtime::telemetry::chain;
use tokio::time::{self, Instant};

use crate::clients::agents::AgentClient;
use crate::clients::lease_store::LeaseStore;
use crate::config::Settings;
use crate::error::Error;
use crate::operator::journal::{Journal, OperationOutcome};
use crate::operator::operation_lock::{
    HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, OperationLock, OperationLockLost,
};
use crate::operator::survey::{self, QUICK_STATUS_TIMEOUT, STATUS_TIMEOUT};
use crate::output;
use crate::protocol::signed_command::CommandSigningKey;

/// Time for which the lease store may fail before a statement of the data loss is given up: that of a lost heartbeat.
const STATEMENT_TIMEOUT: Duration = HEARTBEAT_TIMEOUT;

/// Age up to which the survey of the plan is used for the first step, when no confirmation was awaited in between.
const SURVEY_LIFETIME: Duration = Duration::from_millis(1500);

/// Backoff between attempts to read the lease.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(1),
};

/// Executor of a plan.
pub(crate) struct PlanExecutor<'a> {
    pub(super) settings: &'a Settings,
    pub(super) store: LeaseStore,
    pub(super) agents: AgentClient,
    pub(super) key: CommandSigningKey,
    /// Time of the survey for the statement that the operator confirmed.
    pub(super) surveyed_at: Instant,
    /// Deadline of the Route 53 changes, set by the first record.
    pub(super) records_until: OnceCell<Instant>,
}

/// Consequence of a failed step for the operation.
enum StepFailure {
    /// The lease was not taken: the operation ends, and a new plan can be made.
    Refused(Error),
    /// The operation continues without the step.
    Continue,
    /// Completed steps stay, and the rest can be resumed.
    Unfinished,
}

/// The target has not taken the lease and will not: the command was rejected, not sent, or failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LeaseNotTaken(pub(super) String);

impl<'a> PlanExecutor<'a> {
    pub(crate) const fn new(
        settings: &'a Settings,
        store: LeaseStore,
        agents: AgentClient,
        key: CommandSigningKey,
        surveyed_at: Instant,
    ) -> Self {
        Self {
            settings,
            store,
            agents,
            key,
            surveyed_at,
            records_until: OnceCell::new(),
        }
    }

    /// Executes the remaining steps of a plan and completes the operation. A DNS record that is not moved does not keep it
    /// open: the primary's agent moves the record, and the journal lists it.
    ///
    /// # Errors
    ///
    /// A refusal before the lease was taken, with the operation closed; [`Error::Unfinished`] afterwards, with the
    /// completed steps in the journal.
    pub(crate) async fn run(
        &self,
        mut lock: OperationLock,
        state: PlanState,
    ) -> Result<Journal, Error> {
        let plan = lock.journal.plan.clone();
        let operation = lock.journal.id.clone();
        let mut records_not_moved = Vec::new();
        let steps: Vec<(usize, PlanStep)> = remaining_steps(&plan, &lock.journal.entries, state)
            .into_iter()
            .map(|(at, step)| (at, step.clone()))
            .collect();
        for (at, step) in steps {
            let unfinished = |source| Error::Unfinished {
                operation: operation.clone(),
                step: at + 1,
                what: step.to_string(),
                source,
            };
            let fresh = self.surveyed_at.elapsed() < SURVEY_LIFETIME;
            if let Some(after) = statement_stage_before(&step)
                && !(fresh && after == LossStatementStage::Answer)
            {
                match Box::pin(self.state_loss(&plan, after, &mut lock)).await {
                    Ok(()) => {}
                    Err(Error::Other(error)) if error.is::<OperationLockLost>() => {
                        return Err(unfinished(error));
                    }
                    Err(failure) => return Err(close_refused(lock, failure).await),
                }
            }
            lock.record_step_start(at).await.map_err(unfinished)?;
            output::print_progress(&format!("{}. {step}", at + 1));
            let done = Box::pin(self.with_heartbeats(&mut lock, self.perform(&plan, &step))).await;
            let error = match done.and_then(|done| done) {
                Ok(evidence) => {
                    output::print_progress(&format!("   {evidence}"));
                    lock.record_step_end(true, evidence);
                    continue;
                }
                Err(error) => error,
            };
            if error.is::<OperationLockLost>() {
                return Err(unfinished(error));
            }
            let why = format!("{error:#}");
            lock.record_step_end(false, why.clone());
            match classify_failure(&step, &error, &why) {
                StepFailure::Refused(failure) => return Err(close_refused(lock, failure).await),
                StepFailure::Continue => {
                    output::print_progress(&format!("   NOT DONE: {why}"));
                    if let PlanStep::PointRecord { name, .. } = &step {
                        records_not_moved.push(name.clone());
                    }
                }
                StepFailure::Unfinished => {
                    if let Err(error) = lock.release(why).await {
                        output::print_progress(&format!(
                            "warning: could not write the journal: {error:#}"
                        ));
                    }
                    return Err(unfinished(error));
                }
            }
        }
        Ok(lock
            .complete(OperationOutcome::Promoted { records_not_moved })
            .await?)
    }

    /// States the data loss again, and fails if it exceeds the accepted limit or a new plan would be refused. The next step
    /// stores the statement.
    async fn state_loss(
        &self,
        plan: &FailoverPlan,
        after: LossStatementStage,
        lock: &mut OperationLock,
    ) -> Result<(), Error> {
        let stating = Box::pin(self.with_heartbeats(lock, self.survey_loss(plan, after)));
        let Some(stated) = stating.await?? else {
            return Ok(());
        };
        let limit = lock.journal.limit.unwrap_or(LossLimit {
            bytes: 0,
            rows: None,
        });
        let loss = stated.data_loss;
        lock.record_statement(stated);
        if limit.admits(loss.as_ref()) {
            return Ok(());
        }
        let (bytes, rows) = loss.map_or((0, 0), |loss| (loss.bytes_at_most, loss.rows_at_most));
        if bytes > limit.bytes {
            let accepted = limit.bytes;
            return Err(Error::WouldLose { bytes, accepted });
        }
        let accepted = limit.rows.unwrap_or(u64::MAX);
        Err(Error::WouldLoseRows { rows, accepted })
    }

    /// Surveys the cluster and returns a statement of the data loss; none if the target holds the lease.
    async fn survey_loss(
        &self,
        plan: &FailoverPlan,
        after: LossStatementStage,
    ) -> Result<Option<LossStatement>, Error> {
        let fence = plan.fence();
        // A live primary renews its lease, so fencing by expiry detects it without its answer.
        let timeout = match fence {
            FencingMethod::LeaseExpired => QUICK_STATUS_TIMEOUT,
            FencingMethod::InstanceStopped | FencingMethod::Unfenced => STATUS_TIMEOUT,
        };
        let judge = |error: &Error| {
            if matches!(error, Error::Store(_)) {
                RetryClass::Transient
            } else {
                RetryClass::Permanent
            }
        };
        let deadline = Instant::now() + STATEMENT_TIMEOUT;
        let take = || survey::query_cluster(self.settings, &self.store, &self.agents, timeout);
        let seen = retry::until(deadline, RETRY_POLICY, judge, take).await?;
        let lease = &seen.survey.lease;
        match plan_state(plan, lease) {
            PlanState::NotStarted => {}
            PlanState::LeaseTaken => return Ok(None),
            PlanState::Overtaken => {
                return Err(Error::NotPromotable {
                    node: plan.to.to_string(),
                    why: format!(
                        "the lease is at epoch {} with `{}`, and {} was planned: plan again",
                        lease.epoch, lease.holder.node, plan.planned_epoch
                    ),
                });
            }
        }
        let request = PromotionRequest {
            to: &plan.to,
            accept_timeline: plan.accept_timeline,
            old_primary_stopped: fence == FencingMethod::InstanceStopped
                && after != LossStatementStage::Answer,
        };
        let candidate = seen.check(self.settings, request)?;
        if let Some(difference) = &candidate.collation_difference
            && plan.collation_difference.is_none()
        {
            return Err(Error::NotPromotable {
                node: plan.to.to_string(),
                why: format!("since it was planned, {difference}: plan again"),
            });
        }
        Ok(Some(seen.statement(after, &plan.to, &candidate)))
    }

    /// Awaits `work` while writing heartbeats.
    async fn with_heartbeats<T>(
        &self,
        lock: &mut OperationLock,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<T> {
        let mut work = pin!(work);
        let mut written_at = Instant::now();
        let mut heartbeat =
            time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        loop {
            tokio::select! {
                result = &mut work => return Ok(result),
                _ = heartbeat.tick() => match lock.write_heartbeat().await {
                    Ok(()) => written_at = Instant::now(),
                    // A short outage of the store is tolerated, because every step requires the plan's epoch. After the
                    // heartbeat timeout another operator may take over.
                    Err(error) if error.is::<OperationLockLost>() => return Err(error),
                    Err(error) if written_at.elapsed() >= HEARTBEAT_TIMEOUT => return Err(error),
                    Err(error) => output::print_progress(&format!("   could not write a heartbeat, retrying: {error:#}")),
                },
            }
        }
    }

    pub(super) fn node(&self, name: &NodeId) -> anyhow::Result<&crate::config::NodeSettings> {
        use anyhow::Context as _;

        self.settings
            .node(name)
            .with_context(|| format!("`{name}` is not in the settings"))
    }
}

/// Returns the stage at which the data loss is stated before a step.
const fn statement_stage_before(step: &PlanStep) -> Option<LossStatementStage> {
    match step {
        PlanStep::Fence { .. } => Some(LossStatementStage::Answer),
        PlanStep::CatchUp { .. } => Some(LossStatementStage::Fence),
        PlanStep::TakeLease { .. } => Some(LossStatementStage::CatchUp),
        PlanStep::Promote { .. } | PlanStep::PointRecord { .. } | PlanStep::VerifyWrite { .. } => {
            None
        }
    }
}

fn classify_failure(step: &PlanStep, error: &anyhow::Error, why: &str) -> StepFailure {
    let why = why.to_owned();
    match step {
        PlanStep::Fence { node, .. } => StepFailure::Refused(Error::NotFenced {
            node: node.to_string(),
            why,
        }),
        PlanStep::CatchUp { node } => StepFailure::Refused(Error::NotPromotable {
            node: node.to_string(),
            why,
        }),
        PlanStep::TakeLease { node, .. } if error.is::<LeaseNotTaken>() => {
            StepFailure::Refused(Error::NotPromotable {
                node: node.to_string(),
                why,
            })
        }
        PlanStep::PointRecord { .. } => StepFailure::Continue,
        PlanStep::TakeLease { .. } | PlanStep::Promote { .. } | PlanStep::VerifyWrite { .. } => {
            StepFailure::Unfinished
        }
    }
}

/// Closes a refused operation, so that it does not block the next one.
async fn close_refused(lock: OperationLock, failure: Error) -> Error {
    let why = chain(&failure);
    if let Err(error) = lock.complete(OperationOutcome::Refused { why }).await {
        output::print_progress(&format!("warning: could not close the journal: {error:#}"));
    }
    failure
}

#[cfg(test)]
mod tests;
