//! Background processes: one copies the objects recorded as missing, one compares the buckets.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use causeway_runtime::poll;
use causeway_runtime::retry::RetryPolicy;
use causeway_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tracing::{debug, info, warn};

use crate::archive::backfill::compare::{CompareScope, compare};
use crate::archive::backfill::fill::fill;
use crate::archive::backfill::stats::BackfillStats;
use crate::config::Config;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::bucket_health::NotedKind;
use crate::storage::buckets::Buckets;
use crate::storage::object_keys::ObjectKeys;

/// Maximum number of records that are read at once.
const MAX_NOTES: usize = 64;

/// Backoff while a bucket accepts nothing.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_secs(1),
    max_backoff: Duration::from_secs(30),
};

/// Time for which a push may hold the lock to test it, and the interval of trying to lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Interval at which a worker without records looks for new ones while another is busy.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Time after which an object that could not be copied is tried once more, while the process has
/// other work: an operator may have removed the obstacle.
const SET_ASIDE_PERIOD: Duration = Duration::from_secs(30);

/// Time without a copied object after which the process exits. The next push starts another.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);

/// Size of the process's log file at which it is truncated.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// Worker for the missing objects of one kind in one bucket. The backup of a terabyte takes hours
/// to copy, and WAL recorded meanwhile does not wait for it.
struct BackfillWorker<'a> {
    buckets: &'a Buckets,
    bucket: &'a Bucket,
    kind: NotedKind,
    identity: Option<&'a Identity>,
    lock: &'a Path,
    round: &'a BackfillRound,
    /// Objects that another attempt cannot copy: they stay recorded and do not delay the others.
    set_aside: BTreeSet<String>,
    set_aside_at: Instant,
}

/// State shared by the workers. A push starts no other process while this one runs, so each worker
/// looks for new records while any of them is busy, and all end together.
#[derive(Debug, Default)]
struct BackfillRound {
    /// Number of busy workers.
    busy: AtomicUsize,
    /// Set once none is busy.
    is_over: AtomicBool,
}

/// Reason why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerEnd {
    /// No worker has anything left to do.
    Drained,
    /// The bucket accepts nothing, or the state directory has been removed.
    GivenUp,
}

/// Copies the recorded objects until none is left, or nothing could be copied for a while; with
/// `compared`, compares the content of the buckets for that cluster once instead. Does nothing if
/// another process is running.
pub(crate) async fn run_in_background(
    config: &Config,
    buckets: &Buckets,
    compared: Option<u64>,
) -> Result<(), Error> {
    // The archiver's process group is terminated with PostgreSQL, and without a session of its own
    // this process would be too. The call fails only if it has one already.
    if let Err(error) = nix::unistd::setsid() {
        debug!(%error, "session not created");
    }
    let path = match compared {
        None => buckets.health().backfill_lock(),
        Some(_) => config.state_directory.join("compare.lock"),
    };
    let failed = |error| Error::io("lock", &path)(error);
    fs::create_dir_all(&config.state_directory).map_err(failed)?;
    let lock = File::create(&path).map_err(failed)?;
    // Copying needs no identity, and a bucket that is not filled is worse than a copy that is not
    // decrypted.
    let identity = config.identity_if_set().unwrap_or_else(|error| {
        warn!(error = %chain(&error), "identity unreadable, objects copied without decrypting them");
        None
    });
    if let Some(system_id) = compared {
        if is_locked(&lock).await {
            let object_keys = ObjectKeys::new(&config.cluster, system_id);
            let stats = compare(
                buckets,
                &object_keys,
                identity.as_ref(),
                CompareScope::Missing,
            )
            .await?;
            info!(?stats, "buckets compared");
        }
        return Ok(());
    }
    drain(buckets, identity.as_ref(), &path, &lock)
        .await
        .map_err(failed)
}

/// Copies the recorded objects, with one worker per bucket and kind.
async fn drain(
    buckets: &Buckets,
    identity: Option<&Identity>,
    path: &Path,
    lock: &File,
) -> std::io::Result<()> {
    let kinds = [NotedKind::Wal, NotedKind::Backup];
    let each = || {
        let all = buckets.all().iter();
        all.flat_map(|bucket| kinds.map(|kind| (bucket, kind)))
    };
    let round = BackfillRound::default();
    let mut workers: Vec<_> = each()
        .map(|(bucket, kind)| BackfillWorker {
            buckets,
            bucket,
            kind,
            identity,
            lock: path,
            round: &round,
            set_aside: BTreeSet::new(),
            set_aside_at: Instant::now(),
        })
        .collect();
    while is_locked(lock).await {
        round.busy.store(workers.len(), Ordering::Relaxed);
        round.is_over.store(false, Ordering::Relaxed);
        let ends =
            futures_util::future::join_all(workers.iter_mut().map(BackfillWorker::drain)).await;
        lock.unlock()?;
        // A record that was made before the lock was released found a process running, and started
        // none.
        let is_left = workers.iter().any(|worker| !worker.notes(1).is_empty());
        if !is_left || ends.contains(&WorkerEnd::GivenUp) {
            return Ok(());
        }
    }
    Ok(())
}

/// Locks, and returns whether that was possible: no other process holds the lock for longer than a test.
async fn is_locked(lock: &File) -> bool {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let locked = poll::until(deadline, LOCK_INTERVAL, async || {
        lock.try_lock().map_or_else(Continue, Break)
    });
    locked.await.is_break()
}

impl BackfillWorker<'_> {
    fn notes(&self, most: usize) -> Vec<String> {
        let health = self.buckets.health();
        health.notes(self.bucket.name(), self.kind, most, &self.set_aside)
    }

    /// Copies recorded objects, including new ones while any worker is busy. Each round copies what is left, and
    /// each copied object begins the backoff anew, so this is not `retry::until`.
    async fn drain(&mut self) -> WorkerEnd {
        let mut backoff = RETRY_POLICY.backoff();
        let mut progress_at = Instant::now();
        let mut batch = MAX_NOTES;
        loop {
            self.retry_set_aside();
            let keys = self.notes(batch);
            // Without its lock file this process cannot exclude others, and its archive may have
            // been removed.
            if !self.lock.exists() {
                self.round.busy.fetch_sub(1, Ordering::Relaxed);
                return WorkerEnd::GivenUp;
            }
            if keys.is_empty() {
                if !self.wait_for_others().await {
                    return WorkerEnd::Drained;
                }
                progress_at = Instant::now();
                continue;
            }
            let asked = keys.len();
            let mut stats = BackfillStats::default();
            fill(self.buckets, self.bucket, keys, self.identity, &mut stats).await;
            let stats = stats
                .buckets
                .remove(self.bucket.name())
                .expect("each key was counted for its bucket");
            let moves = stats.lacking < asked || stats.copied > 0;
            if !stats.unresolved.is_empty() {
                self.set_aside_at = Instant::now();
                self.set_aside.extend(stats.unresolved.into_keys());
            }
            // Each copy is read before it is refused: one is enough to show that a bucket accepts
            // nothing.
            batch = if moves { MAX_NOTES } else { 1 };
            if moves {
                progress_at = Instant::now();
                backoff = RETRY_POLICY.backoff();
            } else if progress_at.elapsed() >= IDLE_TIMEOUT {
                warn!(
                    bucket = self.bucket.name(),
                    "backfill of a bucket stopped until the next push"
                );
                self.round.busy.fetch_sub(1, Ordering::Relaxed);
                return WorkerEnd::GivenUp;
            } else {
                backoff.pause().await;
            }
        }
    }

    fn retry_set_aside(&mut self) {
        if self.set_aside_at.elapsed() >= SET_ASIDE_PERIOD {
            self.set_aside.clear();
        }
    }

    /// Waits for records while another worker is busy, and returns whether there are any.
    async fn wait_for_others(&mut self) -> bool {
        self.round.busy.fetch_sub(1, Ordering::Relaxed);
        loop {
            if self.round.is_over.load(Ordering::Relaxed) {
                return false;
            }
            // Not while no other worker is busy: then the process ends, and the next one retries
            // all objects.
            if self.round.busy.load(Ordering::Relaxed) > 0 {
                self.retry_set_aside();
            }
            if !self.notes(1).is_empty() {
                self.round.busy.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            if self.round.busy.load(Ordering::Relaxed) == 0 {
                self.round.is_over.store(true, Ordering::Relaxed);
                return false;
            }
            time::sleep(CHECK_INTERVAL).await;
        }
    }
}

/// Starts a process that copies the recorded objects, if there are any and none is running.
pub(crate) fn start_in_background(config: &Config, buckets: &Buckets) {
    let health = buckets.health();
    let any = buckets
        .all()
        .iter()
        .any(|bucket| health.has_missing(bucket.name()));
    if !any || health.is_backfill_running() {
        return;
    }
    start(config, None);
}

/// Starts a process that compares the buckets' content for a cluster: records can be lost.
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
    let is_full = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES);
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
        // PostgreSQL's logging collector ends when no process has its pipe open.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
        .spawn()
        .map(drop)
}
