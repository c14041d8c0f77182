//! Comparison of the buckets, which are listed side by side, a page at a time.
//!
//! A bucket should have the WAL that its own backups need; earlier WAL has expired there and is not
//! copied back. Neither is a backup that is older than all backups of the bucket. The packs of its
//! backups are compared as well, by the total length in the manifest.

use std::collections::{BTreeMap, BTreeSet};

use causeway_core::backup::{BackupId, BackupSummary};
use causeway_core::lsn::WalFileName;
use causeway_runtime::s3::S3ErrorKind;
use causeway_runtime::telemetry::chain;
use futures_util::StreamExt as _;
use futures_util::stream;
use tracing::warn;

use crate::archive::backfill::fill::fill;
use crate::archive::backfill::pack_tally::tally;
use crate::archive::backfill::replicate_object::MAX_CONCURRENT_COPIES;
use crate::archive::backfill::sameness::{Sameness, StoredCopy, compare_copies};
use crate::archive::backfill::side_by_side::{ListedKey, SideBySide};
use crate::archive::backfill::stats::BackfillStats;
use crate::archive::backfill::stats::BucketStats;
use crate::archive::backfill::wal_needs::WalNeeds;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;
use crate::storage::catalog;
use crate::storage::catalog::{Catalog, CatalogEntry};
use crate::storage::object_keys::{ObjectKeys, wal_file_name};
use crate::storage::store_error::StoreError;

/// Maximum difference in length between two encryptions of one file: each header has a stanza of
/// random length, which keeps `age` implementations from relying on a length.
const HEADERS_DIFFER_BYTES: u64 = 4 << 10;

/// Maximum number of concurrent listings of packs.
const MAX_CONCURRENT_LISTINGS: usize = 8;

/// Scope of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareScope {
    /// Objects that a bucket should have; expired ones are not copied back.
    Missing,
    /// All objects of any bucket, for a new bucket.
    Everything,
}

/// Comparison in progress.
struct Comparison<'a> {
    buckets: &'a Buckets,
    object_keys: &'a ObjectKeys,
    identity: Option<&'a Identity>,
    scope: CompareScope,
    /// Keys to copy, by bucket.
    waiting: BTreeMap<usize, Vec<String>>,
    stats: BackfillStats,
}

/// Compares WAL, history files and backups in all buckets, and copies missing objects. Every bucket
/// must respond: the content of an unresponsive one is unknown.
pub(crate) async fn compare(
    buckets: &Buckets,
    object_keys: &ObjectKeys,
    identity: Option<&Identity>,
    scope: CompareScope,
) -> Result<BackfillStats, Error> {
    let mut comparison = Comparison {
        buckets,
        object_keys,
        identity,
        scope,
        waiting: BTreeMap::new(),
        stats: BackfillStats::default(),
    };
    for bucket in buckets.all() {
        let stats = &mut comparison.stats.buckets;
        stats.insert(bucket.name().to_owned(), BucketStats::default());
    }
    if let Err(error) = buckets.health().check() {
        warn!(%error, "state directory not writable");
    }
    let catalog = catalog::list(buckets, object_keys).await?.refuse_silent()?;
    let needs = comparison.compare_wal(&catalog).await?;
    comparison.compare_histories(&needs).await?;
    comparison.compare_backups(&catalog).await?;
    for number in 0..buckets.all().len() {
        comparison.copy(number).await;
    }
    Ok(comparison.stats)
}

fn unreachable(prefix: &str) -> impl FnOnce(StoreError) -> Error {
    move |last| Error::Unreachable {
        what: prefix.to_owned(),
        answered: 0,
        last: Box::new(last),
    }
}

impl Comparison<'_> {
    async fn add(&mut self, number: usize, key: &str) {
        let keys = self.waiting.entry(number).or_default();
        keys.push(key.to_owned());
        if keys.len() >= 4 * MAX_CONCURRENT_COPIES {
            self.copy(number).await;
        }
    }

    fn stats(&mut self, number: usize) -> &mut BucketStats {
        let name = self.buckets.all().get(number).map_or("", Bucket::name);
        self.stats.buckets.entry(name.to_owned()).or_default()
    }

    async fn copy(&mut self, number: usize) {
        let Some(keys) = self.waiting.remove(&number) else {
            return;
        };
        if let Some(bucket) = self.buckets.all().get(number) {
            let lacking = fill(self.buckets, bucket, keys, self.identity, &mut self.stats).await;
            for key in lacking {
                self.buckets
                    .health()
                    .record_missing_if_kept(bucket.name(), &key);
            }
        }
    }

    /// Compares the WAL, and returns each bucket's need of WAL.
    async fn compare_wal(&mut self, catalog: &Catalog) -> Result<Vec<WalNeeds>, Error> {
        let buckets = self.buckets.all();
        let needs_of = |bucket: &Bucket| {
            let entries = catalog.backups.iter();
            let own =
                entries.filter(|entry| entry.buckets.iter().any(|name| name == bucket.name()));
            WalNeeds::of(own.map(|entry| &entry.summary))
        };
        let mut needs: Vec<_> = buckets.iter().map(needs_of).collect();
        let prefix = self.object_keys.wal_prefix();
        let failed = |error| unreachable(&prefix)(error);
        let mut listings = SideBySide::open(buckets, &prefix).await.map_err(failed)?;
        let gaps = self.buckets.health().report().known_gaps;
        while let Some(row) = listings.next().await.map_err(failed)? {
            for (number, (needs, bytes)) in needs.iter_mut().zip(&row.bytes).enumerate() {
                if bytes.is_some() {
                    needs.held(&row.key);
                } else if self.scope == CompareScope::Everything || needs.include(&row.key) {
                    self.add(number, &row.key).await;
                } else {
                    self.stats(number).older += 1;
                }
            }
            if lengths_differ(&row) {
                self.compare_content(&row.key).await?;
            }
            let name = row.key.rsplit_once('/').map_or(&*row.key, |(_, name)| name);
            if gaps.contains(name) {
                self.buckets.health().close_gap(name);
            }
        }
        Ok(needs)
    }

    /// Compares the buckets' content under one key.
    async fn compare_content(&mut self, key: &str) -> Result<(), Error> {
        let mut sound = Vec::new();
        for (number, bucket) in self.buckets.all().iter().enumerate() {
            match bucket.start(key).await {
                Ok(start) => sound.push((number, bucket, start)),
                Err(error) if error.kind() == S3ErrorKind::NoSuchKey => {}
                Err(error) => match error.damage().map(|why| chain(why)) {
                    Some(why) => {
                        let text = format!(
                            "`{}` has another object under `{key}`: {why}",
                            bucket.name()
                        );
                        self.unresolved(number, key, text);
                    }
                    None => return Err(unreachable(key)(error)),
                },
            }
        }
        let Some(((_, first, start), others)) = sound.split_first() else {
            return Ok(());
        };
        let one = StoredCopy {
            bucket: first,
            start,
        };
        for (number, bucket, start) in others {
            let other = StoredCopy { bucket, start };
            let compared = compare_copies(key, one, other, self.identity).await;
            // Two pushes' encryptions of a file may differ in length, which needs no report.
            if let Sameness::Different(why) = compared.map_err(unreachable(key))? {
                let (here, there) = (bucket.name(), first.name());
                let text =
                    format!("`{here}` has other content under `{key}` than `{there}`: {why}");
                self.unresolved(*number, key, text);
            }
        }
        Ok(())
    }

    fn unresolved(&mut self, number: usize, key: &str, why: String) {
        if let Some(bucket) = self.buckets.all().get(number) {
            self.buckets
                .health()
                .record_missing_if_kept(bucket.name(), key);
        }
        self.stats(number).unresolved.insert(key.to_owned(), why);
    }

    /// Compares the history files: a wrong one misdirects a restore, and there are few. A bucket
    /// without any object of a timeline or of an older one needs no history of it.
    async fn compare_histories(&mut self, needs: &[WalNeeds]) -> Result<(), Error> {
        let prefix = self.object_keys.history_prefix();
        let mut held = Vec::new();
        for bucket in self.buckets.all() {
            let listed = bucket.list(&prefix, "").await;
            let keys: BTreeSet<String> =
                listed.map_err(unreachable(&prefix))?.into_iter().collect();
            held.push(keys);
        }
        let all: BTreeSet<String> = held.iter().flatten().cloned().collect();
        for (number, (keys, needs)) in held.iter().zip(needs).enumerate() {
            let oldest = needs.oldest_timeline();
            for key in all.difference(keys) {
                let timeline = wal_file_name(key).map(WalFileName::timeline);
                let is_needed = oldest.is_some_and(|oldest| timeline >= Some(oldest));
                if is_needed || self.scope == CompareScope::Everything {
                    self.add(number, key).await;
                }
            }
        }
        for key in all {
            if held.iter().filter(|keys| keys.contains(&key)).count() > 1 {
                self.compare_content(&key).await?;
            }
        }
        Ok(())
    }

    /// Compares the backups by their manifests, because one without a manifest is incomplete, and
    /// the existing ones by their packs.
    async fn compare_backups(&mut self, catalog: &Catalog) -> Result<(), Error> {
        for (number, bucket) in self.buckets.all().iter().enumerate() {
            let is_here =
                |entry: &&CatalogEntry| entry.buckets.iter().any(|name| name == bucket.name());
            let own = || catalog.backups.iter().filter(is_here);
            let has_none = own().next().is_none();
            self.stats(number).has_no_backup =
                self.scope == CompareScope::Missing && has_none && !catalog.backups.is_empty();
            let (missing, older) = missing_backups(catalog, bucket.name(), self.scope);
            self.stats(number).older += older;
            let summaries = own().map(|entry| &entry.summary);
            let cut_short = backups_lacking_packs(bucket, self.object_keys, summaries).await?;
            for id in missing.into_iter().chain(cut_short) {
                self.add(number, &self.object_keys.manifest(id)).await;
            }
        }
        for entry in &catalog.backups {
            if entry.buckets.len() > 1 {
                let key = self.object_keys.manifest(&entry.summary.id);
                self.compare_content(&key).await?;
            }
        }
        self.add_unreadable(catalog)
    }

    /// Counts objects under a manifest's key that are not manifests.
    fn add_unreadable(&mut self, catalog: &Catalog) -> Result<(), Error> {
        for found in &catalog.unreadable {
            let key = self.object_keys.manifest(&found.id);
            let place = |candidate: &Bucket| candidate.name() == found.bucket;
            let Some(number) = self.buckets.all().iter().position(place) else {
                continue;
            };
            if let Error::Unreachable { .. } = found.why {
                return Err(Error::SilentBucket {
                    bucket: found.bucket.clone(),
                });
            }
            let text = format!(
                "`{}` has no valid manifest under `{key}`: {}",
                found.bucket,
                chain(&found.why)
            );
            self.unresolved(number, &key, text);
        }
        Ok(())
    }
}

/// Returns the backups that a bucket lacks and should have, and the number of expired ones: those
/// that are older than all backups of the bucket.
fn missing_backups<'a>(
    catalog: &'a Catalog,
    bucket: &str,
    scope: CompareScope,
) -> (Vec<&'a BackupId>, usize) {
    let is_here = |entry: &&CatalogEntry| entry.buckets.iter().any(|name| name == bucket);
    let (own, others): (Vec<_>, Vec<_>) = catalog.backups.iter().partition(is_here);
    let oldest = own.first().map(|entry| entry.summary.age_order());
    let is_missing = |entry: &&CatalogEntry| {
        scope == CompareScope::Everything
            || oldest.is_some_and(|oldest| entry.summary.age_order() > oldest)
    };
    let (missing, older): (Vec<_>, Vec<_>) = others.into_iter().partition(is_missing);
    let missing = missing.iter().map(|entry| &entry.summary.id);
    (missing.collect(), older.len())
}

/// Returns those of `backups` of which `bucket` lacks packs, or has a pack of another length.
async fn backups_lacking_packs<'a>(
    bucket: &Bucket,
    object_keys: &ObjectKeys,
    backups: impl Iterator<Item = &'a BackupSummary>,
) -> Result<Vec<&'a BackupId>, Error> {
    let tallies = backups.map(|summary| async move {
        let counted = tally(bucket, object_keys, summary).await;
        (&summary.id, counted)
    });
    let mut tallies = stream::iter(tallies).buffered(MAX_CONCURRENT_LISTINGS);
    let mut found = Vec::new();
    while let Some((id, counted)) = tallies.next().await {
        let counted = counted.map_err(unreachable(&object_keys.pack_prefix(id)))?;
        if let Some(fault) = counted.find_fault() {
            warn!(bucket = bucket.name(), backup = %id, fault, "packs of a backup differ from its manifest");
            found.push(id);
        }
    }
    Ok(found)
}

/// Returns whether the objects of a row cannot be encryptions of the same file.
fn lengths_differ(row: &ListedKey) -> bool {
    let held = || row.bytes.iter().flatten();
    let (shortest, longest) = (held().min(), held().max());
    let differ = shortest
        .zip(longest)
        .map(|(shortest, longest)| longest - shortest);
    // An empty object is not encrypted.
    differ.is_some_and(|differ| differ > HEADERS_DIFFER_BYTES) || shortest == Some(&0)
}

#[cfg(test)]
mod tests {
    use causeway_core::backup::WallTime;
    use causeway_core::{Lsn, Timeline};

    use super::*;

    /// The clock was behind during the second backup, and ahead during the first.
    #[test]
    fn clock_was_wrong_then_missing_by_position() {
        let catalog = Catalog::of(vec![
            entry("20261118T000000Z-00000002", 1, 200, &["near"]),
            entry("20261120T000000Z-00000001", 1, 100, &["near", "far"]),
            entry("20261122T000000Z-00000000", 1, 50, &["near"]),
            entry("20261117T000000Z-00000003", 2, 150, &["near"]),
        ]);
        let names = |found: &[&BackupId]| -> Vec<_> {
            let last = found.iter().filter_map(|id| id.as_str().chars().last());
            last.collect()
        };

        let (missing, older) = missing_backups(&catalog, "far", CompareScope::Missing);
        assert_eq!((names(&missing), older), (vec!['2', '3'], 1));
        let (missing, older) = missing_backups(&catalog, "far", CompareScope::Everything);
        assert_eq!((names(&missing), older), (vec!['0', '2', '3'], 0));
        let (missing, older) = missing_backups(&catalog, "none", CompareScope::Missing);
        assert_eq!((names(&missing), older), (vec![], 4));
        let newest = catalog.backups.last().map(|newest| &newest.summary.id);
        assert_eq!(
            newest.map(BackupId::as_str),
            Some("20261117T000000Z-00000003")
        );
    }

    fn entry(id: &str, timeline: u32, stop: u64, buckets: &[&str]) -> CatalogEntry {
        CatalogEntry {
            summary: BackupSummary {
                id: id.parse().unwrap(),
                timeline: Timeline::new(timeline).unwrap(),
                start_lsn: Lsn::new(stop - 1),
                stop_lsn: Lsn::new(stop),
                started_at: WallTime::from_micros(0),
                stopped_at: WallTime::from_micros(0),
                segment_bytes: 1 << 20,
                raw_bytes: 0,
                stored_bytes: 0,
                damaged_pages: 0,
            },
            buckets: buckets.iter().map(|name| (*name).to_owned()).collect(),
        }
    }
}
