//! One object from whichever bucket gives it whole: retried while there is progress, and a bucket that
//! is silent costs its wait once, and not once for each object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha_runtime::retry::RetryClass;
use ha_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tracing::warn;

use crate::buckets::Buckets;
use crate::error::Failure;
use crate::object_store::{Bucket, ErrorKind, RETRY_POLICY, StoreError};
use crate::seal::{Damaged, Header, Identity, Opener};

/// For how long a bucket is asked last after it failed to answer; it doubles with each failure after
/// that.
const AVOIDED_FOR: Duration = Duration::from_secs(15);
const AVOIDED_FOR_AT_MOST: Duration = Duration::from_mins(5);

/// Why an object could not be had from one bucket.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("it could not be read")]
    Store(#[from] StoreError),
    #[error("it is damaged")]
    Damaged(#[from] Damaged),
    /// What was read could not be kept here: no other bucket helps.
    #[error("it could not be written")]
    Here(#[from] Failure),
}

/// Whether more of an object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    More,
    Nothing,
}

/// What takes in the payload of an object. It is begun again for each try, and keeps what it has.
pub(super) trait Sink: Send {
    /// Prepares for the payload from its first byte on.
    fn begin(&mut self) -> Result<(), Failure>;

    /// Takes what it can from the front of `payload`, and removes that.
    fn take(&mut self, payload: &mut Vec<u8>) -> Result<Wanted, Broken>;

    /// Takes the rest, of which it is certain that it is the end.
    fn end(&mut self, payload: &mut Vec<u8>, header: &Header) -> Result<(), Broken>;

    /// Returns a number that grows with what is done for good.
    fn progress(&self) -> u64;
}

/// Reads objects from the buckets.
#[derive(Debug)]
pub(super) struct Downloads {
    buckets: Buckets,
    identity: Arc<Identity>,
    retry_for: Duration,
    avoided: Mutex<BTreeMap<String, Avoided>>,
}

#[derive(Clone, Copy, Debug)]
struct Avoided {
    until: Instant,
    for_how_long: Duration,
}

/// What the tries of one object have come to.
struct Tries {
    /// Buckets that would answer the same again.
    done_with: BTreeSet<String>,
    absent: usize,
    damaged: Option<Damaged>,
    last: Option<StoreError>,
}

impl Downloads {
    /// Returns a reader that gives up on an object after `retry_for` without any progress.
    pub(super) fn new(buckets: &Buckets, identity: Arc<Identity>, retry_for: Duration) -> Self {
        let downloads = Self {
            buckets: buckets.clone(),
            identity,
            retry_for,
            avoided: Mutex::default(),
        };
        for bucket in buckets.all() {
            if buckets.health().is_avoided(bucket.name()) {
                downloads.avoid(bucket.name());
            }
        }
        downloads
    }

    /// Reads the object `key` into `sink`.
    pub(super) async fn run(&self, key: &str, sink: &mut impl Sink) -> Result<(), Failure> {
        let mut tries = Tries {
            done_with: BTreeSet::new(),
            absent: 0,
            damaged: None,
            last: None,
        };
        let mut backoff = RETRY_POLICY.backoff();
        let mut give_up_at = Instant::now() + self.retry_for;
        loop {
            let mut has_progressed = false;
            for bucket in &self.in_order(&tries.done_with) {
                let before = sink.progress();
                match self.read(bucket, key, sink).await {
                    Ok(()) => {
                        self.answered(bucket.name());
                        return Ok(());
                    }
                    Err(Broken::Here(failure)) => return Err(failure),
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

    async fn read(&self, bucket: &Bucket, key: &str, sink: &mut impl Sink) -> Result<(), Broken> {
        sink.begin()?;
        let mut body = bucket.open_once(key).await?;
        let mut opener = Opener::new(&self.identity, key);
        let mut payload = Vec::new();
        while let Some(part) = body.next().await {
            opener.push(&part?, &mut payload)?;
            if sink.take(&mut payload)? == Wanted::Nothing {
                return Ok(());
            }
        }
        let header = opener.finish(&mut payload)?;
        sink.end(&mut payload, &header)
    }

    fn failed(&self, bucket: &Bucket, key: &str, broken: Broken, tries: &mut Tries) {
        let name = bucket.name();
        warn!(bucket = name, key, error = %chain(&broken), "object not restored from this bucket");
        match broken {
            Broken::Store(error) => {
                if error.retry_class() == RetryClass::Transient {
                    self.avoid(name);
                } else {
                    tries.done_with.insert(name.to_owned());
                    tries.absent += usize::from(error.kind() == ErrorKind::NotFound);
                }
                tries.last = Some(error);
            }
            Broken::Damaged(why) => {
                tries.done_with.insert(name.to_owned());
                tries.damaged = Some(why);
            }
            // It ends the restore.
            Broken::Here(_) => {}
        }
    }

    /// Returns the buckets that may still have the object, those that failed a moment ago last. Once
    /// that moment is over, one caller tries the bucket, and not all at once.
    fn in_order(&self, done_with: &BTreeSet<String>) -> Vec<Bucket> {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut is_avoided = |it: &Bucket| {
            let Some(entry) = avoided.get_mut(it.name()) else {
                return false;
            };
            let is_avoided = now < entry.until;
            if !is_avoided {
                entry.for_how_long = (2 * entry.for_how_long).min(AVOIDED_FOR_AT_MOST);
                entry.until = now + entry.for_how_long;
            }
            is_avoided
        };
        let all = self.buckets.all().iter();
        let left = all.filter(|it| !done_with.contains(it.name()));
        let (last, mut order): (Vec<_>, Vec<_>) = left.cloned().partition(&mut is_avoided);
        order.extend(last);
        order
    }

    fn avoid(&self, bucket: &str) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let entry = avoided.entry(bucket.to_owned()).or_insert(Avoided {
            until: now,
            for_how_long: AVOIDED_FOR,
        });
        entry.until = entry.until.max(now + entry.for_how_long);
    }

    fn answered(&self, bucket: &str) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.remove(bucket);
    }
}

impl Tries {
    fn failure(self, key: &str) -> Failure {
        if let Some(why) = self.damaged {
            return Failure::damaged(key)(why);
        }
        match self.last {
            Some(last) => Failure::Unreachable {
                what: key.to_owned(),
                answered: self.absent,
                last: Box::new(last),
            },
            None => Failure::Internal("there are no buckets"),
        }
    }
}
