//! Copying to each bucket what it lacks and another has. Objects are copied as they are stored: they
//! are bound to their key and not to a bucket, so this needs no identity.
//!
//! Pushes and backups note what a bucket lacks, and a process of its own drains the notes, for as long
//! as that takes: neither waits for a bucket that is slow, nor gives up on it.

pub(crate) mod background;
pub(crate) mod compare;
pub(crate) mod pack_tally;
pub(crate) mod replicate;
pub(crate) mod replicate_packs;
pub(crate) mod sameness;
pub(crate) mod side_by_side;
pub(crate) mod wal_needs;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;
use tracing::{error, warn};

use crate::archive::backfill::compare::compare;

use crate::archive::backfill::replicate::{MANIFEST, Replicated, Replication, replicate};
use crate::encryption::keys::Identity;
use crate::storage::bucket::Bucket;
use crate::storage::bucket_health::NotedKind;
use crate::storage::buckets::Buckets;

/// How many objects are copied to one bucket at once: a far one takes a second for each. Of backups, one
/// is copied at a time, and so many of its packs.
const AT_ONCE: usize = 4;

/// What was copied, for each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackfillStats {
    /// Of each bucket that was looked at.
    pub(crate) buckets: BTreeMap<String, BucketStats>,
}

/// What was copied to one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketStats {
    /// How many objects were copied.
    pub(crate) copied: usize,
    /// How many it still lacks, and another try may bring.
    pub(crate) lacking: usize,
    /// Those that it lacks until an operator has done something, by their keys; and why.
    pub(crate) unresolved: BTreeMap<String, String>,
    /// How many are older than all that it holds, and were not looked at any further.
    pub(crate) older: usize,
    /// Whether it holds no backup, though another bucket does.
    pub(crate) has_no_backup: bool,
}

/// Copies `keys` to `bucket`, and records what was copied and what was not. Returns the latter.
async fn fill(
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
    let others = stream::iter(others.into_iter().map(copy)).buffer_unordered(AT_ONCE);
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
    replicated: Replication,
    stats: &mut BucketStats,
) -> Option<String> {
    let health = buckets.health();
    let Replication { outcome, packs } = replicated;
    stats.copied += packs;
    match outcome {
        Replicated::Copied => {
            stats.copied += 1;
            health.filled(bucket.name(), &key);
            None
        }
        Replicated::AlreadyThere => {
            health.filled(bucket.name(), &key);
            None
        }
        Replicated::Nowhere => {
            warn!(bucket = bucket.name(), %key, "missing object is in no bucket, note dropped");
            health.filled(bucket.name(), &key);
            None
        }
        Replicated::Failed => {
            stats.lacking += 1;
            Some(key)
        }
        Replicated::Unresolved(why) => {
            error!(bucket = bucket.name(), %key, why, "object not copied until an operator has looked");
            stats.unresolved.insert(key.clone(), why);
            Some(key)
        }
    }
}

/// Copies what is noted that `bucket` lacks, once each.
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
