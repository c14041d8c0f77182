//! The record of an operation: its plan, and the result of each step.

use anyhow::Context as _;
use causeway_core::Epoch;
use causeway_core::failover::loss::LossLimit;
use causeway_core::failover::plan::FailoverPlan;
use causeway_core::failover::plan_state::StepRecord;
use causeway_core::failover::loss_statement::LossStatement;
use causeway_core::lease::WritePrecondition;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clients::lease_store::{LeaseStore, LeaseStoreError, StoredObject};
use crate::error::Error;

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
    pub(crate) started_at: String,
    /// When it ended; none while it has not.
    pub(crate) ended_at: Option<String>,
    /// What is done.
    pub(crate) plan: FailoverPlan,
    /// What was accepted or forced: `--accept-loss`, `--unfenced`.
    pub(crate) accepted_risks: Vec<String>,
    /// How much may be lost by what was accepted last.
    #[serde(default)]
    pub(crate) limit: Option<LossLimit>,
    /// What was stated to be lost, and from what, oldest first. The last one before the lease was taken is
    /// the one that counts.
    #[serde(default)]
    pub(crate) statements: Vec<LossStatement>,
    /// What became of each step, in the order in which they were begun.
    pub(crate) entries: Vec<StepRecord>,
    /// Why its operator has left it unended; none while somebody may be at work on it.
    #[serde(default)]
    pub(crate) left: Option<String>,
    /// What came of it; none while it has not ended.
    #[serde(default)]
    pub(crate) outcome: Option<OperationOutcome>,
    /// Rises with each write.
    pub(crate) heartbeat: u64,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum OperationOutcome {
    /// The target is primary.
    Promoted {
        /// The records that were not moved yet when it ended. The primary's agent goes on trying.
        records_not_moved: Vec<String>,
    },
    /// It was refused, and the lease was not taken.
    Refused {
        /// Why.
        why: String,
    },
    /// An operator has ended it with `abandon`.
    Abandoned {
        /// Who.
        by: String,
        /// Why, in their words.
        reason: Option<String>,
        /// What it left behind.
        left_behind: Vec<String>,
    },
    /// Another operation was begun in its place.
    Replaced {
        /// Its name.
        by: String,
    },
    /// The lease has gone another way.
    Overtaken {
        /// Its epoch.
        epoch: Epoch,
    },
}

impl Journal {
    /// Returns the journal of an operation that has not begun.
    pub(crate) fn new(plan: FailoverPlan, limit: LossLimit, accepted_risks: Vec<String>) -> Self {
        let now = Timestamp::now();
        Self {
            format: 1,
            id: format!(
                "{}-{:04x}",
                now.strftime("%Y%m%dT%H%M%SZ"),
                rand::random::<u16>()
            ),
            operator: operator(),
            started_at: seconds(now),
            ended_at: None,
            plan,
            accepted_risks,
            limit: Some(limit),
            statements: Vec::new(),
            entries: Vec::new(),
            left: None,
            outcome: None,
            heartbeat: 0,
        }
    }

    pub(super) fn body(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).context("could not write the journal")
    }

    pub(super) fn parse(stored: &StoredObject) -> anyhow::Result<Self> {
        serde_json::from_slice(&stored.body)
            .context("the journal in the lease bucket cannot be read")
    }
}

/// Returns every operation, oldest first, the one under way last.
pub(crate) async fn all(store: &LeaseStore) -> Result<Vec<Journal>, Error> {
    let mut journals = Vec::new();
    for key in store.list(&store.key("operations/")).await? {
        if let Some(stored) = store.read(&key).await? {
            journals.push(Journal::parse(&stored)?);
        }
    }
    if let Some(stored) = store.read(&store.key("operation")).await? {
        let last = Journal::parse(&stored)?;
        if journals.iter().all(|journal| journal.id != last.id) {
            journals.push(last);
        }
    }
    // Names of the same second are in no order.
    journals.sort_by(|one, other| one.started_at.cmp(&other.started_at));
    Ok(journals)
}

pub(super) async fn file(store: &LeaseStore, journal: &Journal) -> anyhow::Result<()> {
    let key = store.key(&format!("operations/{}.json", journal.id));
    match store
        .write(&key, journal.body()?, &WritePrecondition::Missing)
        .await
    {
        Ok(_) | Err(LeaseStoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn busy(journal: &Journal) -> Error {
    Error::Busy {
        operator: journal.operator.clone(),
        operation: journal.id.clone(),
    }
}

/// Returns who this process works for.
pub(crate) fn operator() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten();
    let user = user.map_or_else(|| "unknown".to_owned(), |user| user.name);
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    format!(
        "{user}@{} process {}",
        host.unwrap_or_else(|| "unknown".to_owned()),
        std::process::id()
    )
}

/// Returns the moment as it is stored.
pub(crate) fn now() -> String {
    seconds(Timestamp::now())
}

pub(super) fn seconds(moment: Timestamp) -> String {
    format!("{moment:.3}")
}
