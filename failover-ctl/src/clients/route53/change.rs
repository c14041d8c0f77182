//! Change batches that move a record, and the classification of Route 53's errors.

use std::net::IpAddr;

use anyhow::Context as _;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecord, ResourceRecordSet, RrType};
use causeway_core::Epoch;

use super::{DnsRecords, RecordMoveError};

/// Change that moves a record from its current state.
#[derive(Debug)]
pub(super) enum RecordChange {
    /// None: the record already has the target.
    Already,
    /// Atomic batch.
    Batch(Vec<Change>),
}

impl DnsRecords {
    /// Returns the change that moves a record from the sets that were read.
    ///
    /// # Errors
    ///
    /// [`RecordMoveError::Later`] when it was moved under a later epoch.
    pub(super) fn changes(
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
            let found = mark.map(read_epoch).transpose()?;
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
            // A name cannot have an address record and a CNAME record at once.
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

    pub(super) fn record(&self, name: &str, target: &str) -> anyhow::Result<ResourceRecordSet> {
        let (kind, value) = match target.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => (RrType::A, target.to_owned()),
            Ok(IpAddr::V6(_)) => (RrType::Aaaa, target.to_owned()),
            Err(_) => (RrType::Cname, absolute(target)),
        };
        self.set(name, kind, value)
    }

    pub(super) fn epoch_record(
        &self,
        name: &str,
        epoch: Epoch,
    ) -> anyhow::Result<ResourceRecordSet> {
        self.set(name, RrType::Txt, format!("\"epoch={epoch}\""))
    }

    pub(super) fn set(
        &self,
        name: &str,
        kind: RrType,
        value: String,
    ) -> anyhow::Result<ResourceRecordSet> {
        let record = ResourceRecord::builder().value(value).build()?;
        Ok(ResourceRecordSet::builder()
            .name(absolute(name))
            .r#type(kind)
            .ttl(self.ttl)
            .resource_records(record)
            .build()?)
    }
}

/// Returns the name of the TXT record that holds a record's epoch. The name differs, because a CNAME record excludes
/// other records of its name (RFC 1034, 3.6.2).
pub(super) fn epoch_name(name: &str) -> String {
    format!("_epoch.{name}")
}

pub(super) fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn change(action: ChangeAction, set: ResourceRecordSet) -> anyhow::Result<Change> {
    Ok(Change::builder()
        .action(action)
        .resource_record_set(set)
        .build()?)
}

pub(super) fn values(set: &ResourceRecordSet) -> Vec<&str> {
    set.resource_records()
        .iter()
        .map(|record| record.value.as_str())
        .collect()
}

/// Returns the epoch in a TXT record. One that is unreadable must not pass for none: its epoch would be used again.
pub(super) fn read_epoch(set: &ResourceRecordSet) -> anyhow::Result<Epoch> {
    let values = values(set);
    let number = match values.as_slice() {
        [value] => value.trim_matches('"').strip_prefix("epoch="),
        _ => None,
    };
    let number = number.and_then(|number| number.parse().ok());
    number.map(Epoch::new).with_context(|| {
        let (name, values) = (&set.name, values.join(" "));
        format!("the TXT record `{name}` is `{values}`, which is no epoch: delete or correct it")
    })
}

pub(super) fn malformed(name: &str, source: impl Into<anyhow::Error>) -> RecordMoveError {
    RecordMoveError::Refused {
        name: name.to_owned(),
        source: source.into(),
    }
}

pub(super) fn classify_move_error<E: ProvideErrorMetadata>(
    name: &str,
    error: &SdkError<E>,
) -> RecordMoveError {
    let (name, source) = (name.to_owned(), describe(error));
    if error.code().is_some_and(is_permanent) {
        return RecordMoveError::Refused { name, source };
    }
    RecordMoveError::Transient { name, source }
}

/// Returns whether a retry would fail the same way. Only invalid requests and missing permissions are permanent (Route
/// 53 API, `ChangeResourceRecordSets`, errors; AWS common errors): a changed record, a pending change and throttling
/// pass.
pub(super) fn is_permanent(code: &str) -> bool {
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

/// Describes an error without the request, whose headers contain a signature.
pub(super) fn describe<E: ProvideErrorMetadata>(error: &SdkError<E>) -> anyhow::Error {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => anyhow::anyhow!("{code}: {message}"),
        (Some(code), None) => anyhow::anyhow!("{code}"),
        (None, _) => anyhow::anyhow!("Route 53 is unreachable"),
    }
}
