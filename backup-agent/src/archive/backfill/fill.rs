//! Copying objects to one bucket, and recording the ones that it still lacks.

use crate::archive::backfill::replicate::{MANIFEST, replicate};
use crate::archive::backfill::replicate_object::CopyOutcome;
use crate::archive::backfill::replicate_object::CopyReport;
use crate::archive::backfill::replicate_object::MAX_CONCURRENT_COPIES;
use crate::archive::backfill::stats::{BackfillStats, BucketStats};
use crate::encryption::keys::Identity;
use crate::storage::bucket::Bucket;
use crate::storage::bucket_health::NotedKind;
use crate::storage::buckets::Buckets;
use futures_util::StreamExt as _;
use futures_util::stream;
use std::collections::BTreeSet;
use tracing::{error, warn};

/// Copies `keys` to `bucket`, records the results, and returns the keys that were not copied.
pub(super) async fn fill(
    buckets: &Buckets,
    bucket: &Bucket,
    keys: Vec<String>,
    identity: Option<&Identity>,
    stats: &mut BackfillStats,
) -> Vec<String> {
    let is_backup = |key: &String| key.ends_with(MANIFEST);
    let (backups, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_backup);
    let copy = |key: String| async move {
        let replicated = Box::pin(replicate(buckets, bucket, &key, identity)).await;
        (key, replicated)
    };
    let others = stream::iter(others.into_iter().map(copy)).buffer_unordered(MAX_CONCURRENT_COPIES);
    let backups = stream::iter(backups.into_iter().map(copy)).buffer_unordered(1);
    let mut copies = Box::pin(others.chain(backups));
    let mut lacking = Vec::new();
    while let Some((key, replicated)) = copies.next().await {
        let of_bucket = stats.buckets.entry(bucket.name().to_owned()).or_default();
        lacking.extend(record(buckets, bucket, key, replicated, of_bucket));
    }
    lacking
}

fn record(
    buckets: &Buckets,
    bucket: &Bucket,
    key: String,
    replicated: CopyReport,
    stats: &mut BucketStats,
) -> Option<String> {
    let health = buckets.health();
    let CopyReport { outcome, packs } = replicated;
    stats.copied += packs;
    match outcome {
        CopyOutcome::Copied => {
            stats.copied += 1;
            health.filled(bucket.name(), &key);
            None
        }
        CopyOutcome::AlreadyThere => {
            health.filled(bucket.name(), &key);
            None
        }
        CopyOutcome::Nowhere => {
            warn!(bucket = bucket.name(), %key, "missing object in no bucket, record removed");
            health.filled(bucket.name(), &key);
            None
        }
        CopyOutcome::Failed => {
            stats.lacking += 1;
            Some(key)
        }
        CopyOutcome::Unresolved(why) => {
            error!(bucket = bucket.name(), %key, why, "object not copied, operator needed");
            stats.unresolved.insert(key.clone(), why);
            Some(key)
        }
    }
}

/// Copies each object that is recorded as missing in `bucket`, once.
pub(crate) async fn drain_once(buckets: &Buckets, identity: Option<&Identity>) -> BackfillStats {
    let mut stats = BackfillStats::default();
    for kind in [NotedKind::Wal, NotedKind::Backup] {
        for bucket in buckets.all() {
            let keys = buckets
                .health()
                .notes(bucket.name(), kind, usize::MAX, &BTreeSet::new());
            fill(buckets, bucket, keys, identity, &mut stats).await;
        }
    }
    stats
}
