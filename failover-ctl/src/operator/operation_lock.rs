//! Lock that keeps two operators from the same operation: the journal in the lease bucket, changed by
//! compare-and-swap. Its holder writes a heartbeat into it every two seconds.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use causeway_core::failover::loss_statement::LossStatement;
use causeway_core::failover::plan_state::{PlanState, StepRecord, plan_state};
use causeway_core::lease::{ETag, LeaseRecord, WritePrecondition};
use causeway_runtime::poll;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::error::Error;
use crate::operator::journal::{
    Journal, OperationOutcome, archive_journal, busy_error, format_timestamp, new_writer,
    operator_name,
};
use crate::output;

/// Interval between two heartbeats.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Time without a heartbeat after which another operator may take over: four are lost.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval at which a journal is read while its operator's heartbeat is awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Another process has taken the operation over, so this one must stop.
#[derive(Debug, thiserror::Error)]
#[error("another operator has taken over this operation")]
pub(crate) struct OperationLockLost;

/// Operation that has not ended, and that this process does not hold.
#[derive(Debug)]
pub(crate) struct OpenOperation {
    store: LeaseStore,
    etag: ETag,
    pub(crate) journal: Journal,
}

/// State of the journal object.
enum JournalState {
    /// No operation, or one that has ended; a write requires this precondition.
    Ended(WritePrecondition),
    /// An operation that has not ended.
    Open(Box<OpenOperation>),
}

/// Journal that this process holds.
#[derive(Debug)]
pub(crate) struct OperationLock {
    store: LeaseStore,
    etag: ETag,
    pub(crate) journal: Journal,
}

impl OpenOperation {
    /// Returns the operation that has not ended, if any.
    ///
    /// # Errors
    ///
    /// When the lease store fails or the journal cannot be parsed.
    pub(crate) async fn find(store: &LeaseStore) -> Result<Option<Self>, Error> {
        match Self::read_state(store).await? {
            JournalState::Open(open) => Ok(Some(*open)),
            JournalState::Ended(_) => Ok(None),
        }
    }

    async fn read_state(store: &LeaseStore) -> Result<JournalState, Error> {
        let Some(stored) = store.read(&store.key("operation")).await? else {
            return Ok(JournalState::Ended(WritePrecondition::Missing));
        };
        let journal = Journal::parse(&stored)?;
        if journal.ended_at.is_some() {
            // Its operator may have been interrupted before it archived the journal.
            archive_journal(store, &journal).await?;
            return Ok(JournalState::Ended(WritePrecondition::Match(stored.etag)));
        }
        Ok(JournalState::Open(Box::new(Self {
            store: store.clone(),
            etag: stored.etag,
            journal,
        })))
    }

    /// Waits until no operator holds the operation: it was released, or has had no heartbeat for ten seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when a heartbeat arrives.
    pub(crate) async fn wait_until_released(&self) -> Result<(), Error> {
        if self.journal.left.is_some() {
            return Ok(());
        }
        output::print_progress(&format!(
            "operation {} has not ended: waiting {HEARTBEAT_TIMEOUT:?} for a heartbeat of its operator",
            self.journal.id
        ));
        let key = self.store.key("operation");
        let deadline = Instant::now() + HEARTBEAT_TIMEOUT;
        let heartbeat = poll::until(deadline, POLL_INTERVAL, async || {
            match self.store.read(&key).await {
                Ok(Some(stored)) if stored.etag == self.etag => Continue(()),
                Ok(Some(_) | None) => Break(busy_error(&self.journal)),
                Err(error) => Break(error.into()),
            }
        });
        match heartbeat.await {
            Break(error) => Err(error),
            Continue(()) => Ok(()),
        }
    }

    /// Becomes the operator of the operation.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another operator has taken it over meanwhile.
    pub(crate) async fn take_over(
        mut self,
        change: impl FnOnce(&mut Journal),
    ) -> Result<OperationLock, Error> {
        self.journal.operator = operator_name();
        self.journal.writer = new_writer();
        self.journal.left = None;
        change(&mut self.journal);
        let etag = self.write_journal().await?;
        let Self { store, journal, .. } = self;
        Ok(OperationLock {
            store,
            etag,
            journal,
        })
    }

    /// Closes the operation without executing it, and archives its journal. Returns the journal and its `ETag`.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when an operator has written it meanwhile.
    pub(crate) async fn close(
        mut self,
        outcome: OperationOutcome,
    ) -> Result<(Journal, ETag), Error> {
        self.journal.writer = new_writer();
        self.journal.ended_at = Some(format_timestamp(Timestamp::now()));
        self.journal.outcome = Some(outcome);
        let etag = self.write_journal().await?;
        archive_journal(&self.store, &self.journal).await?;
        Ok((self.journal, etag))
    }

    async fn write_journal(&mut self) -> Result<ETag, Error> {
        self.journal.heartbeat += 1;
        let condition = WritePrecondition::Match(self.etag.clone());
        match write_confirmed(&self.store, &self.journal, &condition).await? {
            Ok(etag) => Ok(etag),
            Err(LeaseStoreError::Conflict(_)) => Err(busy_error(&self.journal)),
            Err(error) => Err(error.into()),
        }
    }
}

impl OperationLock {
    /// Starts an operation. An earlier one that has not ended is closed first, once no operator holds it, so that it does
    /// not block the next failover.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another operator holds the lock.
    pub(crate) async fn acquire(
        store: &LeaseStore,
        journal: Journal,
        lease: &LeaseRecord,
    ) -> Result<Self, Error> {
        let key = store.key("operation");
        let condition = match OpenOperation::read_state(store).await? {
            JournalState::Open(open) => {
                let outcome = if plan_state(&open.journal.plan, lease) == PlanState::Overtaken {
                    // Its remaining steps would be rejected, because the lease has a newer epoch than its plan.
                    let epoch = lease.epoch;
                    OperationOutcome::Overtaken { epoch }
                } else {
                    open.wait_until_released().await?;
                    let by = journal.id.clone();
                    OperationOutcome::Replaced { by }
                };
                let (before, etag) = open.close(outcome).await?;
                output::print_progress(&format!(
                    "operation {} closed and replaced by this one",
                    before.id
                ));
                WritePrecondition::Match(etag)
            }
            JournalState::Ended(condition) => condition,
        };
        match write_confirmed(store, &journal, &condition).await? {
            Ok(etag) => Ok(Self {
                store: store.clone(),
                etag,
                journal,
            }),
            Err(LeaseStoreError::Conflict(_)) => match store.read(&key).await? {
                Some(stored) => Err(busy_error(&Journal::parse(&stored)?)),
                None => Err(anyhow::anyhow!(
                    "the operation lock was created and deleted meanwhile: retry"
                )
                .into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Stores that a step starts, before it has any effect, together with the result of the previous step.
    pub(crate) async fn record_step_start(&mut self, step: usize) -> anyhow::Result<()> {
        let started_at = format_timestamp(Timestamp::now());
        let entry = StepRecord {
            step,
            started_at,
            ended_at: None,
            evidence: None,
            completed: false,
        };
        self.journal.entries.push(entry);
        self.write_journal().await
    }

    /// Records the result of the step that started last. The next write stores it: that of the next step, of the end, or
    /// a heartbeat. An operator who is interrupted before it repeats the step.
    pub(crate) fn record_step_end(&mut self, completed: bool, evidence: String) {
        if let Some(entry) = self.journal.entries.last_mut() {
            entry.ended_at = Some(format_timestamp(Timestamp::now()));
            entry.evidence = Some(evidence);
            entry.completed = completed;
        }
    }

    /// Records a statement of the data loss. The next write stores it.
    pub(crate) fn record_statement(&mut self, statement: LossStatement) {
        self.journal.statements.push(statement);
    }

    /// Writes a heartbeat.
    pub(crate) async fn write_heartbeat(&mut self) -> anyhow::Result<()> {
        self.write_journal().await
    }

    /// Releases the unfinished operation, so that the next operator need not wait for a heartbeat.
    pub(crate) async fn release(mut self, reason: String) -> anyhow::Result<()> {
        self.journal.left = Some(reason);
        self.write_journal().await
    }

    /// Completes the operation and archives its journal.
    pub(crate) async fn complete(mut self, outcome: OperationOutcome) -> anyhow::Result<Journal> {
        self.journal.ended_at = Some(format_timestamp(Timestamp::now()));
        self.journal.outcome = Some(outcome);
        self.write_journal().await?;
        archive_journal(&self.store, &self.journal).await?;
        Ok(self.journal)
    }

    async fn write_journal(&mut self) -> anyhow::Result<()> {
        self.journal.heartbeat += 1;
        let condition = WritePrecondition::Match(self.etag.clone());
        match write_confirmed(&self.store, &self.journal, &condition).await? {
            Ok(etag) => {
                self.etag = etag;
                Ok(())
            }
            Err(LeaseStoreError::Conflict(_)) => Err(OperationLockLost.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes the journal. The write may be stored although its response was lost, so after an error the stored object is
/// compared: no other process writes the same `writer` and heartbeat.
async fn write_confirmed(
    store: &LeaseStore,
    journal: &Journal,
    condition: &WritePrecondition,
) -> anyhow::Result<Result<ETag, LeaseStoreError>> {
    let key = store.key("operation");
    let body = journal.body()?;
    let error = match store.write(&key, body.clone(), condition).await {
        Ok(etag) => return Ok(Ok(etag)),
        Err(error) => error,
    };
    Ok(match store.read(&key).await {
        Ok(Some(stored)) if stored.body == body => Ok(stored.etag),
        Ok(Some(_) | None) => Err(error),
        // A conflict that cannot be compared may be with this process's own earlier attempt.
        Err(unread) => Err(unread),
    })
}
