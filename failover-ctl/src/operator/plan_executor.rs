//! Carries out a plan: one step at a time, each noted before and after, and nothing that cannot be undone
//! before the loss was stated once more.

use std::cell::OnceCell;
use std::pin::pin;
use std::time::Duration;

use causeway_core::NodeId;
use causeway_core::failover::loss::LossLimit;
use causeway_core::failover::plan::{FailoverPlan, FencingMethod, PlanStep};
use causeway_core::failover::plan_state::{PlanState, remaining_steps, plan_state};
use causeway_core::failover::promotion::PromotionRequest;
use causeway_core::failover::loss_statement::{LossStatement, LossStatementStage};
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
use crate::operator::survey::{self, PATIENT, QUICK};
use crate::output;
use crate::protocol::signed_command::CommandSigningKey;

/// How long the store may be away before the loss cannot be stated: as long as an operator may be silent.
const STATED_WITHIN: Duration = HEARTBEAT_TIMEOUT;

/// For how long what was seen for the plan is as good as a second look: nobody was asked in between.
const FRESH: Duration = Duration::from_millis(1500);

/// The pauses between two tries to read the lease.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(1),
};

/// What carries a plan out.
pub(crate) struct PlanExecutor<'a> {
    pub(super) settings: &'a Settings,
    pub(super) store: LeaseStore,
    pub(super) agents: AgentClient,
    pub(super) key: CommandSigningKey,
    /// When the cluster was looked at for the statement that the operator was shown.
    pub(super) stated_at: Instant,
    /// Until when Route 53 is tried; it begins with the first record.
    pub(super) records_until: OnceCell<Instant>,
}

/// What a step that did not end means for the operation.
enum StepFailure {
    /// Nothing was changed that a new plan would not find as it is: the operation is over.
    Over(Error),
    /// The promotion goes on without it.
    GoOn,
    /// What has happened is not undone, and what remains can be resumed.
    Left,
}

/// The target has not taken the lease, and will not: the order was refused, was never sent, or came to
/// nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LeaseNotTaken(pub(super) String);

impl<'a> PlanExecutor<'a> {
    pub(crate) const fn new(
        settings: &'a Settings,
        store: LeaseStore,
        agents: AgentClient,
        key: CommandSigningKey,
        stated_at: Instant,
    ) -> Self {
        Self {
            settings,
            store,
            agents,
            key,
            stated_at,
            records_until: OnceCell::new(),
        }
    }

    /// Carries out what remains of a plan, and ends the operation. A record that is not moved keeps nothing
    /// open: the primary's own agent moves it, and the journal says that it was not.
    ///
    /// # Errors
    ///
    /// A refusal before the lease was taken, with the operation ended; [`Error::Unfinished`] afterwards,
    /// and the journal says how far it came.
    pub(crate) async fn run(
        &self,
        mut held: OperationLock,
        standing: PlanState,
    ) -> Result<Journal, Error> {
        let plan = held.journal.plan.clone();
        let operation = held.journal.id.clone();
        let mut records_not_moved = Vec::new();
        let steps: Vec<(usize, PlanStep)> = remaining_steps(&plan, &held.journal.entries, standing)
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
            let fresh = self.stated_at.elapsed() < FRESH;
            if let Some(after) = stated_before(&step)
                && !(fresh && after == LossStatementStage::Answer)
            {
                match Box::pin(self.state(&plan, after, &mut held)).await {
                    Ok(()) => {}
                    Err(Error::Other(error)) if error.is::<OperationLockLost>() => {
                        return Err(unfinished(error));
                    }
                    Err(failure) => return Err(over(held, failure).await),
                }
            }
            held.began(at).await.map_err(unfinished)?;
            output::say(&format!("{}. {step}", at + 1));
            let done = Box::pin(self.with_beats(&mut held, self.perform(&plan, &step))).await;
            let error = match done.and_then(|done| done) {
                Ok(evidence) => {
                    output::say(&format!("   {evidence}"));
                    held.ended(true, evidence);
                    continue;
                }
                Err(error) => error,
            };
            if error.is::<OperationLockLost>() {
                return Err(unfinished(error));
            }
            let why = format!("{error:#}");
            held.ended(false, why.clone());
            match broken(&step, &error, &why) {
                StepFailure::Over(failure) => return Err(over(held, failure).await),
                StepFailure::GoOn => {
                    output::say(&format!("   NOT DONE: {why}"));
                    if let PlanStep::PointRecord { name, .. } = &step {
                        records_not_moved.push(name.clone());
                    }
                }
                StepFailure::Left => {
                    if let Err(error) = held.leave(why).await {
                        output::say(&format!("the journal could not be written: {error:#}"));
                    }
                    return Err(unfinished(error));
                }
            }
        }
        Ok(held
            .end(OperationOutcome::Promoted { records_not_moved })
            .await?)
    }

    /// States the loss once more, and refuses one that is larger than what was accepted, as well as
    /// everything else that would refuse a new plan. The statement is stored with the next step.
    async fn state(
        &self,
        plan: &FailoverPlan,
        after: LossStatementStage,
        held: &mut OperationLock,
    ) -> Result<(), Error> {
        let stating = Box::pin(self.with_beats(held, self.statement(plan, after)));
        let Some(stated) = stating.await?? else {
            return Ok(());
        };
        let limit = held.journal.limit.unwrap_or(LossLimit {
            bytes: 0,
            rows: None,
        });
        let loss = stated.data_loss;
        held.stated(stated);
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

    /// Looks at the cluster as it is now; none if the target holds the lease already.
    async fn statement(
        &self,
        plan: &FailoverPlan,
        after: LossStatementStage,
    ) -> Result<Option<LossStatement>, Error> {
        let fence = plan.fence();
        // A primary that lives renews its lease, so the fence of the first kind fails without its answer.
        let patience = match fence {
            FencingMethod::LeaseExpired => QUICK,
            FencingMethod::InstanceStopped | FencingMethod::Unfenced => PATIENT,
        };
        let judge = |error: &Error| {
            if matches!(error, Error::Store(_)) {
                RetryClass::Transient
            } else {
                RetryClass::Permanent
            }
        };
        let deadline = Instant::now() + STATED_WITHIN;
        let take = || survey::take(self.settings, &self.store, &self.agents, patience);
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
        Ok(Some(seen.statement(after, &plan.to, &candidate)))
    }

    /// Performs something, and shows meanwhile that this operator is at work.
    async fn with_beats<T>(
        &self,
        held: &mut OperationLock,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<T> {
        let mut work = pin!(work);
        let mut beaten_at = Instant::now();
        let mut beat = time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        loop {
            tokio::select! {
                result = &mut work => return Ok(result),
                _ = beat.tick() => match held.beat().await {
                    Ok(()) => beaten_at = Instant::now(),
                    // A store that does not answer for a moment stops nobody: every step is under the
                    // epoch of the plan. One that is silent for longer lets somebody else take over.
                    Err(error) if error.is::<OperationLockLost>() => return Err(error),
                    Err(error) if beaten_at.elapsed() >= HEARTBEAT_TIMEOUT => return Err(error),
                    Err(error) => output::say(&format!("   the journal waits: {error:#}")),
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

/// Returns after what the loss is stated again before a step is begun.
const fn stated_before(step: &PlanStep) -> Option<LossStatementStage> {
    match step {
        PlanStep::Fence { .. } => Some(LossStatementStage::Answer),
        PlanStep::CatchUp { .. } => Some(LossStatementStage::Fence),
        PlanStep::TakeLease { .. } => Some(LossStatementStage::CatchUp),
        PlanStep::Promote { .. } | PlanStep::PointRecord { .. } | PlanStep::VerifyWrite { .. } => {
            None
        }
    }
}

fn broken(step: &PlanStep, error: &anyhow::Error, why: &str) -> StepFailure {
    let why = why.to_owned();
    match step {
        PlanStep::Fence { node, .. } => StepFailure::Over(Error::NotFenced {
            node: node.to_string(),
            why,
        }),
        PlanStep::CatchUp { node } => StepFailure::Over(Error::NotPromotable {
            node: node.to_string(),
            why,
        }),
        PlanStep::TakeLease { node, .. } if error.is::<LeaseNotTaken>() => {
            StepFailure::Over(Error::NotPromotable {
                node: node.to_string(),
                why,
            })
        }
        PlanStep::PointRecord { .. } => StepFailure::GoOn,
        PlanStep::TakeLease { .. } | PlanStep::Promote { .. } | PlanStep::VerifyWrite { .. } => {
            StepFailure::Left
        }
    }
}

/// Ends an operation that was refused, so that the next one is not kept waiting for it.
async fn over(held: OperationLock, failure: Error) -> Error {
    let why = chain(&failure);
    if let Err(error) = held.end(OperationOutcome::Refused { why }).await {
        output::say(&format!("the journal could not be ended: {error:#}"));
    }
    failure
}
