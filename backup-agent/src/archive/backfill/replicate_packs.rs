//! Copying of a backup's missing packs. An existing pack cannot be replaced, so a pack is copied
//! only once it is known which bucket has the right ones.

use std::iter;

use causeway_core::backup::BackupSummary;
use causeway_runtime::retry::RetryClass;
use causeway_runtime::s3::S3ErrorKind;
use causeway_runtime::telemetry::chain;
use futures_util::StreamExt as _;
use futures_util::stream;
use tracing::warn;

use crate::archive::backfill::pack_tally::{PackTally, pack_number};
use crate::archive::backfill::replicate_object::CopyOutcome;
use crate::archive::backfill::replicate_object::CopyReport;
use crate::archive::backfill::replicate_object::MAX_CONCURRENT_COPIES;
use crate::archive::backfill::replicate_object::ObjectCopy;
use crate::archive::backfill::replicate_object::replicate_object;
use crate::archive::backfill::side_by_side::{ListedKey, SideBySide};
use crate::encryption::keys::Identity;
use crate::encryption::metadata::ManifestMetadata;
use crate::storage::bucket::Bucket;
use crate::storage::store_error::StoreError;

/// Packs to copy.
struct PackCopyPlan<'a> {
    /// Buckets that list packs.
    sources: Vec<&'a Bucket>,
    /// Packs that the target lacks: the index of their source, and the key with its lengths.
    lacking: Vec<(usize, ListedKey)>,
    /// Fault that no copy repairs.
    fault: Option<String>,
}

/// Copies the packs that the target lacks of the backup with the manifest `copy`. The outcome is
/// [`CopyOutcome::AlreadyThere`] once it has all of them.
pub(super) async fn replicate_packs(
    copy: &ObjectCopy<'_>,
    prefix: &str,
    identity: Option<&Identity>,
) -> CopyReport {
    let ended = |outcome| CopyReport { outcome, packs: 0 };
    let plan = match summary(copy).await {
        Ok(Some(summary)) => plan(copy, prefix, summary.stored_bytes).await,
        Ok(None) => return ended(CopyOutcome::Nowhere),
        Err(error) => Err(error),
    };
    let PackCopyPlan {
        sources,
        lacking,
        fault,
    } = match plan {
        Ok(plan) => plan,
        Err(error) => {
            warn!(bucket = copy.target.name(), %prefix, error = %chain(&error), "packs not compared");
            return ended(match error.retry_class() {
                RetryClass::Transient => CopyOutcome::Failed,
                RetryClass::Permanent => CopyOutcome::Unresolved(chain(&error)),
            });
        }
    };
    let sources = &sources;
    let copies = lacking.iter().map(|(source, row)| async move {
        let first = sources.get(*source).copied();
        let others = sources
            .iter()
            .copied()
            .filter(|other| first.is_some_and(|first| first.name() != other.name()));
        let pack = ObjectCopy {
            key: &row.key,
            target: copy.target,
            sources: &first.into_iter().chain(others).collect::<Vec<_>>(),
            bytes: row.bytes.get(source + 1).copied().flatten(),
        };
        Box::pin(replicate_object(&pack, identity)).await
    });
    let mut copies = stream::iter(copies).buffer_unordered(MAX_CONCURRENT_COPIES);
    let mut packs = 0;
    let mut outcome = fault.map_or(CopyOutcome::AlreadyThere, CopyOutcome::Unresolved);
    while let Some(replicated) = copies.next().await {
        match replicated {
            CopyOutcome::Copied => packs += 1,
            // It was listed a moment ago.
            CopyOutcome::Nowhere | CopyOutcome::Failed => outcome = CopyOutcome::Failed,
            CopyOutcome::Unresolved(why) if outcome == CopyOutcome::AlreadyThere => {
                outcome = CopyOutcome::Unresolved(why);
            }
            CopyOutcome::AlreadyThere | CopyOutcome::Unresolved(_) => {}
        }
    }
    CopyReport { outcome, packs }
}

/// Returns the summary in the manifest's metadata, from the first bucket that has it.
async fn summary(copy: &ObjectCopy<'_>) -> Result<Option<BackupSummary>, StoreError> {
    let mut last = None;
    for bucket in iter::once(&copy.target).chain(copy.sources) {
        match bucket.header(copy.key).await {
            Ok(header) => {
                if let Ok(ManifestMetadata { summary }) = header.metadata() {
                    return Ok(Some(summary));
                }
            }
            Err(error) if error.kind() == S3ErrorKind::NoSuchKey => {}
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(None), Err)
}

/// Compares the packs of all buckets.
async fn plan<'a>(
    copy: &ObjectCopy<'a>,
    prefix: &str,
    stored_bytes: u64,
) -> Result<PackCopyPlan<'a>, StoreError> {
    let mut sources = copy.sources.to_vec();
    let mut listings = loop {
        let asked = iter::once(copy.target).chain(sources.iter().copied());
        match SideBySide::open(asked, prefix).await {
            Ok(listings) => break listings,
            Err(error) if error.bucket() == copy.target.name() => return Err(error),
            Err(error) => {
                warn!(bucket = error.bucket(), error = %chain(&error), "packs compared without a bucket");
                sources.retain(|source| source.name() != error.bucket());
            }
        }
    };
    let mut tallies = vec![PackTally::new(stored_bytes); sources.len() + 1];
    let mut together = PackTally::new(stored_bytes);
    let mut lacking = Vec::new();
    let mut differing = None;
    while let Some(row) = listings.next().await? {
        let Some(number) = pack_number(&row.key) else {
            continue;
        };
        for (tally, bytes) in tallies.iter_mut().zip(&row.bytes) {
            if let Some(bytes) = bytes {
                tally.add(number, *bytes);
            }
        }
        let mut held = row.bytes.iter().flatten();
        let Some(first) = held.next() else {
            continue;
        };
        together.add(number, *first);
        if held.any(|bytes| bytes != first) {
            differing.get_or_insert_with(|| describe_difference(copy.target, &sources, &row));
        }
        if row.bytes.first().is_some_and(Option::is_none) {
            lacking.push(row);
        }
    }
    let is_whole = |tally: &PackTally| tally.is_complete();
    let whole = tallies.iter().position(is_whole);
    let (lacking, fault) = match whole {
        Some(0) => (Vec::new(), None),
        Some(whole) => (from(lacking, Some(whole)), differing),
        None if together.is_complete() => (from(lacking, None), None),
        None => {
            let fault = together
                .find_fault()
                .map(|fault| format!("all buckets together: {fault}"));
            let texts = differing.into_iter().chain(fault).collect::<Vec<_>>();
            let text = format!(
                "no bucket has every pack below `{prefix}`: {}",
                texts.join("; ")
            );
            (Vec::new(), Some(text))
        }
    };
    Ok(PackCopyPlan {
        sources,
        lacking,
        fault,
    })
}

/// Returns the source of each pack: the bucket that has all packs, or the first that has this one.
/// The target is the first of a row.
fn from(lacking: Vec<ListedKey>, whole: Option<usize>) -> Vec<(usize, ListedKey)> {
    let placed = lacking.into_iter().filter_map(|row| {
        let place = match whole {
            // An object that this bucket lacks is not a pack of the backup.
            Some(place) => row.bytes.get(place)?.map(|_| place),
            None => row.bytes.iter().position(Option::is_some),
        };
        Some((place?.checked_sub(1)?, row))
    });
    placed.collect()
}

fn describe_difference(target: &Bucket, sources: &[&Bucket], row: &ListedKey) -> String {
    let buckets = iter::once(target).chain(sources.iter().copied());
    let held = buckets
        .zip(&row.bytes)
        .filter_map(|(bucket, bytes)| Some(format!("{} bytes in `{}`", (*bytes)?, bucket.name())));
    let held: Vec<_> = held.collect();
    format!(
        "`{}` has {}: remove the wrong one",
        row.key,
        held.join(", ")
    )
}
