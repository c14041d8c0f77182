//! Reading from whichever bucket answers: the nearest first, the next after a moment.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ha_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use crate::buckets::Buckets;
use crate::error::Failure;
use crate::object_store::{Bucket, ErrorKind, StoreError};
use crate::seal::Damaged;

/// For how long fetching one log file is tried: a segment of a gigabyte through a narrow link.
const FETCH_FOR: Duration = Duration::from_mins(10);

/// How long the nearest bucket has before the next is asked as well.
const HEDGE_AFTER: Duration = Duration::from_millis(200);

/// How much longer a file that one bucket does not have is looked for in those that have not
/// answered: a 404 from the farthest region takes half of this, connecting included.
const OTHERS_AFTER_ABSENT: Duration = Duration::from_millis(300);

/// After how long without an answer the next command should begin with another bucket. A promotion
/// fetches four files or so: the first finds the dead region out, the others must not.
const SILENT_AFTER: Duration = Duration::from_millis(400);

/// One object, looked for in several buckets.
struct Search<'a> {
    buckets: &'a Buckets,
    key: &'a str,
    /// Those not asked yet, the next one last.
    waiting: Vec<&'a Bucket>,
    /// Those asked that have not answered, and since when.
    unanswered: BTreeMap<&'a str, Instant>,
    absent: usize,
    found_wrong: Option<Failure>,
    last: Option<StoreError>,
    give_up_at: Instant,
}

impl Buckets {
    /// Reads an object from the first bucket that gives it whole, and returns what `open` makes of
    /// it. The next bucket is asked when one fails, when it has nothing, or after a moment.
    pub(crate) async fn fetch<T>(
        &self,
        key: &str,
        open: impl Fn(&[u8]) -> Result<T, Damaged>,
    ) -> Result<T, Failure> {
        let mut waiting: Vec<&Bucket> = self.all.iter().rev().collect();
        // A bucket that was down a moment ago is asked last.
        waiting.sort_by_key(|it| !self.memory.is_avoided(it.name()));
        let mut search = Search {
            buckets: self,
            key,
            waiting,
            unanswered: BTreeMap::new(),
            absent: 0,
            found_wrong: None,
            last: None,
            give_up_at: Instant::now() + FETCH_FOR,
        };
        let found = search.run(open).await;
        for (bucket, since) in &search.unanswered {
            if since.elapsed() >= SILENT_AFTER {
                self.memory.avoid(bucket);
            }
        }
        found.ok_or_else(|| search.failure())
    }
}

impl<'a> Search<'a> {
    async fn run<T>(&mut self, open: impl Fn(&[u8]) -> Result<T, Damaged>) -> Option<T> {
        let key = self.key;
        let ask = |bucket: &'a Bucket| async move { (bucket, bucket.read(key).await) };
        let mut running = FuturesUnordered::new();
        running.extend(self.next().map(ask));
        let mut next_at = Instant::now() + HEDGE_AFTER;
        while !running.is_empty() {
            tokio::select! {
                Some((bucket, read)) = running.next() => {
                    if let Some(found) = self.take(bucket, read, &open) {
                        return Some(found);
                    }
                }
                () = time::sleep_until(next_at), if !self.waiting.is_empty() => {}
                () = time::sleep_until(self.give_up_at) => return None,
            }
            running.extend(self.next().map(ask));
            next_at = Instant::now() + HEDGE_AFTER;
        }
        None
    }

    fn next(&mut self) -> Option<&'a Bucket> {
        let bucket = self.waiting.pop()?;
        self.unanswered.insert(bucket.name(), Instant::now());
        Some(bucket)
    }

    fn take<T>(
        &mut self,
        bucket: &'a Bucket,
        read: Result<Bytes, StoreError>,
        open: impl Fn(&[u8]) -> Result<T, Damaged>,
    ) -> Option<T> {
        let memory = &self.buckets.memory;
        self.unanswered.remove(bucket.name());
        match read {
            Ok(sealed) => {
                memory.answered(bucket.name());
                match open(&sealed) {
                    Ok(opened) => return Some(opened),
                    Err(why) => {
                        warn!(bucket = bucket.name(), key = self.key, error = %chain(&why), "an object cannot be opened");
                        self.found_wrong = Some(Failure::damaged(self.key)(why));
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                memory.answered(bucket.name());
                self.absent += 1;
                let wait = if self.only_avoided_are_left() {
                    Duration::ZERO
                } else {
                    OTHERS_AFTER_ABSENT
                };
                self.give_up_at = self.give_up_at.min(Instant::now() + wait);
            }
            Err(error) => {
                debug!(error = %chain(&error), "a bucket did not answer");
                memory.avoid(bucket.name());
                self.last = Some(error);
            }
        }
        None
    }

    fn only_avoided_are_left(&self) -> bool {
        let waiting = self.waiting.iter().map(|it| it.name());
        let mut left = self.unanswered.keys().copied().chain(waiting);
        left.all(|it| self.buckets.memory.is_avoided(it))
    }

    fn failure(self) -> Failure {
        if let Some(wrong) = self.found_wrong {
            return wrong;
        }
        if self.absent == self.buckets.all.len() {
            return Failure::NotArchived {
                name: self.key.to_owned(),
            };
        }
        let silent = || {
            self.buckets
                .all
                .first()
                .map(|it| it.silent("give", self.key))
        };
        match self.last.or_else(silent) {
            Some(last) => Failure::Unreachable {
                what: self.key.to_owned(),
                answered: self.absent,
                last: Box::new(last),
            },
            None => Failure::Internal("there are no buckets"),
        }
    }
}
