//! The records that follow the primary.
//!
//! Route 53 has no conditional write, but a change batch is atomic and a DELETE must match the record
//! exactly. So each move deletes the epoch that it read, creates its own, and upserts the record, in
//! one batch: a writer with an old plan is refused whole.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::bail;
use aws_sdk_route53::Client;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, ChangeStatus, ResourceRecord, ResourceRecordSet, RrType,
};
use causeway_core::Epoch;
use causeway_runtime::aws::{self, AwsService, AwsTimeouts, SdkRetries};
use causeway_runtime::retry::{self, RetryClass, RetryPolicy};
use tokio::time::{self, Instant};

use crate::config::{DnsSettings, NodeSettings, Settings};

/// How long one call may take. Route 53's control plane is far away, and answers within a second.
const PATIENCE: AwsTimeouts = AwsTimeouts {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(5),
};

/// How often Route 53 is asked whether a change has arrived everywhere; it throttles at five calls a
/// second for an account (Route 53 quotas).
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long a change may take to arrive: Route 53 says 60 seconds as a rule.
const ARRIVES_WITHIN: Duration = Duration::from_mins(2);

/// How long a move waits before it looks again at records that somebody else may have moved meanwhile.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(200),
    max_backoff: Duration::from_secs(2),
};

/// The records, in the zones that hold them.
#[derive(Clone, Debug)]
pub(crate) struct DnsRecords {
    client: Client,
    zone: String,
    /// The API's record and its zone, where that is another: its name is public, the writer's is not.
    elsewhere: Option<(String, String)>,
    ttl: i64,
}

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordMoved {
    /// The batch was taken, under this change.
    Changed(String),
    /// The record was there already, under this epoch.
    Already,
}

/// Why a record was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordMoveError {
    /// It was moved under a later epoch, so whoever asks has an old plan.
    #[error("`{name}` was moved under epoch {found}, and this is epoch {epoch}: plan again")]
    Later {
        /// The record.
        name: String,
        /// The epoch beside it.
        found: Epoch,
        /// The epoch of whoever asks.
        epoch: Epoch,
    },
    /// Another try may succeed: Route 53 does not answer, throttles, has another change under way, or the
    /// record is not what was read, because somebody else has moved it.
    #[error("Route 53 did not move `{name}`")]
    Again {
        /// The record.
        name: String,
        /// What Route 53 said.
        source: anyhow::Error,
    },
    /// Another try would end the same way.
    #[error("Route 53 refused to move `{name}`")]
    Refused {
        /// The record.
        name: String,
        /// What Route 53 said.
        source: anyhow::Error,
    },
}

/// What one record, and the epoch beside it, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordState {
    /// Where it points.
    pub(crate) values: Vec<String>,
    /// The epoch under which it was moved last.
    pub(crate) epoch: Option<Epoch>,
}

/// The change that moves a record, from what was read.
#[derive(Debug)]
enum RecordChange {
    /// It stands where it should.
    Already,
    /// These changes, all or none.
    Batch(Vec<Change>),
}

impl DnsRecords {
    /// Returns the records that should stand while `primary` is primary, and what each should say.
    pub(crate) fn wanted(settings: &Settings, primary: &NodeSettings) -> Vec<(String, String)> {
        let Some(dns) = &settings.dns else {
            return Vec::new();
        };
        let mut wanted = vec![(dns.writer.clone(), primary.address.clone())];
        if let Some(api) = &dns.api
            && let Some(target) = api.targets.get(&primary.region)
        {
            wanted.push((api.name.clone(), target.clone()));
        }
        wanted
    }

    /// Returns a way to the zones; nothing is asked yet.
    pub(crate) async fn open(settings: &DnsSettings) -> Self {
        let service = AwsService {
            region: settings.region.clone(),
            endpoint: settings.endpoint.clone(),
            ca_certificate: None,
        };
        let config = aws::config(&service, SdkRetries::Standard, PATIENCE).await;
        Self {
            client: Client::new(&config),
            zone: settings.zone_id.clone(),
            elsewhere: settings
                .api
                .as_ref()
                .and_then(|api| Some((api.name.clone(), api.zone_id.clone()?))),
            ttl: settings.ttl_secs.into(),
        }
    }

    /// Points `name` at `target`, an address or a name, under `epoch`.
    ///
    /// # Errors
    ///
    /// [`RecordMoveError`], which says whether another try is worth it.
    pub(crate) async fn point(
        &self,
        name: &str,
        target: &str,
        epoch: Epoch,
    ) -> Result<RecordMoved, RecordMoveError> {
        let beside = epoch_name(name);
        let zone = self.zone_of(name);
        let there = self.sets(zone, name).await?;
        let marks = self.sets(zone, &beside).await?;
        let changes = match self.changes(name, target, epoch, &there, &marks)? {
            RecordChange::Already => return Ok(RecordMoved::Already),
            RecordChange::Batch(changes) => changes,
        };
        let batch = ChangeBatch::builder()
            .comment(format!("failover-ctl: epoch {epoch}"))
            .set_changes(Some(changes))
            .build()
            .map_err(|error| malformed(name, error))?;
        let answer = self
            .client
            .change_resource_record_sets()
            .hosted_zone_id(zone)
            .change_batch(batch)
            .send()
            .await
            .map_err(|error| not_moved(name, &error))?;
        // Not `unwrap_or_default()`: without its id, the change could not be waited for.
        let change = answer.change_info.ok_or_else(|| RecordMoveError::Again {
            name: name.to_owned(),
            source: anyhow::anyhow!("the response names no change"),
        })?;
        Ok(RecordMoved::Changed(change.id))
    }

    /// Points a record, and tries again while that is worth it: the primary's agent and an operator's
    /// command move the same record under the same epoch, and whoever comes second finds it moved.
    ///
    /// # Errors
    ///
    /// Why it was not moved by `deadline`.
    pub(crate) async fn point_until(
        &self,
        deadline: Instant,
        name: &str,
        target: &str,
        epoch: Epoch,
    ) -> Result<RecordMoved, RecordMoveError> {
        let judge = |error: &RecordMoveError| match error {
            RecordMoveError::Again { .. } => RetryClass::Transient,
            RecordMoveError::Later { .. } | RecordMoveError::Refused { .. } => {
                RetryClass::Permanent
            }
        };
        let trying = retry::until(deadline, RETRY_POLICY, judge, || {
            self.point(name, target, epoch)
        });
        // One call to a server that hangs may take longer than what is left.
        match time::timeout_at(deadline, trying).await {
            Ok(moved) => moved,
            Err(_elapsed) => Err(RecordMoveError::Again {
                name: name.to_owned(),
                source: anyhow::anyhow!("it does not answer"),
            }),
        }
    }

    /// Returns what moves a record from where it is, or that it stands where it should.
    fn changes(
        &self,
        name: &str,
        target: &str,
        epoch: Epoch,
        there: &[ResourceRecordSet],
        marks: &[ResourceRecordSet],
    ) -> Result<RecordChange, RecordMoveError> {
        let build = || {
            let wanted = self.record(name, target)?;
            let mark = marks.iter().find(|set| set.r#type == RrType::Txt);
            let same = |set: &&ResourceRecordSet| {
                set.r#type == wanted.r#type && values(set) == values(&wanted)
            };
            let found = mark.and_then(read_epoch);
            if found.is_some_and(|stored| stored >= epoch) && there.iter().any(|set| same(&set)) {
                return Ok(Ok(RecordChange::Already));
            }
            if let Some(found) = found.filter(|stored| *stored > epoch) {
                let name = name.to_owned();
                return Ok(Err(RecordMoveError::Later { name, found, epoch }));
            }
            let mut changes = Vec::new();
            if let Some(mark) = mark {
                changes.push(change(ChangeAction::Delete, mark.clone())?);
            }
            // A name cannot have an address and an alias at once.
            let other = |set: &&ResourceRecordSet| {
                matches!(set.r#type, RrType::A | RrType::Aaaa | RrType::Cname)
                    && set.r#type != wanted.r#type
            };
            for set in there.iter().filter(other) {
                changes.push(change(ChangeAction::Delete, set.clone())?);
            }
            let mark = self.epoch_record(&epoch_name(name), epoch)?;
            changes.push(change(ChangeAction::Create, mark)?);
            changes.push(change(ChangeAction::Upsert, wanted)?);
            anyhow::Ok(Ok(RecordChange::Batch(changes)))
        };
        build().map_err(|error| malformed(name, error))?
    }

    /// Waits until every one of Route 53's servers has a change.
    ///
    /// # Errors
    ///
    /// When it has not arrived within two minutes.
    pub(crate) async fn arrived(&self, change: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + ARRIVES_WITHIN;
        loop {
            let answer = self.client.get_change().id(change).send().await;
            // One that is throttled or lost is asked again, like one that says PENDING.
            let state = match answer {
                Ok(answer) => answer.change_info.map(|change| change.status),
                Err(error) if Instant::now() + ASK_EVERY >= deadline => {
                    return Err(describe(&error));
                }
                Err(_) => None,
            };
            if state == Some(ChangeStatus::Insync) {
                return Ok(());
            }
            if Instant::now() + ASK_EVERY >= deadline {
                bail!("the change is not INSYNC after {ARRIVES_WITHIN:?}");
            }
            time::sleep(ASK_EVERY).await;
        }
    }

    /// Reads what a record says, and under which epoch it was moved last.
    ///
    /// # Errors
    ///
    /// When Route 53 does not answer.
    pub(crate) async fn standing(&self, name: &str) -> Result<RecordState, RecordMoveError> {
        let zone = self.zone_of(name);
        let there = self.sets(zone, name).await?;
        let marks = self.sets(zone, &epoch_name(name)).await?;
        let points =
            |set: &&ResourceRecordSet| matches!(set.r#type, RrType::A | RrType::Aaaa | RrType::Cname);
        let found = there.iter().filter(points).flat_map(values);
        Ok(RecordState {
            values: found.map(str::to_owned).collect(),
            epoch: marks.iter().find_map(read_epoch),
        })
    }

    fn zone_of(&self, name: &str) -> &str {
        match &self.elsewhere {
            Some((record, zone)) if record == name => zone,
            _ => &self.zone,
        }
    }

    async fn sets(
        &self,
        zone: &str,
        name: &str,
    ) -> Result<Vec<ResourceRecordSet>, RecordMoveError> {
        let answer = self
            .client
            .list_resource_record_sets()
            .hosted_zone_id(zone)
            .start_record_name(absolute(name))
            .max_items(10)
            .send()
            .await
            .map_err(|error| not_moved(name, &error))?;
        let wanted = absolute(name);
        let mut sets = answer.resource_record_sets;
        sets.retain(|set| absolute(&set.name).eq_ignore_ascii_case(&wanted));
        Ok(sets)
    }

    /// Returns the epoch under which a record was moved last; none if it never was.
    ///
    /// # Errors
    ///
    /// When Route 53 does not say.
    pub(crate) async fn epoch_of(&self, name: &str) -> anyhow::Result<Option<Epoch>> {
        let marks = self.sets(self.zone_of(name), &epoch_name(name)).await?;
        Ok(marks
            .iter()
            .filter(|set| set.r#type == RrType::Txt)
            .find_map(read_epoch))
    }

    fn record(&self, name: &str, target: &str) -> anyhow::Result<ResourceRecordSet> {
        let (kind, value) = match target.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => (RrType::A, target.to_owned()),
            Ok(IpAddr::V6(_)) => (RrType::Aaaa, target.to_owned()),
            Err(_) => (RrType::Cname, absolute(target)),
        };
        self.set(name, kind, value)
    }

    fn epoch_record(&self, name: &str, epoch: Epoch) -> anyhow::Result<ResourceRecordSet> {
        self.set(name, RrType::Txt, format!("\"epoch={epoch}\""))
    }

    fn set(&self, name: &str, kind: RrType, value: String) -> anyhow::Result<ResourceRecordSet> {
        let record = ResourceRecord::builder().value(value).build()?;
        Ok(ResourceRecordSet::builder()
            .name(absolute(name))
            .r#type(kind)
            .ttl(self.ttl)
            .resource_records(record)
            .build()?)
    }
}

/// Returns the name of the TXT record beside a record. It is another name, since an alias can have no
/// record beside it (RFC 1034, 3.6.2).
pub(crate) fn epoch_name(name: &str) -> String {
    format!("_epoch.{name}")
}

fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn change(action: ChangeAction, set: ResourceRecordSet) -> anyhow::Result<Change> {
    Ok(Change::builder()
        .action(action)
        .resource_record_set(set)
        .build()?)
}

fn values(set: &ResourceRecordSet) -> Vec<&str> {
    set.resource_records()
        .iter()
        .map(|record| record.value.as_str())
        .collect()
}

fn read_epoch(set: &ResourceRecordSet) -> Option<Epoch> {
    let value = set.resource_records().first()?.value.trim_matches('"');
    value.strip_prefix("epoch=")?.parse().ok().map(Epoch::new)
}

fn malformed(name: &str, source: impl Into<anyhow::Error>) -> RecordMoveError {
    RecordMoveError::Refused {
        name: name.to_owned(),
        source: source.into(),
    }
}

fn not_moved<E: ProvideErrorMetadata>(name: &str, error: &SdkError<E>) -> RecordMoveError {
    let (name, source) = (name.to_owned(), describe(error));
    if error.code().is_some_and(is_final) {
        return RecordMoveError::Refused { name, source };
    }
    RecordMoveError::Again { name, source }
}

/// Says whether another try would end the same way. Only what names a mistake in the request or a missing
/// right is final (Route 53 API, `ChangeResourceRecordSets`, errors; AWS common errors): a record that is
/// not what was read, a change under way and a throttled account pass.
fn is_final(code: &str) -> bool {
    matches!(
        code,
        "AccessDenied"
            | "AccessDeniedException"
            | "NoSuchHostedZone"
            | "InvalidInput"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException"
            | "OptInRequired"
    )
}

/// Says what went wrong without the request, whose headers are signed.
fn describe<E: ProvideErrorMetadata>(error: &SdkError<E>) -> anyhow::Error {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => anyhow::anyhow!("{code}: {message}"),
        (Some(code), None) => anyhow::anyhow!("{code}"),
        (None, _) => anyhow::anyhow!("Route 53 could not be reached"),
    }
}

#[cfg(test)]
mod tests;
