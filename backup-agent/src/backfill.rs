//! Copying to each bucket what it lacks and another has. Objects are copied as they are stored: they
//! are bound to their key and not to a bucket, so this needs no identity.
//!
//! Pushes and backups note what a bucket lacks, and a process of its own drains the notes, for as long
//! as that takes: neither waits for a bucket that is slow, nor gives up on it.

mod compare;
mod packs;
mod replicate;
mod replicate_packs;
mod sameness;
mod side_by_side;
mod wal_needs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use ha_runtime::retry::RetryPolicy;
use ha_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tracing::{debug, error, info, warn};

pub(crate) use compare::{Scope, compare};
pub(crate) use packs::{PackTally, pack_number};

use crate::backfill::replicate::{MANIFEST, Replicated, Replication, replicate};
use crate::bucket_health::NotedKind;
use crate::buckets::Buckets;
use crate::config::Config;
use crate::error::Failure;
use crate::layout::Layout;
use crate::object_store::Bucket;
use crate::seal::Identity;

/// How many objects are copied to one bucket at once: a far one takes a second for each. Of backups, one
/// is copied at a time, and so many of its packs.
const AT_ONCE: usize = 4;

/// How many notes are read at once.
const BATCH: usize = 64;

/// Between two tries of a bucket that takes nothing.
const ROUNDS: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_secs(1),
    max_backoff: Duration::from_secs(30),
};

/// For how long the draining process goes on without copying anything. The next push begins another.
const GIVE_UP_AFTER: Duration = Duration::from_mins(10);

/// How large the draining process's log file grows before it is begun anew.
const LOG_BYTES: u64 = 1 << 20;

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

/// Copies `keys` to `bucket`, and records what was copied and what was not.
async fn fill(
    buckets: &Buckets,
    bucket: &Bucket,
    keys: Vec<String>,
    identity: Option<&Identity>,
    stats: &mut BackfillStats,
) {
    let is_backup = |key: &String| key.ends_with(MANIFEST);
    let (backups, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_backup);
    let copy = |key: String| async move {
        let replicated = Box::pin(replicate(buckets, bucket, &key, identity)).await;
        (key, replicated)
    };
    let others = stream::iter(others.into_iter().map(copy)).buffer_unordered(AT_ONCE);
    let backups = stream::iter(backups.into_iter().map(copy)).buffer_unordered(1);
    let mut copies = Box::pin(others.chain(backups));
    while let Some((key, replicated)) = copies.next().await {
        let of_bucket = stats.buckets.entry(bucket.name().to_owned()).or_default();
        record(buckets, bucket, key, replicated, of_bucket);
    }
}

fn record(
    buckets: &Buckets,
    bucket: &Bucket,
    key: String,
    replicated: Replication,
    stats: &mut BucketStats,
) {
    let health = buckets.health();
    let Replication { outcome, packs } = replicated;
    stats.copied += packs;
    match outcome {
        Replicated::Copied => {
            stats.copied += 1;
            health.filled(bucket.name(), &key);
        }
        Replicated::AlreadyThere => health.filled(bucket.name(), &key),
        Replicated::Nowhere => {
            warn!(bucket = bucket.name(), %key, "missing object is in no bucket, note dropped");
            health.filled(bucket.name(), &key);
        }
        Replicated::Failed => {
            stats.lacking += 1;
            health.lacks(bucket.name(), &key);
        }
        Replicated::Unresolved(why) => {
            error!(bucket = bucket.name(), %key, why, "object not copied until an operator has looked");
            health.lacks(bucket.name(), &key);
            stats.unresolved.insert(key, why);
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

/// Drains the notes until none is left, or nothing could be copied for a while; with `compared`, once
/// compares what the buckets hold of that cluster instead. Does nothing if another process does it.
pub(crate) async fn run_in_background(
    config: &Config,
    buckets: &Buckets,
    compared: Option<u64>,
) -> Result<(), Failure> {
    // The archiver's process group is ended with PostgreSQL. Without a session of its own this would
    // be too; that fails only where there is one already.
    if let Err(error) = nix::unistd::setsid() {
        debug!(%error, "no session of its own");
    }
    let path = match compared {
        None => buckets.health().backfill_lock(),
        Some(_) => config.state_directory.join("compare.lock"),
    };
    let failed = |error| Failure::io("lock", &path)(error);
    fs::create_dir_all(&config.state_directory).map_err(failed)?;
    let lock = File::create(&path).map_err(failed)?;
    if !is_locked(&lock).await {
        return Ok(());
    }
    let identity = config.identity().ok();
    if let Some(system_id) = compared {
        let layout = Layout::new(&config.cluster, system_id);
        let stats = compare(buckets, &layout, identity.as_ref(), Scope::Missing).await?;
        info!(?stats, "buckets compared");
        return Ok(());
    }
    let identity = identity.as_ref();
    let drains = buckets.all().iter().map(|bucket| async {
        // WAL that is noted while a backup is copied does not wait for that.
        let copies_backups = AtomicBool::new(true);
        let backups = async {
            drain_bucket(buckets, bucket, NotedKind::Backup, identity, &path, || {
                false
            })
            .await;
            copies_backups.store(false, Ordering::Relaxed);
        };
        let goes_on = || copies_backups.load(Ordering::Relaxed);
        let wal = drain_bucket(buckets, bucket, NotedKind::Wal, identity, &path, goes_on);
        tokio::join!(backups, wal);
    });
    futures_util::future::join_all(drains).await;
    Ok(())
}

/// Tries for a second: a push that looks whether the lock is held holds it for a moment.
async fn is_locked(lock: &File) -> bool {
    for _ in 0..10 {
        if lock.try_lock().is_ok() {
            return true;
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// Copies what is noted of one kind, and what is noted meanwhile as long as `goes_on` says so.
async fn drain_bucket(
    buckets: &Buckets,
    bucket: &Bucket,
    kind: NotedKind,
    identity: Option<&Identity>,
    lock: &Path,
    goes_on: impl Fn() -> bool,
) {
    let mut backoff = ROUNDS.backoff();
    let mut progress_at = Instant::now();
    let mut batch = BATCH;
    // What another try does not bring stays noted, and does not keep the others waiting.
    let mut set_aside = BTreeSet::new();
    loop {
        let health = buckets.health();
        let keys = health.notes(bucket.name(), kind, batch, &set_aside);
        // Without its lock it does not know of others, and of an archive that is gone.
        if !lock.exists() {
            return;
        }
        if keys.is_empty() {
            if !goes_on() {
                return;
            }
            progress_at = Instant::now();
            time::sleep(ROUNDS.initial_backoff).await;
            continue;
        }
        let asked = keys.len();
        let mut stats = BackfillStats::default();
        fill(buckets, bucket, keys, identity, &mut stats).await;
        let stats = stats.buckets.remove(bucket.name()).unwrap_or_default();
        let moves = stats.lacking < asked || stats.copied > 0;
        set_aside.extend(stats.unresolved.into_keys());
        // Each copy is read before it is refused: one is enough to see that a bucket takes nothing.
        batch = if moves { BATCH } else { 1 };
        if moves {
            progress_at = Instant::now();
            backoff = ROUNDS.backoff();
        } else if progress_at.elapsed() >= GIVE_UP_AFTER {
            warn!(
                bucket = bucket.name(),
                "bucket takes nothing; the next push tries again"
            );
            return;
        } else {
            time::sleep(backoff.next_pause()).await;
        }
    }
}

/// Starts a process that drains the notes, if there are any and no process does it.
pub(crate) fn start_in_background(config: &Config, buckets: &Buckets) {
    let health = buckets.health();
    let any = buckets
        .all()
        .iter()
        .any(|bucket| health.has_notes(bucket.name()));
    if !any || health.is_backfill_running() {
        return;
    }
    start(config, None);
}

/// Starts a process that compares what the buckets hold of a cluster: notes can be lost.
pub(crate) fn compare_in_background(config: &Config, buckets: &Buckets, system_id: u64) {
    if buckets.all().len() > 1 {
        start(config, Some(system_id));
    }
}

fn start(config: &Config, compared: Option<u64>) {
    match spawn(config, compared) {
        Ok(()) => debug!(?compared, "backfill started in the background"),
        Err(error) => warn!(error = %chain(&error), "backfill not started"),
    }
}

fn spawn(config: &Config, compared: Option<u64>) -> std::io::Result<()> {
    let path = config.state_directory.join("backfill.log");
    let is_full = fs::metadata(&path).is_ok_and(|it| it.len() > LOG_BYTES);
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .append(!is_full)
        .truncate(is_full)
        .open(&path);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--config")
        .arg(&config.path)
        .args(["wal", "backfill", "--background"]);
    if let Some(system_id) = compared {
        command.arg("--system-id").arg(system_id.to_string());
    }
    command
        .current_dir("/")
        // PostgreSQL's logging collector ends when nobody holds its pipe any more.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
        .spawn()
        .map(drop)
}
