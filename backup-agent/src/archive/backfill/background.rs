//! The process that drains the notes, and the one that compares the buckets.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

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

/// How many notes are read at once.
const MAX_NOTES: usize = 64;

/// Between two tries of a bucket that takes nothing.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_secs(1),
    max_backoff: Duration::from_secs(30),
};

/// How often a lane without notes looks for new ones while another is busy.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// After how long what another try did not bring is tried once more, while the process is at work for
/// something else: an operator may have removed what was in the way.
const SET_ASIDE_PERIOD: Duration = Duration::from_secs(30);

/// For how long the draining process goes on without copying anything. The next push begins another.
const GIVE_UP_TIMEOUT: Duration = Duration::from_mins(10);

/// How large the draining process's log file grows before it is begun anew.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// One kind of what one bucket lacks. A backup of a terabyte takes hours to copy, and WAL that is noted
/// meanwhile does not wait for it.
struct BackfillWorker<'a> {
    buckets: &'a Buckets,
    bucket: &'a Bucket,
    kind: NotedKind,
    identity: Option<&'a Identity>,
    lock: &'a Path,
    round: &'a BackfillRound,
    /// What another try does not bring: it stays noted, and does not keep the others waiting.
    set_aside: BTreeSet<String>,
    set_aside_at: Instant,
}

/// What the lanes share. A push starts no other process while this one runs, so that each lane looks for
/// new notes as long as any has something to do, and all end together.
#[derive(Debug, Default)]
struct BackfillRound {
    /// How many lanes have something to do.
    busy: AtomicUsize,
    /// Set once none has.
    is_over: AtomicBool,
}

/// How a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerEnd {
    /// Nothing is left to do in any.
    Drained,
    /// The bucket takes nothing, or the state directory is gone.
    GivenUp,
}

/// Drains the notes until none is left, or nothing could be copied for a while; with `compared`, once
/// compares what the buckets hold of that cluster instead. Does nothing if another process does it.
pub(crate) async fn run_in_background(
    config: &Config,
    buckets: &Buckets,
    compared: Option<u64>,
) -> Result<(), Error> {
    // The archiver's process group is ended with PostgreSQL. Without a session of its own this would
    // be too; that fails only where there is one already.
    if let Err(error) = nix::unistd::setsid() {
        debug!(%error, "no new session started");
    }
    let path = match compared {
        None => buckets.health().backfill_lock(),
        Some(_) => config.state_directory.join("compare.lock"),
    };
    let failed = |error| Error::io("lock", &path)(error);
    fs::create_dir_all(&config.state_directory).map_err(failed)?;
    let lock = File::create(&path).map_err(failed)?;
    let identity = config.identity().ok();
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

/// Drains the notes, each bucket's and each kind's beside the others.
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
        // A note that was made before the lock was released found a process at work, and started none.
        let is_left = workers.iter().any(|worker| !worker.notes(1).is_empty());
        if !is_left || ends.contains(&WorkerEnd::GivenUp) {
            return Ok(());
        }
    }
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

impl BackfillWorker<'_> {
    fn notes(&self, most: usize) -> Vec<String> {
        let health = self.buckets.health();
        health.notes(self.bucket.name(), self.kind, most, &self.set_aside)
    }

    /// Copies what is noted, and what is noted meanwhile as long as any lane has something to do.
    async fn drain(&mut self) -> WorkerEnd {
        let mut backoff = RETRY_POLICY.backoff();
        let mut progress_at = Instant::now();
        let mut batch = MAX_NOTES;
        loop {
            self.take_up_again();
            let keys = self.notes(batch);
            // Without its lock it does not know of others, and of an archive that is gone.
            if !self.lock.exists() {
                self.round.busy.fetch_sub(1, Ordering::Relaxed);
                return WorkerEnd::GivenUp;
            }
            if keys.is_empty() {
                if !self.waits_for_another().await {
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
            // Each copy is read before it is refused: one is enough to see that a bucket takes nothing.
            batch = if moves { MAX_NOTES } else { 1 };
            if moves {
                progress_at = Instant::now();
                backoff = RETRY_POLICY.backoff();
            } else if progress_at.elapsed() >= GIVE_UP_TIMEOUT {
                warn!(
                    bucket = self.bucket.name(),
                    "backfill of a bucket given up until the next push"
                );
                self.round.busy.fetch_sub(1, Ordering::Relaxed);
                return WorkerEnd::GivenUp;
            } else {
                time::sleep(backoff.next_pause()).await;
            }
        }
    }

    fn take_up_again(&mut self) {
        if self.set_aside_at.elapsed() >= SET_ASIDE_PERIOD {
            self.set_aside.clear();
        }
    }

    /// Waits for notes while another lane is busy, and says whether there are any.
    async fn waits_for_another(&mut self) -> bool {
        self.round.busy.fetch_sub(1, Ordering::Relaxed);
        loop {
            if self.round.is_over.load(Ordering::Relaxed) {
                return false;
            }
            // Not while no other is busy: then the process ends, and the next one tries all of them.
            if self.round.busy.load(Ordering::Relaxed) > 0 {
                self.take_up_again();
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
        // PostgreSQL's logging collector ends when nobody holds its pipe any more.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
        .spawn()
        .map(drop)
}
