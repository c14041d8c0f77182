//! Download of one object from any bucket that returns it whole. It is retried while it progresses.
//! An unavailable bucket costs its timeout once, and not once per object. A slow bucket is
//! abandoned for one that may be faster, and read to the end if there is none.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use causeway_runtime::retry::{ProgressBudget, RetryClass};
use causeway_runtime::s3::S3ErrorKind;
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
use crate::storage::store_error::StoreError;

/// Time for which a failing bucket is queried last; it doubles with each further failure.
const AVOIDANCE_PERIOD: Duration = Duration::from_secs(15);
const MAX_AVOIDANCE_PERIOD: Duration = Duration::from_mins(5);

/// Factor by which another bucket must have been faster than a slow one before the slow one is
/// abandoned.
const MIN_SPEEDUP: u64 = 2;

/// Error of downloading an object from one bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("it could not be read")]
    Store(#[from] StoreError),
    #[error("it is damaged")]
    Damaged(#[from] DecryptError),
    /// The content could not be written locally: no other bucket helps.
    #[error("it could not be written")]
    Here(#[from] Error),
    /// The transfer is so slow that another bucket is tried.
    #[error("it arrives at {bytes_per_sec} bytes a second")]
    Slow { bytes_per_sec: u64 },
}

/// Whether the sink needs more of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkDemand {
    More,
    Nothing,
}

/// Receiver of an object's payload. It is restarted for each attempt and keeps what it has
/// completed.
pub(crate) trait DownloadSink: Send {
    /// Prepares for the payload from its first byte on.
    fn begin(&mut self) -> Result<(), Error>;

    /// Consumes a prefix of `payload`.
    fn take(&mut self, payload: &mut Vec<u8>) -> Result<SinkDemand, DownloadError>;

    /// Consumes the rest, which is authenticated as the end.
    fn end(&mut self, payload: &mut Vec<u8>, header: &ObjectHeader) -> Result<(), DownloadError>;

    /// Returns a number that grows with each completed step.
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
    period: Duration,
    /// Transfer rate, if the bucket was abandoned as slow.
    bytes_per_sec: Option<u64>,
}

/// Results of the attempts to read one object.
struct DownloadAttempts {
    /// Buckets that would return the same again.
    done_with: BTreeSet<String>,
    /// Buckets that were slow.
    slow: BTreeSet<String>,
    absent: usize,
    damaged: Option<DecryptError>,
    last: Option<StoreError>,
}

impl Downloader {
    /// Returns a reader that fails on an object after `retry_for` without progress.
    pub(crate) fn new(buckets: &Buckets, identity: Arc<Identity>, retry_for: Duration) -> Self {
        let downloads = Self {
            buckets: buckets.clone(),
            identity,
            retry_for,
            avoided: Mutex::default(),
        };
        for bucket in buckets.all() {
            if buckets.health().is_avoided(bucket.name()) {
                downloads.record_slow(bucket.name(), None);
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
        let mut budget = ProgressBudget::new(RETRY_POLICY, self.retry_for);
        'rounds: loop {
            let mut has_progressed = false;
            for bucket in &self.in_order(&tries.done_with) {
                let before = sink.progress();
                match self.read(bucket, key, sink, &tries).await {
                    Ok(pace) => {
                        self.record_pace(bucket.name(), &pace);
                        return Ok(());
                    }
                    Err(DownloadError::Here(failure)) => return Err(failure),
                    Err(DownloadError::Slow { bytes_per_sec }) => {
                        let bucket = bucket.name();
                        warn!(
                            bucket,
                            key, bytes_per_sec, "slow bucket abandoned for another"
                        );
                        self.record_slow(bucket, Some(bytes_per_sec));
                        tries.slow.insert(bucket.to_owned());
                        budget.restart();
                        continue 'rounds;
                    }
                    Err(broken) => self.failed(bucket, key, broken, &mut tries),
                }
                has_progressed |= sink.progress() > before;
            }
            if has_progressed {
                budget.restart();
            }
            let is_over = tries.done_with.len() == self.buckets.all().len();
            if is_over || !budget.wait_for_attempt().await {
                return Err(tries.failure(key));
            }
        }
    }

    /// Reads the object and returns its transfer rate.
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

    /// Returns whether another bucket may be faster than `bucket` at this rate: one that is not
    /// known to be slow or unavailable, or one that was faster. Each bucket is abandoned once for a
    /// bucket of unknown speed, and then only for one that was faster: otherwise the same bytes
    /// would be read again and again.
    fn may_be_faster(&self, bucket: &Bucket, bytes_per_sec: u64, tries: &DownloadAttempts) -> bool {
        let avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let others = self.buckets.all().iter().map(Bucket::name);
        others
            .filter(|name| *name != bucket.name() && !tries.done_with.contains(*name))
            .any(|name| match avoided.get(name) {
                Some(bucket) if bucket.rate() > bytes_per_sec.saturating_mul(MIN_SPEEDUP) => true,
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
                    self.record_slow(name, None);
                } else {
                    tries.done_with.insert(name.to_owned());
                    tries.absent += usize::from(error.kind() == S3ErrorKind::NoSuchKey);
                }
                tries.last = Some(error);
            }
            DownloadError::Damaged(why) => {
                tries.done_with.insert(name.to_owned());
                tries.damaged = Some(why);
            }
            // A local error ends the download, and a slow transfer is not a failure.
            DownloadError::Here(_) | DownloadError::Slow { .. } => {}
        }
    }

    /// Returns the buckets that may still have the object: first those without a recent failure,
    /// then the recently slow ones, fastest first, then the recently failed ones. After the
    /// avoidance time one caller probes the bucket, and not all at once.
    fn in_order(&self, done_with: &BTreeSet<String>) -> Vec<Bucket> {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut place = |bucket: &Bucket| {
            let Some(entry) = avoided.get_mut(bucket.name()) else {
                return (false, Reverse(0));
            };
            let is_avoided = now < entry.until;
            if !is_avoided {
                entry.period = (2 * entry.period).min(MAX_AVOIDANCE_PERIOD);
                entry.until = now + entry.period;
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

    fn record_slow(&self, bucket: &str, bytes_per_sec: Option<u64>) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let entry = avoided.entry(bucket.to_owned()).or_insert(AvoidedBucket {
            until: now,
            period: AVOIDANCE_PERIOD,
            bytes_per_sec,
        });
        entry.until = entry.until.max(now + entry.period);
        entry.bytes_per_sec = bytes_per_sec;
    }

    fn record_pace(&self, bucket: &str, pace: &DownloadPace) {
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

/// Awaits the next bytes of a bucket, unless it is slow and `is_left` returns true for its rate.
async fn watched<T>(
    pace: &mut DownloadPace,
    is_left: impl Fn(u64) -> bool,
    awaited: impl Future<Output = T>,
) -> Result<T, DownloadError> {
    let mut awaited = pin!(awaited);
    loop {
        let began = Instant::now();
        let given = time::timeout(pace.until_window_end(), awaited.as_mut()).await;
        pace.add_wait(began.elapsed());
        if let Ok(given) = given {
            return Ok(given);
        }
        if let Some(bytes_per_sec) = pace.end_window().filter(|rate| is_left(*rate)) {
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
