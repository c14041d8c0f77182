//! Reading from whichever bucket answers: the nearest first, the next after a moment. Only the
//! answer "there is no such object" of every bucket means that it is not there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use causeway_runtime::retry::RetryClass;
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
use crate::storage::store_error::{StoreError, StoreErrorKind};

/// How often it is looked whether the buckets that were asked are slow.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// After how long without an answer the next command should begin with another bucket.
const SILENT_AFTER: Duration = Duration::from_millis(400);

/// How often an object that is damaged is read again from the same bucket: it may have been damaged
/// on the way.
const DAMAGED_TRIES: u32 = 2;

/// Where an object that is being read goes.
pub(crate) trait ObjectSink: Sized {
    /// What the whole object is.
    type Output;

    /// Takes in what comes next.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// Takes in the end, after which the object is known to be whole.
    fn finish(self) -> Result<Self::Output, SinkError>;
}

/// Why a sink did not take an object.
#[derive(Debug)]
pub(crate) enum SinkError {
    /// The object is not what it should be: another bucket's may be.
    Object(Error),
    /// It could not be kept, which no other bucket can help with.
    Local(Error),
}

/// How hard an object is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchEffort {
    /// For how long a bucket that fails is asked again.
    pub(crate) retry_timeout: Duration,
    /// How less is done where the caller asks again by itself.
    pub(crate) hurry: Option<StandbyLimits>,
}

/// What shortens a search whose caller asks again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandbyLimits {
    /// For how long a bucket that fails is asked again once another has said that it has nothing.
    pub(crate) retry: Duration,
    /// How long a bucket that did not answer a moment ago has to begin its answer.
    pub(crate) avoided_answer: Duration,
    /// How long any other has for it once another has said that it has nothing.
    pub(crate) first_answer: Duration,
}

/// Why one answer did not give the object.
enum AnswerError {
    Store(StoreError),
    DownloadSink(SinkError),
}

/// One object, looked for in several buckets.
struct ObjectSearch<'a> {
    buckets: &'a Buckets,
    key: &'a str,
    effort: FetchEffort,
    candidates: Vec<BucketCandidate<'a>>,
    give_up_at: Instant,
    /// The worst reason so far: a damaged object says more than a silent bucket.
    damaged: Option<Error>,
    last: Option<StoreError>,
}

impl Buckets {
    /// Reads an object from the first bucket that gives it whole, and returns what `open` makes of
    /// it.
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

    /// Reads an object from the first bucket that gives it whole into a sink that `begin` makes for
    /// each try.
    ///
    /// The next bucket is asked when one fails, has nothing, or is slow. Each is asked, one that was
    /// down a moment ago last. One that fails is asked again until `effort` ends; once it has begun to
    /// answer, only a standstill ends it.
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
        search.avoid_silent();
        found?.ok_or_else(|| search.failure())
    }
}

/// A sink that keeps the whole object in memory.
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
            Err(_elapsed) => Err(bucket.silent("give", key)),
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
    /// Returns the object, or nothing once no bucket is left to ask.
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
                        self.answered(number);
                        return Ok(Some(output));
                    }
                    Err(why) => self.record_answer(number, why)?,
                },
                () = time::sleep_until(check_at) => {}
            }
        }
    }

    /// Chooses the buckets to ask now, and marks them as asked.
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

    /// Returns when it should be looked again which bucket to ask or to give up, if any is left.
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

    /// Returns how long a bucket has to begin its answer, if that is limited.
    fn first_answer(&self) -> Option<Duration> {
        let hurry = self.effort.hurry?;
        let is_absent = self.candidates.iter().any(BucketCandidate::is_absent);
        is_absent.then_some(hurry.first_answer)
    }

    /// Gives up those that have said nothing for too long, where the caller asks again.
    fn fail_silent(&mut self) {
        let Some(limit) = self.first_answer() else {
            return;
        };
        for candidate in &mut self.candidates {
            let since = candidate.silent_since();
            if since.is_some_and(|since| since.elapsed() >= limit) {
                self.buckets.health.avoid(candidate.bucket.name());
                self.last = Some(candidate.bucket.silent("give", self.key));
                candidate.state = CandidateState::Failed;
            }
        }
    }

    fn answered(&self, number: usize) {
        if let Some(candidate) = self.candidates.get(number) {
            self.buckets.health.answered(candidate.bucket.name());
        }
    }

    /// Takes in that one bucket did not give the object.
    fn record_answer(&mut self, number: usize, why: AnswerError) -> Result<(), Error> {
        let health = &self.buckets.health;
        let is_absent_elsewhere = self.candidates.iter().any(BucketCandidate::is_absent);
        let Some(candidate) = self.candidates.get_mut(number) else {
            return Err(Error::Internal("an answer of a bucket that was not asked"));
        };
        let name = candidate.bucket.name();
        let again = match why {
            AnswerError::DownloadSink(SinkError::Local(error)) => return Err(error),
            AnswerError::DownloadSink(SinkError::Object(why)) => {
                health.answered(name);
                warn!(bucket = name, key = self.key, error = %chain(&why), "object damaged");
                self.damaged = Some(why);
                candidate.damaged += 1;
                candidate.damaged <= DAMAGED_TRIES
            }
            AnswerError::Store(error) if error.kind() == StoreErrorKind::NotFound => {
                health.answered(name);
                candidate.state = CandidateState::Absent;
                if let Some(hurry) = self.effort.hurry {
                    self.give_up_at = self.give_up_at.min(Instant::now() + hurry.retry);
                }
                return Ok(());
            }
            AnswerError::Store(error) => {
                debug!(error = %chain(&error), "bucket did not give an object");
                let class = error.retry_class();
                let is_hurried = candidate.avoided && self.effort.hurry.is_some();
                if class == RetryClass::Transient && !is_hurried {
                    health.avoid(name);
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

    /// Lets the next command begin with another bucket than one that was asked and is silent.
    fn avoid_silent(&self) {
        for candidate in &self.candidates {
            let since = candidate.silent_since();
            if since.is_some_and(|since| since.elapsed() >= SILENT_AFTER) {
                self.buckets.health.avoid(candidate.bucket.name());
            }
        }
    }

    fn failure(self) -> Error {
        if let Some(damaged) = self.damaged {
            return damaged;
        }
        let absent = self.candidates.iter().filter(|candidate| candidate.is_absent()).count();
        match self.last {
            _ if absent == self.candidates.len() => Error::NotArchived {
                name: self.key.to_owned(),
            },
            Some(last) => Error::Unreachable {
                what: self.key.to_owned(),
                answered: absent,
                last: Box::new(last),
            },
            None => Error::Internal("a bucket was not asked"),
        }
    }
}
