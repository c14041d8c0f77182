//! The record of an operation: what was planned, and what became of each step.
//!
//! It is one object in the lease bucket, changed by compare-and-swap, and so also the lock that keeps
//! a second operator from the same work. An operator who is at work writes it every two seconds; one
//! who finds it changed by somebody else stops.

use std::time::Duration;

use anyhow::Context as _;
use ha_core::failover::plan::Plan;
use ha_core::failover::progress::Entry;
use ha_core::lease::{Condition, ETag, LeaseRecord};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{self, Instant};

use crate::error::Failure;
use crate::world::lease_store::{LeaseStore, StoreError, Stored};

/// How often an operator shows that they are at work.
pub(crate) const BEAT: Duration = Duration::from_secs(2);

/// For how long a journal must stand unchanged before somebody else continues it: four beats lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// How often a silent journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One operation, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// The version of this record.
    pub(crate) format: u32,
    /// The name of the operation: its first moment and a random suffix.
    pub(crate) id: String,
    /// Who works on it: user, host and process.
    pub(crate) operator: String,
    /// When it was begun.
    pub(crate) began_at: String,
    /// When it ended; none while it has not.
    pub(crate) ended_at: Option<String>,
    /// What is done.
    pub(crate) plan: Plan,
    /// What was accepted or forced: `--accept-loss`, `--unfenced`.
    pub(crate) accepted: Vec<String>,
    /// What became of each step, in the order in which they were begun.
    pub(crate) entries: Vec<Entry>,
    /// Rises with each write.
    pub(crate) beat: u64,
}

/// Somebody else works on the operation now, so this process must not.
#[derive(Debug, thiserror::Error)]
#[error("another operator has taken this operation over")]
pub(crate) struct TakenOver;

/// A journal that this process writes.
#[derive(Debug)]
pub(crate) struct Held {
    store: LeaseStore,
    etag: ETag,
    pub(crate) journal: Journal,
}

impl Journal {
    /// Returns the journal of an operation that has not begun.
    pub(crate) fn new(plan: Plan, accepted: Vec<String>) -> Self {
        let now = Timestamp::now();
        Self {
            format: 1,
            id: format!(
                "{}-{:04x}",
                now.strftime("%Y%m%dT%H%M%SZ"),
                rand::random::<u16>()
            ),
            operator: operator(),
            began_at: seconds(now),
            ended_at: None,
            plan,
            accepted,
            entries: Vec::new(),
            beat: 0,
        }
    }

    fn body(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).context("could not write the journal")
    }

    fn parse(stored: &Stored) -> anyhow::Result<Self> {
        serde_json::from_slice(&stored.body)
            .context("the journal in the lease bucket cannot be read")
    }
}

impl Held {
    /// Begins an operation, if nobody is at work on one that could still be carried out: when the lease
    /// has gone past the epoch of a plan, nothing of it can be.
    ///
    /// # Errors
    ///
    /// [`Failure::Busy`] with who is.
    pub(crate) async fn begin(
        store: &LeaseStore,
        journal: Journal,
        lease: &LeaseRecord,
    ) -> Result<Self, Failure> {
        let key = store.key("operation");
        let found = store.read(&key).await?;
        let condition = match &found {
            None => Condition::Missing,
            Some(stored) => {
                let mut before = Journal::parse(stored)?;
                if before.ended_at.is_none() {
                    if !is_outdated(&before.plan, lease) {
                        return Err(busy(before));
                    }
                    before.ended_at = Some(seconds(Timestamp::now()));
                    before
                        .accepted
                        .push(format!("given up: the lease is at epoch {}", lease.epoch));
                }
                file(store, &before).await?;
                Condition::Match(stored.etag.clone())
            }
        };
        match store.write(&key, journal.body()?, &condition).await {
            Ok(etag) => Ok(Self {
                store: store.clone(),
                etag,
                journal,
            }),
            Err(StoreError::Conflict(_)) => match store.read(&key).await? {
                Some(stored) => Err(busy(Journal::parse(&stored)?)),
                None => Err(anyhow::anyhow!("the operation lock came and went: try again").into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Takes over an operation that nobody has worked on for ten seconds.
    ///
    /// # Errors
    ///
    /// [`Failure::NothingToResume`], or [`Failure::Busy`] if its operator is at work.
    pub(crate) async fn resume(store: &LeaseStore) -> Result<Self, Failure> {
        let key = store.key("operation");
        let Some(first) = store.read(&key).await? else {
            return Err(Failure::NothingToResume);
        };
        let mut journal = Journal::parse(&first)?;
        if journal.ended_at.is_some() {
            file(store, &journal).await?;
            return Err(Failure::NothingToResume);
        }
        let until = Instant::now() + SILENCE;
        while Instant::now() < until {
            time::sleep(LOOK_EVERY).await;
            let now = store.read(&key).await?;
            if now.is_none_or(|it| it.etag != first.etag) {
                return Err(busy(journal));
            }
        }
        journal.operator = operator();
        journal.beat += 1;
        match store
            .write(&key, journal.body()?, &Condition::Match(first.etag))
            .await
        {
            Ok(etag) => Ok(Self {
                store: store.clone(),
                etag,
                journal,
            }),
            Err(StoreError::Conflict(_)) => Err(busy(journal)),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that a step is begun, before anything is done.
    pub(crate) async fn began(&mut self, step: usize) -> anyhow::Result<()> {
        let began_at = seconds(Timestamp::now());
        let entry = Entry {
            step,
            began_at,
            ended_at: None,
            evidence: None,
            done: false,
        };
        self.journal.entries.push(entry);
        self.write().await
    }

    /// Notes what became of the step that was begun last.
    pub(crate) async fn ended(&mut self, done: bool, evidence: String) -> anyhow::Result<()> {
        if let Some(entry) = self.journal.entries.last_mut() {
            entry.ended_at = Some(seconds(Timestamp::now()));
            entry.evidence = Some(evidence);
            entry.done = done;
        }
        self.write().await
    }

    /// Shows that this operator is at work.
    pub(crate) async fn beat(&mut self) -> anyhow::Result<()> {
        self.write().await
    }

    /// Ends the operation, and files its journal.
    pub(crate) async fn end(mut self) -> anyhow::Result<Journal> {
        self.journal.ended_at = Some(seconds(Timestamp::now()));
        self.write().await?;
        file(&self.store, &self.journal).await?;
        Ok(self.journal)
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        self.journal.beat += 1;
        let body = self.journal.body()?;
        let key = self.store.key("operation");
        match self
            .store
            .write(&key, body.clone(), &Condition::Match(self.etag.clone()))
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
                if let StoreError::Conflict(_) = error {
                    return Err(TakenOver.into());
                }
                Err(error.into())
            }
        }
    }
}

/// Returns every operation, oldest first, the one under way last.
pub(crate) async fn all(store: &LeaseStore) -> Result<Vec<Journal>, Failure> {
    let mut journals = Vec::new();
    for key in store.list(&store.key("operations/")).await? {
        if let Some(stored) = store.read(&key).await? {
            journals.push(Journal::parse(&stored)?);
        }
    }
    if let Some(stored) = store.read(&store.key("operation")).await? {
        let last = Journal::parse(&stored)?;
        if journals.iter().all(|it| it.id != last.id) {
            journals.push(last);
        }
    }
    Ok(journals)
}

async fn file(store: &LeaseStore, journal: &Journal) -> anyhow::Result<()> {
    let key = store.key(&format!("operations/{}.json", journal.id));
    match store
        .write(&key, journal.body()?, &Condition::Missing)
        .await
    {
        Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Says whether the lease has gone another way than a plan would take it.
fn is_outdated(plan: &Plan, lease: &LeaseRecord) -> bool {
    let carried_out = lease.epoch == plan.planned.next() && lease.holder.node == plan.to;
    lease.epoch != plan.planned && !carried_out
}

fn busy(journal: Journal) -> Failure {
    Failure::Busy {
        operator: journal.operator,
        operation: journal.id,
    }
}

fn operator() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten();
    let user = user.map_or_else(|| "unknown".to_owned(), |it| it.name);
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|it| it.into_string().ok());
    format!(
        "{user}@{} process {}",
        host.unwrap_or_else(|| "unknown".to_owned()),
        std::process::id()
    )
}

fn seconds(moment: Timestamp) -> String {
    format!("{moment:.3}")
}
