//! Journal of an operation: its plan, and the result of each step.

use anyhow::Context as _;
use causeway_core::Epoch;
use causeway_core::failover::loss::LossLimit;
use causeway_core::failover::loss_statement::LossStatement;
use causeway_core::failover::plan::FailoverPlan;
use causeway_core::failover::plan_state::StepRecord;
use causeway_core::lease::WritePrecondition;
use causeway_runtime::s3::WholeObject;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::error::Error;

/// Stored record of an operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Version of this format.
    pub(crate) format: u32,
    /// Id of the operation: its start time and a random suffix.
    pub(crate) id: String,
    /// Operator that holds it: user, host and process.
    pub(crate) operator: String,
    /// Start time.
    pub(crate) started_at: String,
    /// End time; none before.
    pub(crate) ended_at: Option<String>,
    /// Plan.
    pub(crate) plan: FailoverPlan,
    /// Accepted risks, such as `--accept-loss` and `--unfenced`.
    pub(crate) accepted_risks: Vec<String>,
    /// Data loss limit that was accepted last.
    #[serde(default)]
    pub(crate) limit: Option<LossLimit>,
    /// Statements of the data loss, oldest first. The last one before the lease was taken counts.
    #[serde(default)]
    pub(crate) statements: Vec<LossStatement>,
    /// Executions of steps, in the order of their start.
    pub(crate) entries: Vec<StepRecord>,
    /// Reason why its operator released it unfinished; none while an operator may hold it.
    #[serde(default)]
    pub(crate) left: Option<String>,
    /// Outcome; none before the end.
    #[serde(default)]
    pub(crate) outcome: Option<OperationOutcome>,
    /// Counter of writes.
    pub(crate) heartbeat: u64,
    /// Random id of the process that wrote it last: two containers can have the same user, host name and process id.
    #[serde(default)]
    pub(crate) writer: String,
}

/// Outcome of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum OperationOutcome {
    /// The target is primary.
    Promoted {
        /// DNS records not moved at the end. The primary's agent retries.
        records_not_moved: Vec<String>,
    },
    /// It was refused before the lease was taken.
    Refused {
        /// Reason.
        why: String,
    },
    /// An operator closed it with `abandon`.
    Abandoned {
        /// Operator.
        by: String,
        /// Reason given by the operator.
        reason: Option<String>,
        /// Unfinished effects of the operation.
        left_behind: Vec<String>,
    },
    /// Another operation replaced it.
    Replaced {
        /// Id of the other operation.
        by: String,
    },
    /// The lease has a newer epoch than the plan.
    Overtaken {
        /// Epoch of the lease.
        epoch: Epoch,
    },
}

impl Journal {
    /// Returns the journal of a new operation.
    pub(crate) fn new(plan: FailoverPlan, limit: LossLimit, accepted_risks: Vec<String>) -> Self {
        let now = Timestamp::now();
        Self {
            format: 1,
            id: format!(
                "{}-{:04x}",
                now.strftime("%Y%m%dT%H%M%SZ"),
                rand::random::<u16>()
            ),
            operator: operator_name(),
            started_at: format_timestamp(now),
            ended_at: None,
            plan,
            accepted_risks,
            limit: Some(limit),
            statements: Vec::new(),
            entries: Vec::new(),
            left: None,
            outcome: None,
            heartbeat: 0,
            writer: new_writer(),
        }
    }

    pub(super) fn body(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).context("could not serialize the journal")
    }

    pub(super) fn parse(stored: &WholeObject) -> anyhow::Result<Self> {
        serde_json::from_slice(&stored.body)
            .context("could not parse the journal in the lease bucket")
    }
}

/// Returns the journals of all operations, oldest first.
pub(crate) async fn list_journals(store: &LeaseStore) -> Result<Vec<Journal>, Error> {
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
    // Ids of the same second are unordered.
    journals.sort_by(|one, other| one.started_at.cmp(&other.started_at));
    Ok(journals)
}

pub(super) async fn archive_journal(store: &LeaseStore, journal: &Journal) -> anyhow::Result<()> {
    let key = store.key(&format!("operations/{}.json", journal.id));
    match store
        .write(&key, journal.body()?, &WritePrecondition::Missing)
        .await
    {
        Ok(_) | Err(LeaseStoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn busy_error(journal: &Journal) -> Error {
    Error::Busy {
        operator: journal.operator.clone(),
        operation: journal.id.clone(),
    }
}

/// Returns a random id for a process that becomes the writer of a journal.
pub(super) fn new_writer() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Returns the name of this process as operator: user, host and process id.
pub(crate) fn operator_name() -> String {
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

/// Returns the current time as stored.
pub(crate) fn now() -> String {
    format_timestamp(Timestamp::now())
}

pub(super) fn format_timestamp(timestamp: Timestamp) -> String {
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests {
    use causeway_core::lease::ETag;
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;

    const JOURNAL: &str = r#"{"format":1,"id":"20261129T080000Z-0001","operator":"op@host process 1",
        "started_at":"2026-11-29T08:00:00.000Z","ended_at":null,"left":"cut off","plan":{"to":"c","from":"a",
        "planned_epoch":3,"data_loss":null,"steps":[{"step":"fence","node":"a","method":"lease-expired"},
        {"step":"take-lease","node":"c","epoch":4},{"step":"promote","node":"c","timeline":2}]},
        "accepted_risks":["--unfenced"],"limit":{"bytes":5,"rows":null},"statements":[],"entries":[{"step":0,
        "started_at":"2026-11-29T08:00:01.000Z","ended_at":null,"completed":false,"evidence":null}],
        "outcome":{"outcome":"replaced","by":"x"},"heartbeat":3,"writer":"00ff"}"#;

    fn parse(body: &[u8]) -> anyhow::Result<Journal> {
        let (etag, body) = (ETag("1".to_owned()), body.to_vec());
        Journal::parse(&WholeObject { etag, body })
    }

    #[test]
    fn undamaged_sample_then_parsed() {
        parse(JOURNAL.as_bytes()).unwrap();
    }

    proptest! {
        #[test]
        fn damaged_journal_then_no_panic(body in damaged(JOURNAL.as_bytes())) {
            if let Ok(journal) = parse(&body) {
                let stored = journal.body().unwrap();
                prop_assert_eq!(parse(&stored).unwrap().body().unwrap(), stored);
                journal.plan.fence();
            }
        }
    }
}
