//! All buckets together: when a thing is stored, and where it is found when a region is away.

mod fetch;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ha_runtime::aws::Connections;
use ha_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tracing::warn;

use crate::config::Config;
use crate::error::Failure;
use crate::memory::Memory;
use crate::object_store::{Bucket, CallLimits, Created, ErrorKind, StoreError};
use crate::seal::Fingerprint;

/// What the WAL commands can wait for: a promotion waits on several of them in a row, and no
/// connection inside of Europe takes longer than a tenth of this.
pub(crate) const BRIEF: CallLimits = CallLimits {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(10),
    retry: Duration::from_secs(20),
};

/// What a backup or a restore can wait for.
pub(crate) const LONG: CallLimits = CallLimits {
    connect: Duration::from_secs(3),
    answer: Duration::from_secs(20),
    retry: Duration::from_hours(1),
};

/// For how long storing one log file is tried before PostgreSQL is told to come back.
const STORE_FOR: Duration = Duration::from_secs(20);

/// The buckets, nearest first.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    all: Vec<Bucket>,
    required: usize,
    memory: Memory,
}

/// How one bucket took an object.
enum Kept {
    Stored,
    Conflict,
    Failed(StoreError),
}

impl Buckets {
    /// Returns clients of every bucket in the settings.
    pub(crate) async fn new(config: &Config, limits: CallLimits) -> Self {
        let connections = Connections::default();
        let limits = CallLimits {
            retry: limits.retry.min(config.limits.retry_timeout),
            ..limits
        };
        let mut all = Vec::new();
        for bucket in &config.buckets {
            all.push(Bucket::new(bucket, &connections, limits).await);
        }
        Self {
            all,
            required: config.required_buckets,
            memory: Memory::new(&config.state_directory),
        }
    }

    /// Keeps only the buckets that `from` names, by their own name or their region's.
    pub(crate) fn only(mut self, from: Option<&str>) -> Result<Self, Failure> {
        let Some(from) = from else {
            return Ok(self);
        };
        self.all.retain(|it| it.is_called(from));
        if self.all.is_empty() {
            let text = format!("`{from}` is neither a bucket nor a region in the settings");
            return Err(Failure::Refused(text));
        }
        Ok(self)
    }

    /// Returns the buckets, nearest first.
    pub(crate) fn all(&self) -> &[Bucket] {
        &self.all
    }

    /// Returns in how many buckets a thing must be.
    pub(crate) fn required(&self) -> usize {
        self.required
    }

    /// Returns what is remembered of the buckets.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Stores `sealed`, which holds `content`, and returns once it is in as many buckets as are
    /// required and the others have had a little longer. What a bucket lacks then is noted.
    ///
    /// An object that is there already must hold the same content; it is never overwritten.
    pub(crate) async fn store(
        &self,
        key: &str,
        content: &[u8],
        sealed: &Bytes,
    ) -> Result<(), Failure> {
        let (avoided, first): (Vec<_>, Vec<_>) = self
            .all
            .iter()
            .partition(|it| self.memory.is_avoided(it.name()));
        let mut stored: Vec<&Bucket> = Vec::new();
        let mut last = None;
        for round in [first, avoided] {
            if stored.len() < self.required {
                self.store_in(&round, key, content, sealed, &mut stored, &mut last)
                    .await?;
            }
        }
        if stored.len() < self.required {
            return Err(Failure::TooFewBuckets {
                what: key.to_owned(),
                stored: stored.len(),
                required: self.required,
                last: last.map(Box::new),
            });
        }
        for bucket in &self.all {
            if !stored.iter().any(|it| it.name() == bucket.name()) {
                self.memory.lacks(bucket.name(), key);
            }
        }
        Ok(())
    }

    async fn store_in<'a>(
        &'a self,
        round: &[&'a Bucket],
        key: &str,
        content: &[u8],
        sealed: &Bytes,
        stored: &mut Vec<&'a Bucket>,
        last: &mut Option<StoreError>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let mut unanswered: Vec<&Bucket> = round.to_vec();
        let mut attempts: FuturesUnordered<_> = round
            .iter()
            .map(|bucket| async { (*bucket, keep(bucket, key, content, sealed).await) })
            .collect();
        let mut until = began + STORE_FOR;
        while let Ok(Some((bucket, kept))) = time::timeout_at(until, attempts.next()).await {
            unanswered.retain(|it| it.name() != bucket.name());
            match kept {
                Kept::Stored => {
                    self.memory.answered(bucket.name());
                    stored.push(bucket);
                }
                Kept::Conflict => {
                    return Err(Failure::Conflict {
                        bucket: bucket.name().to_owned(),
                        key: key.to_owned(),
                    });
                }
                Kept::Failed(error) => {
                    self.gone(bucket, &error);
                    *last = Some(error);
                }
            }
            if stored.len() >= self.required {
                until = until.min(Instant::now() + grace(began.elapsed()));
            }
        }
        for bucket in unanswered {
            let error = bucket.silent("take", key);
            self.gone(bucket, &error);
            *last = Some(error);
        }
        Ok(())
    }

    /// Lists in every bucket, and returns those that answered with what they hold, or the last error
    /// if none did.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: &str,
    ) -> Result<Vec<(&Bucket, Vec<String>)>, Failure> {
        let lists = self
            .all
            .iter()
            .map(|it| async move { (it, it.list(prefix, after).await) });
        self.answers(prefix, futures_util::future::join_all(lists).await)
    }

    /// Does the same for the names that follow `prefix` and are followed by `/`.
    pub(crate) async fn folders(
        &self,
        prefix: &str,
    ) -> Result<Vec<(&Bucket, Vec<String>)>, Failure> {
        let lists = self
            .all
            .iter()
            .map(|it| async move { (it, it.folders(prefix).await) });
        self.answers(prefix, futures_util::future::join_all(lists).await)
    }

    fn answers<'a, T>(
        &self,
        what: &str,
        asked: Vec<(&'a Bucket, Result<T, StoreError>)>,
    ) -> Result<Vec<(&'a Bucket, T)>, Failure> {
        let mut answers = Vec::new();
        let mut last = None;
        for (bucket, answer) in asked {
            match answer {
                Ok(answer) => answers.push((bucket, answer)),
                Err(error) => {
                    self.gone(bucket, &error);
                    last = Some(error);
                }
            }
        }
        match last {
            Some(last) if answers.is_empty() => Err(Failure::Unreachable {
                what: what.to_owned(),
                answered: 0,
                last: Box::new(last),
            }),
            _ => Ok(answers),
        }
    }

    fn gone(&self, bucket: &Bucket, error: &StoreError) {
        warn!(bucket = bucket.name(), error = %chain(error), "a bucket is left out");
        if error.kind() == ErrorKind::Unavailable {
            self.memory.avoid(bucket.name());
        }
    }
}

/// How much longer the other buckets have once enough hold a file: long enough for a healthy one
/// that is farther away, short enough that PostgreSQL does not wait for a dead one.
fn grace(took: Duration) -> Duration {
    (3 * took).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

async fn keep(bucket: &Bucket, key: &str, content: &[u8], sealed: &Bytes) -> Kept {
    match bucket.create_retried(STORE_FOR, key, sealed).await {
        Ok(Created::New) => Kept::Stored,
        // After a lost answer this is our own object, and at any time it can be another's.
        Ok(Created::AlreadyThere) => match holds(bucket, key, content).await {
            Ok(true) => Kept::Stored,
            Ok(false) => Kept::Conflict,
            Err(error) => Kept::Failed(error),
        },
        Err(error) => Kept::Failed(error),
    }
}

/// Says whether the object that `bucket` has under `key` holds `content`, without opening it.
async fn holds(bucket: &Bucket, key: &str, content: &[u8]) -> Result<bool, StoreError> {
    #[derive(serde::Deserialize)]
    struct Clear {
        fingerprint: Fingerprint,
    }
    let header = bucket.header(key).await?;
    let clear = header.clear::<Clear>();
    Ok(clear.is_ok_and(|it| it.fingerprint.matches(key, content)))
}
