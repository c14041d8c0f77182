//! One object from whichever bucket gives it whole: retried while there is progress, and a bucket that
//! is silent costs its wait once, and not once for each object. One that crawls is left for another that
//! may be faster, and followed to the end where there is none.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use causeway_runtime::retry::RetryClass;
use causeway_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tracing::warn;

use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::header::ObjectHeader;
use crate::encryption::keys::Identity;
use crate::encryption::stream::Decryptor;
use crate::error::Error;
use crate::storage::bucket::{Bucket, RETRY_POLICY};
use crate::storage::buckets::Buckets;
use crate::storage::pace::DownloadPace;
use crate::storage::store_error::{StoreError, StoreErrorKind};

/// For how long a bucket is asked last after it failed to answer; it doubles with each failure after
/// that.
const AVOIDED_FOR: Duration = Duration::from_secs(15);
const AVOIDED_FOR_AT_MOST: Duration = Duration::from_mins(5);

/// How much faster than a bucket that is slow another must have been, so that what comes is left for it.
const WORTH_LEAVING: u64 = 2;

/// Why an object could not be had from one bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("it could not be read")]
    Store(#[from] StoreError),
    #[error("it is damaged")]
    Damaged(#[from] DecryptError),
    /// What was read could not be kept here: no other bucket helps.
    #[error("it could not be written")]
    Here(#[from] Error),
    /// It comes so slowly that another bucket is asked.
    #[error("it comes at {bytes_per_sec} bytes a second")]
    Slow { bytes_per_sec: u64 },
}

/// Whether more of an object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkDemand {
    More,
    Nothing,
}

/// What takes in the payload of an object. It is begun again for each try, and keeps what it has.
pub(crate) trait DownloadSink: Send {
    /// Prepares for the payload from its first byte on.
    fn begin(&mut self) -> Result<(), Error>;

    /// Takes what it can from the front of `payload`, and removes that.
    fn take(&mut self, payload: &mut Vec<u8>) -> Result<SinkDemand, DownloadError>;

    /// Takes the rest, of which it is certain that it is the end.
    fn end(&mut self, payload: &mut Vec<u8>, header: &ObjectHeader) -> Result<(), DownloadError>;

    /// Returns a number that grows with what is done for good.
    fn progress(&self) -> u64;
}

/// Reads objects from the buckets.
#[derive(Debug)]
pub(crate) struct Downloader {
    buckets: Buckets,
    identity: Arc<Identity>,
    retry_for: Duration,
    avoided: Mutex<BTreeMap<String, AvoidedBucket>>,
}

#[derive(Clone, Copy, Debug)]
struct AvoidedBucket {
    until: Instant,
    for_how_long: Duration,
    /// How fast it was, if it was left because of that.
    bytes_per_sec: Option<u64>,
}

/// What the tries of one object have come to.
struct DownloadAttempts {
    /// Buckets that would answer the same again.
    done_with: BTreeSet<String>,
    /// Buckets that were slow.
    slow: BTreeSet<String>,
    absent: usize,
    damaged: Option<DecryptError>,
    last: Option<StoreError>,
}

impl Downloader {
    /// Returns a reader that gives up on an object after `retry_for` without any progress.
    pub(crate) fn new(buckets: &Buckets, identity: Arc<Identity>, retry_for: Duration) -> Self {
        let downloads = Self {
            buckets: buckets.clone(),
            identity,
            retry_for,
            avoided: Mutex::default(),
        };
        for bucket in buckets.all() {
            if buckets.health().is_avoided(bucket.name()) {
                downloads.avoid(bucket.name(), None);
            }
        }
        downloads
    }

    /// Reads the object `key` into `sink`.
    pub(crate) async fn run(&self, key: &str, sink: &mut impl DownloadSink) -> Result<(), Error> {
        let mut tries = DownloadAttempts {
            done_with: BTreeSet::new(),
            slow: BTreeSet::new(),
            absent: 0,
            damaged: None,
            last: None,
        };
        let mut backoff = RETRY_POLICY.backoff();
        let mut give_up_at = Instant::now() + self.retry_for;
        'rounds: loop {
            let mut has_progressed = false;
            for bucket in &self.in_order(&tries.done_with) {
                let before = sink.progress();
                match self.read(bucket, key, sink, &tries).await {
                    Ok(pace) => {
                        self.answered(bucket.name(), &pace);
                        return Ok(());
                    }
                    Err(DownloadError::Here(failure)) => return Err(failure),
                    Err(DownloadError::Slow { bytes_per_sec }) => {
                        let bucket = bucket.name();
                        warn!(bucket, key, bytes_per_sec, "slow bucket left for another");
                        self.avoid(bucket, Some(bytes_per_sec));
                        tries.slow.insert(bucket.to_owned());
                        give_up_at = Instant::now() + self.retry_for;
                        continue 'rounds;
                    }
                    Err(broken) => self.failed(bucket, key, broken, &mut tries),
                }
                has_progressed |= sink.progress() > before;
            }
            if has_progressed {
                backoff = RETRY_POLICY.backoff();
                give_up_at = Instant::now() + self.retry_for;
            }
            let pause = backoff.next_pause();
            let is_over = tries.done_with.len() == self.buckets.all().len();
            if is_over || Instant::now() + pause >= give_up_at {
                return Err(tries.failure(key));
            }
            time::sleep(pause).await;
        }
    }

    /// Reads the object, and returns how fast it came.
    async fn read(
        &self,
        bucket: &Bucket,
        key: &str,
        sink: &mut impl DownloadSink,
        tries: &DownloadAttempts,
    ) -> Result<DownloadPace, DownloadError> {
        sink.begin()?;
        let mut pace = DownloadPace::new();
        let is_left = |bytes_per_sec| self.may_be_faster(bucket, bytes_per_sec, tries);
        let mut body = watched(&mut pace, &is_left, bucket.open_once(key)).await??;
        let mut decryptor = Decryptor::new(&self.identity, key);
        let mut payload = Vec::new();
        while let Some(part) = watched(&mut pace, &is_left, body.next()).await? {
            let part = part?;
            pace.add_bytes(part.len());
            decryptor.push(&part, &mut payload)?;
            if sink.take(&mut payload)? == SinkDemand::Nothing {
                return Ok(pace);
            }
        }
        let header = decryptor.finish(&mut payload)?;
        sink.end(&mut payload, &header)?;
        Ok(pace)
    }

    /// Says whether another bucket may give faster what `bucket` gives at this rate: one that is not known
    /// to be slow or away, or one that was faster. Each is left for others once, and then only for one that
    /// was faster: what is read twice must not be all that is read.
    fn may_be_faster(&self, bucket: &Bucket, bytes_per_sec: u64, tries: &DownloadAttempts) -> bool {
        let avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let others = self.buckets.all().iter().map(Bucket::name);
        others
            .filter(|name| *name != bucket.name() && !tries.done_with.contains(*name))
            .any(|name| match avoided.get(name) {
                Some(bucket) if bucket.rate() > bytes_per_sec.saturating_mul(WORTH_LEAVING) => true,
                Some(bucket) if now < bucket.until => false,
                Some(_) | None => !tries.slow.contains(name),
            })
    }

    fn failed(
        &self,
        bucket: &Bucket,
        key: &str,
        broken: DownloadError,
        tries: &mut DownloadAttempts,
    ) {
        let name = bucket.name();
        warn!(bucket = name, key, error = %chain(&broken), "object not restored from this bucket");
        match broken {
            DownloadError::Store(error) => {
                if error.retry_class() == RetryClass::Transient {
                    self.avoid(name, None);
                } else {
                    tries.done_with.insert(name.to_owned());
                    tries.absent += usize::from(error.kind() == StoreErrorKind::NotFound);
                }
                tries.last = Some(error);
            }
            DownloadError::Damaged(why) => {
                tries.done_with.insert(name.to_owned());
                tries.damaged = Some(why);
            }
            // The first ends everything, and the second was no failure.
            DownloadError::Here(_) | DownloadError::Slow { .. } => {}
        }
    }

    /// Returns the buckets that may still have the object, those that were slow a moment ago after the
    /// others, the fastest first, and those that failed last. Once that moment is over, one caller tries the
    /// bucket, and not all at once.
    fn in_order(&self, done_with: &BTreeSet<String>) -> Vec<Bucket> {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut place = |bucket: &Bucket| {
            let Some(entry) = avoided.get_mut(bucket.name()) else {
                return (false, Reverse(0));
            };
            let is_avoided = now < entry.until;
            if !is_avoided {
                entry.for_how_long = (2 * entry.for_how_long).min(AVOIDED_FOR_AT_MOST);
                entry.until = now + entry.for_how_long;
            }
            (
                is_avoided,
                Reverse(if is_avoided { entry.rate() } else { 0 }),
            )
        };
        let all = self.buckets.all().iter();
        let left = all.filter(|bucket| !done_with.contains(bucket.name()));
        let mut order: Vec<_> = left.map(|bucket| (place(bucket), bucket.clone())).collect();
        order.sort_by_key(|(place, _)| *place);
        order.into_iter().map(|(_, bucket)| bucket).collect()
    }

    fn avoid(&self, bucket: &str, bytes_per_sec: Option<u64>) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let entry = avoided.entry(bucket.to_owned()).or_insert(AvoidedBucket {
            until: now,
            for_how_long: AVOIDED_FOR,
            bytes_per_sec,
        });
        entry.until = entry.until.max(now + entry.for_how_long);
        entry.bytes_per_sec = bytes_per_sec;
    }

    fn answered(&self, bucket: &str, pace: &DownloadPace) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let was_slow = avoided
            .get(bucket)
            .is_some_and(|avoided| avoided.bytes_per_sec.is_some());
        if !was_slow || pace.is_proven() {
            avoided.remove(bucket);
        }
    }
}

impl AvoidedBucket {
    fn rate(&self) -> u64 {
        self.bytes_per_sec.unwrap_or(0)
    }
}

/// Waits for what a bucket gives, unless that is slow and `is_left` says to leave it.
async fn watched<T>(
    pace: &mut DownloadPace,
    is_left: impl Fn(u64) -> bool,
    awaited: impl Future<Output = T>,
) -> Result<T, DownloadError> {
    let mut awaited = pin!(awaited);
    loop {
        let began = Instant::now();
        let given = time::timeout(pace.until_look(), awaited.as_mut()).await;
        pace.add_wait(began.elapsed());
        if let Ok(given) = given {
            return Ok(given);
        }
        if let Some(bytes_per_sec) = pace.look().filter(|rate| is_left(*rate)) {
            return Err(DownloadError::Slow { bytes_per_sec });
        }
    }
}

impl DownloadAttempts {
    fn failure(self, key: &str) -> Error {
        if let Some(why) = self.damaged {
            return Error::damaged(key)(why);
        }
        match self.last {
            Some(last) => Error::Unreachable {
                what: key.to_owned(),
                answered: self.absent,
                last: Box::new(last),
            },
            None => Error::Internal("there are no buckets"),
        }
    }
}
