//! The lock that keeps a second operator from the same operation: the journal of the operation in the lease bucket,
//! changed by compare-and-swap. Its holder writes it every two seconds.

use std::time::Duration;

use causeway_core::failover::plan_state::{PlanState, StepRecord, plan_state};
use causeway_core::failover::loss_statement::LossStatement;
use causeway_core::lease::{ETag, LeaseRecord, WritePrecondition};
use jiff::Timestamp;
use tokio::time::{self, Instant};

use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::error::Error;
use crate::operator::journal::{Journal, OperationOutcome, busy, file, operator, seconds};
use crate::output;

/// How often an operator shows that they are at work.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// For how long a journal must stand unchanged before somebody else continues it: four beats lost.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a silent journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Somebody else works on the operation now, so this process must not.
#[derive(Debug, thiserror::Error)]
#[error("another operator has taken this operation over")]
pub(crate) struct OperationLockLost;

/// An operation that has not ended, and that this process does not work on.
#[derive(Debug)]
pub(crate) struct OpenOperation {
    store: LeaseStore,
    etag: ETag,
    pub(crate) journal: Journal,
}

/// What the operation's object holds.
enum JournalState {
    /// Nothing, or an operation that has ended, and what a write must then require.
    Ended(WritePrecondition),
    /// An operation that has not ended.
    Open(Box<OpenOperation>),
}

/// A journal that this process writes.
#[derive(Debug)]
pub(crate) struct OperationLock {
    store: LeaseStore,
    etag: ETag,
    pub(crate) journal: Journal,
}

impl OpenOperation {
    /// Finds the operation that has not ended, if there is one.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub(crate) async fn find(store: &LeaseStore) -> Result<Option<Self>, Error> {
        match Self::look(store).await? {
            JournalState::Open(open) => Ok(Some(*open)),
            JournalState::Ended(_) => Ok(None),
        }
    }

    async fn look(store: &LeaseStore) -> Result<JournalState, Error> {
        let Some(stored) = store.read(&store.key("operation")).await? else {
            return Ok(JournalState::Ended(WritePrecondition::Missing));
        };
        let journal = Journal::parse(&stored)?;
        if journal.ended_at.is_some() {
            // Whoever ended it may have been cut off before it was filed.
            file(store, &journal).await?;
            return Ok(JournalState::Ended(WritePrecondition::Match(stored.etag)));
        }
        Ok(JournalState::Open(Box::new(Self {
            store: store.clone(),
            etag: stored.etag,
            journal,
        })))
    }

    /// Waits until its operator is known to be gone: they have said so, or have been silent for ten seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if its operator is at work.
    pub(crate) async fn is_left(&self) -> Result<(), Error> {
        if self.journal.left.is_some() {
            return Ok(());
        }
        output::say(&format!(
            "operation {} has not ended: looking whether anybody is at work on it, for {HEARTBEAT_TIMEOUT:?}",
            self.journal.id
        ));
        let key = self.store.key("operation");
        let until = Instant::now() + HEARTBEAT_TIMEOUT;
        while Instant::now() < until {
            time::sleep(LOOK_EVERY).await;
            let now = self.store.read(&key).await?;
            if now.is_none_or(|stored| stored.etag != self.etag) {
                return Err(busy(&self.journal));
            }
        }
        Ok(())
    }

    /// Becomes its operator, if nobody else has meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if somebody has.
    pub(crate) async fn take_up(
        mut self,
        change: impl FnOnce(&mut Journal),
    ) -> Result<OperationLock, Error> {
        self.journal.operator = operator();
        self.journal.left = None;
        change(&mut self.journal);
        let etag = self.write().await?;
        let Self { store, journal, .. } = self;
        Ok(OperationLock {
            store,
            etag,
            journal,
        })
    }

    /// Ends it although it was not carried out, and files its journal. Returns that and its version.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if somebody is at work on it after all.
    pub(crate) async fn close(
        mut self,
        outcome: OperationOutcome,
    ) -> Result<(Journal, ETag), Error> {
        self.journal.ended_at = Some(seconds(Timestamp::now()));
        self.journal.outcome = Some(outcome);
        let etag = self.write().await?;
        file(&self.store, &self.journal).await?;
        Ok((self.journal, etag))
    }

    async fn write(&mut self) -> Result<ETag, Error> {
        self.journal.heartbeat += 1;
        let key = self.store.key("operation");
        let condition = WritePrecondition::Match(self.etag.clone());
        match self
            .store
            .write(&key, self.journal.body()?, &condition)
            .await
        {
            Ok(etag) => Ok(etag),
            Err(LeaseStoreError::Conflict(_)) => Err(busy(&self.journal)),
            Err(error) => Err(error.into()),
        }
    }
}

impl OperationLock {
    /// Begins an operation. One that has not ended is closed before, once nobody is at work on it: it must
    /// not keep the next disaster waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] with who is at work.
    pub(crate) async fn begin(
        store: &LeaseStore,
        journal: Journal,
        lease: &LeaseRecord,
    ) -> Result<Self, Error> {
        let key = store.key("operation");
        let condition = match OpenOperation::look(store).await? {
            JournalState::Open(open) => {
                let outcome = if plan_state(&open.journal.plan, lease) == PlanState::Overtaken {
                    // Whatever its operator still does is refused: the lease has gone past its plan.
                    let epoch = lease.epoch;
                    OperationOutcome::Overtaken { epoch }
                } else {
                    open.is_left().await?;
                    let by = journal.id.clone();
                    OperationOutcome::Replaced { by }
                };
                let (before, etag) = open.close(outcome).await?;
                output::say(&format!(
                    "operation {} is closed, and this one begun in its place",
                    before.id
                ));
                WritePrecondition::Match(etag)
            }
            JournalState::Ended(condition) => condition,
        };
        match store.write(&key, journal.body()?, &condition).await {
            Ok(etag) => Ok(Self {
                store: store.clone(),
                etag,
                journal,
            }),
            Err(LeaseStoreError::Conflict(_)) => match store.read(&key).await? {
                Some(stored) => Err(busy(&Journal::parse(&stored)?)),
                None => Err(anyhow::anyhow!("the operation lock came and went: try again").into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that a step is begun, before anything is done, and what became of the one before.
    pub(crate) async fn began(&mut self, step: usize) -> anyhow::Result<()> {
        let started_at = seconds(Timestamp::now());
        let entry = StepRecord {
            step,
            started_at,
            ended_at: None,
            evidence: None,
            completed: false,
        };
        self.journal.entries.push(entry);
        self.write().await
    }

    /// Takes in what became of the step that was begun last. It is stored with the next write, which is
    /// that of the next step, of the end, or a beat: an operator who is cut off in between repeats the step.
    pub(crate) fn ended(&mut self, done: bool, evidence: String) {
        if let Some(entry) = self.journal.entries.last_mut() {
            entry.ended_at = Some(seconds(Timestamp::now()));
            entry.evidence = Some(evidence);
            entry.completed = done;
        }
    }

    /// Takes in what is stated to be lost, to be stored with the next write.
    pub(crate) fn stated(&mut self, statement: LossStatement) {
        self.journal.statements.push(statement);
    }

    /// Shows that this operator is at work.
    pub(crate) async fn beat(&mut self) -> anyhow::Result<()> {
        self.write().await
    }

    /// Leaves the operation as it is: nobody works on it any more, so that the next operator need not wait.
    pub(crate) async fn leave(mut self, why: String) -> anyhow::Result<()> {
        self.journal.left = Some(why);
        self.write().await
    }

    /// Ends the operation, and files its journal.
    pub(crate) async fn end(mut self, outcome: OperationOutcome) -> anyhow::Result<Journal> {
        self.journal.ended_at = Some(seconds(Timestamp::now()));
        self.journal.outcome = Some(outcome);
        self.write().await?;
        file(&self.store, &self.journal).await?;
        Ok(self.journal)
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        self.journal.heartbeat += 1;
        let body = self.journal.body()?;
        let key = self.store.key("operation");
        match self
            .store
            .write(
                &key,
                body.clone(),
                &WritePrecondition::Match(self.etag.clone()),
            )
            .await
        {
            Ok(etag) => {
                self.etag = etag;
                Ok(())
            }
            Err(error) => {
                // A write whose answer was lost, or that a retry found done, is in the store.
                if let Some(stored) = self.store.read(&key).await?
                    && stored.body == body
                {
                    self.etag = stored.etag;
                    return Ok(());
                }
                if let LeaseStoreError::Conflict(_) = error {
                    return Err(OperationLockLost.into());
                }
                Err(error.into())
            }
        }
    }
}
