//! What each bucket lacks, found by listing all of them side by side, a page at a time.
//!
//! Objects are in order: WAL by timeline and segment, backups by when they began. What a bucket lacks
//! before the first that it has was expired there, and stays so; what it lacks after that, in between
//! or at the end, is missing.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::Timeline;
use ha_core::backup::BackupId;
use ha_core::lsn::WalFileName;

use crate::backfill::{AT_ONCE, BackfillStats, BucketStats, fill};
use crate::buckets::Buckets;
use crate::error::Failure;
use crate::layout::{Layout, wal_file_of};
use crate::object_store::{Bucket, ListedObject, Listing, StoreError};
use crate::seal::Identity;

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What is missing; what was expired in a bucket stays so.
    Missing,
    /// Everything that any bucket has: for a bucket that is new.
    Everything,
}

/// One bucket's listing, and the object that it has come to.
struct Cursor<'a> {
    bucket: &'a Bucket,
    listing: Listing,
    current: Option<ListedObject>,
    /// Set once the bucket has had an object of this kind.
    has_begun: bool,
}

/// What is copied to each bucket together.
struct Waiting<'a> {
    buckets: &'a Buckets,
    identity: Option<&'a Identity>,
    keys: BTreeMap<usize, Vec<String>>,
    stats: BackfillStats,
}

impl Waiting<'_> {
    async fn add(&mut self, number: usize, key: &str) {
        let keys = self.keys.entry(number).or_default();
        keys.push(key.to_owned());
        if keys.len() >= 4 * AT_ONCE {
            self.copy(number).await;
        }
    }

    fn stats(&mut self, number: usize) -> &mut BucketStats {
        let name = self.buckets.all().get(number).map_or("", Bucket::name);
        self.stats.buckets.entry(name.to_owned()).or_default()
    }

    async fn copy(&mut self, number: usize) {
        let keys = self.keys.remove(&number).unwrap_or_default();
        if let Some(bucket) = self.buckets.all().get(number) {
            fill(self.buckets, bucket, keys, self.identity, &mut self.stats).await;
        }
    }
}

/// Compares WAL, histories and backups in all buckets, and copies to each what it lacks. Every bucket
/// has to answer: what the silent one has is not known.
pub(crate) async fn compare(
    buckets: &Buckets,
    layout: &Layout,
    identity: Option<&Identity>,
    scope: Scope,
) -> Result<BackfillStats, Failure> {
    let mut waiting = Waiting {
        buckets,
        identity,
        keys: BTreeMap::new(),
        stats: BackfillStats::default(),
    };
    for bucket in buckets.all() {
        let stats = &mut waiting.stats.buckets;
        stats.insert(bucket.name().to_owned(), BucketStats::default());
    }
    let oldest = compare_wal(&mut waiting, layout, scope).await?;
    compare_histories(&mut waiting, layout, &oldest, scope).await?;
    compare_backups(&mut waiting, layout, scope).await?;
    for number in 0..buckets.all().len() {
        waiting.copy(number).await;
    }
    Ok(waiting.stats)
}

fn unreachable(prefix: &str) -> impl FnOnce(StoreError) -> Failure {
    move |last| Failure::Unreachable {
        what: prefix.to_owned(),
        answered: 0,
        last: Box::new(last),
    }
}

/// Compares the WAL, and returns the oldest timeline of which each bucket holds any.
async fn compare_wal(
    waiting: &mut Waiting<'_>,
    layout: &Layout,
    scope: Scope,
) -> Result<Vec<Option<Timeline>>, Failure> {
    let prefix = layout.log();
    let mut cursors = Vec::new();
    for bucket in waiting.buckets.all() {
        let mut listing = bucket.listing(&prefix, "");
        let current = listing.next().await.map_err(unreachable(&prefix))?;
        cursors.push(Cursor {
            bucket,
            listing,
            current,
            has_begun: false,
        });
    }
    let timeline = |object: &ListedObject| wal_file_of(&object.key).map(WalFileName::timeline);
    let oldest = cursors
        .iter()
        .map(|cursor| cursor.current.as_ref().and_then(timeline))
        .collect();
    let gaps = waiting.buckets.health().report().known_gaps;
    loop {
        let keys = cursors
            .iter()
            .filter_map(|it| Some(&it.current.as_ref()?.key));
        let Some(key) = keys.min().cloned() else {
            return Ok(oldest);
        };
        for (number, cursor) in cursors.iter_mut().enumerate() {
            if cursor.current.as_ref().is_some_and(|it| it.key == key) {
                cursor.has_begun = true;
                let next = cursor.listing.next().await;
                cursor.current = next.map_err(unreachable(cursor.bucket.name()))?;
            } else if cursor.has_begun || scope == Scope::Everything {
                waiting.add(number, &key).await;
            } else {
                waiting.stats(number).older += 1;
            }
        }
        let name = key.rsplit('/').next().unwrap_or_default();
        if gaps.contains(name) {
            waiting.buckets.health().close_gap(name);
        }
    }
}

/// Compares the histories. A bucket that holds nothing of a timeline or of an older one needs no
/// history of it.
async fn compare_histories(
    waiting: &mut Waiting<'_>,
    layout: &Layout,
    oldest: &[Option<Timeline>],
    scope: Scope,
) -> Result<(), Failure> {
    let prefix = layout.histories();
    let mut held = Vec::new();
    for bucket in waiting.buckets.all() {
        let listed = bucket.list(&prefix, "").await;
        let keys: BTreeSet<String> = listed.map_err(unreachable(&prefix))?.into_iter().collect();
        held.push(keys);
    }
    let all: BTreeSet<String> = held.iter().flatten().cloned().collect();
    for (number, (keys, oldest)) in held.iter().zip(oldest).enumerate() {
        for key in all.difference(keys) {
            let timeline = wal_file_of(key).map(WalFileName::timeline);
            let is_needed = oldest.is_some_and(|oldest| timeline >= Some(oldest));
            if is_needed || scope == Scope::Everything {
                waiting.add(number, key).await;
            }
        }
    }
    Ok(())
}

/// Compares the backups by their manifests: one without is not complete.
async fn compare_backups(
    waiting: &mut Waiting<'_>,
    layout: &Layout,
    scope: Scope,
) -> Result<(), Failure> {
    let prefix = layout.backups();
    let mut held = Vec::new();
    for bucket in waiting.buckets.all() {
        let names = bucket.folders(&prefix).await;
        let mut complete: BTreeSet<BackupId> = BTreeSet::new();
        for name in names.map_err(unreachable(&prefix))? {
            let Ok(id) = name.parse() else {
                continue;
            };
            let key = layout.manifest(&id);
            let found = bucket.list(&key, "").await.map_err(unreachable(&prefix))?;
            if found.contains(&key) {
                complete.insert(id);
            }
        }
        held.push(complete);
    }
    let all: BTreeSet<BackupId> = held.iter().flatten().cloned().collect();
    for (number, complete) in held.iter().enumerate() {
        let oldest = complete.first();
        waiting.stats(number).has_no_backup =
            scope == Scope::Missing && complete.is_empty() && !all.is_empty();
        for id in all.difference(complete) {
            if scope == Scope::Everything || oldest.is_some_and(|oldest| id > oldest) {
                waiting.add(number, &layout.manifest(id)).await;
            } else {
                waiting.stats(number).older += 1;
            }
        }
    }
    Ok(())
}
