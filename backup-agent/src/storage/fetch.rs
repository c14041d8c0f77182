//! Hedged reads: the nearest bucket is queried first, the next one after a short delay. An object
//! is absent only if every bucket responds so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use causeway_runtime::retry::RetryClass;
use causeway_runtime::s3::S3ErrorKind;
use causeway_runtime::telemetry::chain;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use crate::encryption::decrypt_error::DecryptError;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;
use crate::storage::candidate::HEDGE_SLOW_AFTER;
use crate::storage::candidate::{AnswerProgress, BucketCandidate, CandidateState};
use crate::storage::store_error::StoreError;

/// Interval of checking the queried buckets for slowness.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Time without a response after which the next command starts with another bucket.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(400);

/// Number of reads of a damaged object from the same bucket: the damage may have occurred in
/// transit.
const MAX_DAMAGED_READS: u32 = 2;

/// Destination of an object that is being read.
pub(crate) trait ObjectSink: Sized {
    /// Result for the whole object.
    type Output;

    /// Writes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// Ends the object, which is complete and authenticated.
    fn finish(self) -> Result<Self::Output, SinkError>;
}

/// Error of writing an object to a sink.
#[derive(Debug)]
pub(crate) enum SinkError {
    /// The object is invalid: another bucket's copy may be valid.
    Object(Error),
    /// The content could not be stored locally: no other bucket helps.
    Local(Error),
}

/// Retry limits of a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchEffort {
    /// Retry timeout of a failing bucket.
    pub(crate) retry_timeout: Duration,
    /// Shorter limits, for callers that retry on their own.
    pub(crate) hurry: Option<StandbyLimits>,
}

/// Limits of a search whose caller retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandbyLimits {
    /// Retry timeout of a failing bucket after another has responded that the object is absent.
    pub(crate) retry: Duration,
    /// Time in which a recently unavailable bucket must begin its response.
    pub(crate) avoided_answer: Duration,
    /// Time in which any other bucket must begin it, after one has responded that the object is
    /// absent.
    pub(crate) first_answer: Duration,
}

/// Reason why one response did not yield the object.
enum AnswerError {
    Store(StoreError),
    DownloadSink(SinkError),
}

/// Search for one object in several buckets.
struct ObjectSearch<'a> {
    buckets: &'a Buckets,
    key: &'a str,
    effort: FetchEffort,
    candidates: Vec<BucketCandidate<'a>>,
    give_up_at: Instant,
    /// The most informative error so far: a damaged object outranks an unresponsive bucket.
    damaged: Option<Error>,
    last: Option<StoreError>,
}

impl Buckets {
    /// Reads an object from the first bucket that returns it whole, and returns the result of
    /// `open`.
    pub(crate) async fn fetch<T>(
        &self,
        key: &str,
        open: impl Fn(&[u8]) -> Result<T, DecryptError>,
    ) -> Result<T, Error> {
        let effort = FetchEffort {
            retry_timeout: self.limits.retry,
            hurry: None,
        };
        let begin = || {
            Ok(CollectingSink {
                key,
                whole: Vec::new(),
                open: &open,
            })
        };
        self.fetch_into(key, effort, begin).await
    }

    /// Reads an object from the first bucket that returns it whole, into a sink that `begin`
    /// creates for each attempt.
    ///
    /// The next bucket is queried when one fails, lacks the object or is slow. Every bucket is
    /// queried, recently unavailable ones last. A failing bucket is retried until `effort` ends;
    /// once its response has begun, only a stalled transfer ends it.
    pub(crate) async fn fetch_into<S: ObjectSink>(
        &self,
        key: &str,
        effort: FetchEffort,
        begin: impl Fn() -> Result<S, Error>,
    ) -> Result<S::Output, Error> {
        let mut candidates: Vec<_> = self
            .all
            .iter()
            .map(|bucket| BucketCandidate::new(bucket, self.health.is_avoided(bucket.name())))
            .collect();
        candidates.sort_by_key(|candidate| candidate.avoided);
        let mut search = ObjectSearch {
            buckets: self,
            key,
            effort,
            candidates,
            give_up_at: Instant::now() + effort.retry_timeout,
            damaged: None,
            last: None,
        };
        let found = search.run(begin).await;
        search.record_unresponsive_buckets();
        found?.ok_or_else(|| search.failure())
    }
}

/// Sink that collects the whole object in memory.
struct CollectingSink<'a, F> {
    key: &'a str,
    whole: Vec<u8>,
    open: &'a F,
}

impl<T, F: Fn(&[u8]) -> Result<T, DecryptError>> ObjectSink for CollectingSink<'_, F> {
    type Output = T;

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.whole.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> Result<T, SinkError> {
        let damaged = |why| SinkError::Object(Error::damaged(self.key)(why));
        (self.open)(&self.whole).map_err(damaged)
    }
}

async fn read_answer<S: ObjectSink>(
    bucket: &Bucket,
    key: &str,
    answer_within: Option<Duration>,
    sink: Result<S, Error>,
    progress: Arc<AnswerProgress>,
) -> Result<S::Output, AnswerError> {
    let mut sink = sink.map_err(|error| AnswerError::DownloadSink(SinkError::Local(error)))?;
    let open = bucket.open_once(key);
    let opened = match answer_within {
        None => open.await,
        Some(limit) => match time::timeout(limit, open).await {
            Ok(opened) => opened,
            Err(_elapsed) => Err(bucket.timeout_error("give", key)),
        },
    };
    let mut body = opened.map_err(AnswerError::Store)?;
    progress.begun.store(true, Ordering::Relaxed);
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(AnswerError::Store)?;
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        progress.bytes.fetch_add(length, Ordering::Relaxed);
        sink.write(&bytes).map_err(AnswerError::DownloadSink)?;
    }
    sink.finish().map_err(AnswerError::DownloadSink)
}

impl<'a> ObjectSearch<'a> {
    /// Returns the object, or `None` once every bucket has been queried.
    async fn run<S: ObjectSink>(
        &mut self,
        begin: impl Fn() -> Result<S, Error>,
    ) -> Result<Option<S::Output>, Error> {
        let key = self.key;
        let mut running = FuturesUnordered::new();
        loop {
            for (number, bucket, limit, progress) in self.choose_buckets() {
                let given = read_answer(bucket, key, limit, begin(), progress);
                running.push(async move { (number, given.await) });
            }
            self.fail_silent();
            if self.candidates.iter().all(BucketCandidate::is_settled) {
                return Ok(None);
            }
            let check_at = self.next_check_at();
            let check_at = check_at.unwrap_or_else(|| Instant::now() + HEDGE_SLOW_AFTER);
            tokio::select! {
                Some((number, given)) = running.next() => match given {
                    Ok(output) => {
                        self.record_response(number);
                        return Ok(Some(output));
                    }
                    Err(why) => self.record_answer(number, why)?,
                },
                () = time::sleep_until(check_at) => {}
            }
        }
    }

    /// Chooses the buckets to query now, and marks them as queried.
    fn choose_buckets(
        &mut self,
    ) -> Vec<(usize, &'a Bucket, Option<Duration>, Arc<AnswerProgress>)> {
        let now = Instant::now();
        let mut another = !self
            .candidates
            .iter()
            .any(|candidate| candidate.is_answering(now));
        let mut asked = Vec::new();
        for (number, candidate) in self.candidates.iter_mut().enumerate() {
            let due = match candidate.state {
                CandidateState::NotAsked => std::mem::take(&mut another),
                CandidateState::Pausing { until } => until <= now,
                CandidateState::Asked { .. } | CandidateState::Absent | CandidateState::Failed => {
                    false
                }
            };
            if due {
                let progress = Arc::new(AnswerProgress::default());
                candidate.state = CandidateState::Asked {
                    since: now,
                    progress: Arc::clone(&progress),
                };
                let hurry = self.effort.hurry.filter(|_| candidate.avoided);
                let limit = hurry.map(|hurry| hurry.avoided_answer);
                asked.push((number, candidate.bucket, limit, progress));
            }
        }
        asked
    }

    /// Returns the time of the next check of the queried buckets, if any is left.
    fn next_check_at(&self) -> Option<Instant> {
        let limit = self.first_answer();
        let looks = self
            .candidates
            .iter()
            .filter_map(|candidate| match candidate.state {
                CandidateState::NotAsked => Some(Instant::now() + CHECK_INTERVAL),
                CandidateState::Pausing { until } => Some(until),
                CandidateState::Asked { .. } => Some(candidate.silent_since()? + limit?),
                CandidateState::Absent | CandidateState::Failed => None,
            });
        looks.min()
    }

    /// Returns the time in which a bucket must begin its response, if that is limited.
    fn first_answer(&self) -> Option<Duration> {
        let hurry = self.effort.hurry?;
        let is_absent = self.candidates.iter().any(BucketCandidate::is_absent);
        is_absent.then_some(hurry.first_answer)
    }

    /// Fails the buckets that have not responded in time, if the caller retries.
    fn fail_silent(&mut self) {
        let Some(limit) = self.first_answer() else {
            return;
        };
        for candidate in &mut self.candidates {
            let since = candidate.silent_since();
            if since.is_some_and(|since| since.elapsed() >= limit) {
                self.buckets
                    .health
                    .record_no_response(candidate.bucket.name());
                candidate.bucket.record_request(false);
                self.last = Some(candidate.bucket.timeout_error("give", self.key));
                candidate.state = CandidateState::Failed;
            }
        }
    }

    fn record_response(&self, number: usize) {
        if let Some(candidate) = self.candidates.get(number) {
            self.buckets.health.record_response(candidate.bucket.name());
        }
    }

    /// Records that one bucket did not yield the object.
    fn record_answer(&mut self, number: usize, why: AnswerError) -> Result<(), Error> {
        let health = &self.buckets.health;
        let is_absent_elsewhere = self.candidates.iter().any(BucketCandidate::is_absent);
        let Some(candidate) = self.candidates.get_mut(number) else {
            return Err(Error::Internal(
                "a response of a bucket that was not queried",
            ));
        };
        let name = candidate.bucket.name();
        let again = match why {
            AnswerError::DownloadSink(SinkError::Local(error)) => return Err(error),
            AnswerError::DownloadSink(SinkError::Object(why)) => {
                health.record_response(name);
                warn!(bucket = name, key = self.key, error = %chain(&why), "object damaged");
                self.damaged = Some(why);
                candidate.damaged += 1;
                candidate.damaged <= MAX_DAMAGED_READS
            }
            AnswerError::Store(error) if error.kind() == S3ErrorKind::NoSuchKey => {
                health.record_response(name);
                candidate.state = CandidateState::Absent;
                if let Some(hurry) = self.effort.hurry {
                    self.give_up_at = self.give_up_at.min(Instant::now() + hurry.retry);
                }
                return Ok(());
            }
            AnswerError::Store(error) => {
                debug!(error = %chain(&error), "object not read from the bucket");
                let class = error.retry_class();
                let is_hurried = candidate.avoided && self.effort.hurry.is_some();
                if class == RetryClass::Transient && !is_hurried {
                    health.record_no_response(name);
                }
                self.last = Some(error);
                class == RetryClass::Transient && !(is_hurried && is_absent_elsewhere)
            }
        };
        let until = Instant::now() + candidate.backoff.next_pause();
        candidate.state = if again && until < self.give_up_at {
            CandidateState::Pausing { until }
        } else {
            CandidateState::Failed
        };
        Ok(())
    }

    /// Records the buckets that have not responded as avoided, so that the next command starts with
    /// another.
    fn record_unresponsive_buckets(&self) {
        for candidate in &self.candidates {
            let since = candidate.silent_since();
            if since.is_some_and(|since| since.elapsed() >= SILENCE_TIMEOUT) {
                self.buckets
                    .health
                    .record_no_response(candidate.bucket.name());
            }
        }
    }

    fn failure(self) -> Error {
        if let Some(damaged) = self.damaged {
            return damaged;
        }
        let absent = self
            .candidates
            .iter()
            .filter(|candidate| candidate.is_absent())
            .count();
        match self.last {
            _ if absent == self.candidates.len() => Error::NotArchived {
                name: self.key.to_owned(),
            },
            Some(last) => Error::Unreachable {
                what: self.key.to_owned(),
                answered: absent,
                last: Box::new(last),
            },
            None => Error::Internal("a bucket was not queried"),
        }
    }
}
