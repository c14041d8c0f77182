//! The records that follow the primary.
//!
//! Route 53 has no conditional write, but a change batch is atomic and a DELETE must match the record
//! exactly. So each move deletes the epoch that it read, creates its own, and upserts the record, in
//! one batch: a writer with an old plan is refused whole.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sdk_route53::Client;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, ChangeStatus, ResourceRecord, ResourceRecordSet, RrType,
};
use ha_core::Epoch;
use ha_runtime::aws::{self, Patience, Retries, Service};
use tokio::time::{self, Instant};

use crate::config::{DnsSettings, NodeSettings, Settings};

/// How long one call may take. Route 53's control plane is far away, and answers within a second.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(5),
};

/// How often Route 53 is asked whether a change has arrived everywhere; it throttles at five calls a
/// second for an account (Route 53 quotas).
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long a change may take to arrive: Route 53 says 60 seconds as a rule.
const ARRIVES_WITHIN: Duration = Duration::from_mins(2);

/// The records, in the zones that hold them.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    client: Client,
    zone: String,
    /// The API's record and its zone, where that is another: its name is public, the writer's is not.
    elsewhere: Option<(String, String)>,
    ttl: i64,
}

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The batch was taken, under this change.
    Changed(String),
    /// The record was there already, under this epoch.
    Already,
}

impl Records {
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
        let service = Service {
            region: settings.region.clone(),
            endpoint: settings.endpoint.clone(),
        };
        let config = aws::config(&service, Retries::Standard, PATIENCE).await;
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
    /// When a higher epoch stands beside the record, when somebody else moved it meanwhile, or when
    /// Route 53 does not answer.
    pub(crate) async fn point(
        &self,
        name: &str,
        target: &str,
        epoch: Epoch,
    ) -> anyhow::Result<Moved> {
        let beside = epoch_name(name);
        let zone = self.zone_of(name);
        let there = self.sets(zone, name).await?;
        let marks = self.sets(zone, &beside).await?;
        let mark = marks.iter().find(|it| it.r#type == RrType::Txt);
        let wanted = self.record(name, target)?;
        if let Some(found) = mark.and_then(read_epoch) {
            if found > epoch {
                bail!(
                    "`{name}` was moved under epoch {found}, and this is epoch {epoch}: plan again"
                );
            }
            let same = |it: &&ResourceRecordSet| {
                it.r#type == wanted.r#type && values(it) == values(&wanted)
            };
            if found == epoch && there.iter().any(|it| same(&it)) {
                return Ok(Moved::Already);
            }
        }
        let mut changes = Vec::new();
        if let Some(mark) = mark {
            changes.push(change(ChangeAction::Delete, mark.clone())?);
        }
        // A name cannot have an address and an alias at once.
        let other = |it: &&ResourceRecordSet| {
            matches!(it.r#type, RrType::A | RrType::Aaaa | RrType::Cname)
                && it.r#type != wanted.r#type
        };
        for it in there.iter().filter(other) {
            changes.push(change(ChangeAction::Delete, it.clone())?);
        }
        changes.push(change(
            ChangeAction::Create,
            self.epoch_record(&beside, epoch)?,
        )?);
        changes.push(change(ChangeAction::Upsert, wanted)?);
        let batch = ChangeBatch::builder()
            .comment(format!("failover-ctl: epoch {epoch}"))
            .set_changes(Some(changes))
            .build()?;
        let answer = self
            .client
            .change_resource_record_sets()
            .hosted_zone_id(zone)
            .change_batch(batch)
            .send()
            .await
            .map_err(|error| describe(&error))
            .with_context(|| format!("Route 53 did not take the change of `{name}`"))?;
        Ok(Moved::Changed(
            answer.change_info.map(|it| it.id).unwrap_or_default(),
        ))
    }

    /// Waits until every one of Route 53's servers has a change.
    ///
    /// # Errors
    ///
    /// When it has not arrived within two minutes, or Route 53 does not answer.
    pub(crate) async fn arrived(&self, change: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + ARRIVES_WITHIN;
        loop {
            let answer = self.client.get_change().id(change).send().await;
            let answer = answer.map_err(|error| describe(&error))?;
            if answer
                .change_info
                .is_some_and(|it| it.status == ChangeStatus::Insync)
            {
                return Ok(());
            }
            if Instant::now() + ASK_EVERY >= deadline {
                bail!("the change is not INSYNC after {ARRIVES_WITHIN:?}");
            }
            time::sleep(ASK_EVERY).await;
        }
    }

    fn zone_of(&self, name: &str) -> &str {
        match &self.elsewhere {
            Some((record, zone)) if record == name => zone,
            _ => &self.zone,
        }
    }

    async fn sets(&self, zone: &str, name: &str) -> anyhow::Result<Vec<ResourceRecordSet>> {
        let answer = self
            .client
            .list_resource_record_sets()
            .hosted_zone_id(zone)
            .start_record_name(absolute(name))
            .max_items(10)
            .send()
            .await
            .map_err(|error| describe(&error))
            .with_context(|| format!("Route 53 did not say what `{name}` is"))?;
        let wanted = absolute(name);
        let mut sets = answer.resource_record_sets;
        sets.retain(|it| absolute(&it.name).eq_ignore_ascii_case(&wanted));
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
            .filter(|it| it.r#type == RrType::Txt)
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
        .map(|it| it.value.as_str())
        .collect()
}

fn read_epoch(set: &ResourceRecordSet) -> Option<Epoch> {
    let value = set.resource_records().first()?.value.trim_matches('"');
    value.strip_prefix("epoch=")?.parse().ok().map(Epoch::new)
}

/// Says what went wrong without the request, whose headers are signed.
fn describe<E: ProvideErrorMetadata>(error: &SdkError<E>) -> anyhow::Error {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => anyhow::anyhow!("{code}: {message}"),
        (Some(code), None) => anyhow::anyhow!("{code}"),
        (None, _) => anyhow::anyhow!("Route 53 could not be reached"),
    }
}
