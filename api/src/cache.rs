//! The cache of the users: Redis keeps for a while what the database answered.
//!
//! It is optional at every moment. Whatever happens to Redis, the answer comes from the database, and
//! is no older than any answer before it.
//!
//! A value is the JSON of an answer. It carries a label, and counts only while that is the label of its
//! key:
//!
//! - A stored user never changes, so the label of one is the *era*: the run of the server that is the
//!   primary. Another primary may lack rows of the one before.
//! - The label of the list is era and *generation*, a number in Redis that every write raises after its
//!   commit. See [`client`] for what keeps a number from coming twice.
//!
//! A reader takes the label before it reads the database. So what it stores is at least as new as the
//! label says, however late it is stored.

mod client;
mod redis;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use causeway_runtime::shutdown::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{OnceCell, Semaphore, oneshot, watch};
use tokio::time::{self, Instant};
use tracing::error;

use self::client::CacheClient;
pub use self::redis::{CacheBackend, Redis, Unusable};
use crate::config;
use crate::metrics::Metrics;
use crate::store::Unavailable;

/// Says whether an answer came from the cache.
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// How much the time to live of a value differs from what is set, either way, so that values which
/// were stored together do not expire together.
const SPREAD: f64 = 0.1;
/// The longest value that is kept. What comes behind a longer one on the connection would wait for more
/// of the time that Redis has to answer in, and a Redis that is well would be called broken.
const LONGEST_ENTRY_BYTES: usize = 512 * 1024;
/// The lists that are fetched at once. Each may be as long.
const LISTS_AT_ONCE: usize = 8;
/// The longest wait for one of those places. The database has its own for lists.
const LIST_TIMEOUT: Duration = Duration::from_millis(100);

/// The cache, if there is one.
#[derive(Debug)]
pub struct Cache<B: CacheBackend = Redis> {
    used: Option<Arc<Used<B>>>,
    metrics: Metrics,
    tasks: Tasks,
}

#[derive(Debug)]
struct Used<B: CacheBackend> {
    client: CacheClient<B>,
    /// The reads of the database that are under way.
    reads: Mutex<BTreeMap<String, Weak<OnceCell<Option<String>>>>>,
    lists: Semaphore,
    era: watch::Receiver<String>,
    ttl: Duration,
}

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// One user.
    User(i64),
    /// All of them.
    AllUsers,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The cache.
    Hit,
    /// The database, since the cache did not have it.
    Miss,
    /// The database, since there is no cache or it does not answer.
    Bypass,
}

/// A value as Redis holds it.
#[derive(Debug, Deserialize, Serialize)]
struct Entry<'a> {
    label: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// What a reader found.
struct Looked {
    /// The label under which what is read from now on may be stored, unless `era` has changed by then.
    label: String,
    /// The number of the last write that was noted.
    generation: i64,
    hit: Option<String>,
    era: watch::Receiver<String>,
}

impl Source {
    /// Returns the header that says so.
    pub(crate) fn header(self) -> (HeaderName, HeaderValue) {
        (X_CACHE, HeaderValue::from_static(self.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::AllUsers => f.write_str("users:all"),
        }
    }
}

impl Cache {
    /// Starts using Redis, if there is one, for the data of the current `era`.
    pub(crate) fn start(
        settings: &config::Cache,
        era: watch::Receiver<String>,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, Unusable> {
        let redis = settings.redis.as_ref().map(Redis::new).transpose()?;
        let prefix = settings.prefix.clone();
        Ok(Self::with(redis, prefix, settings.ttl, era, metrics, tasks))
    }
}

impl<B: CacheBackend> Cache<B> {
    /// Starts using `backend`, if there is one, for the data of the current `era`.
    pub fn with(
        backend: Option<B>,
        prefix: String,
        ttl: Duration,
        era: watch::Receiver<String>,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        let used = backend.map(|backend| {
            Arc::new(Used {
                client: CacheClient::new(backend, prefix),
                reads: Mutex::default(),
                lists: Semaphore::new(LISTS_AT_ONCE),
                era,
                ttl,
            })
        });
        if let Some(used) = used.clone() {
            tasks.start("cache", |stop| async move {
                stop.run_until_cancelled(used.client.maintain()).await;
                used.client.close();
            });
        }
        for result in ["hit", "miss", "bypass"] {
            // A series that begins at zero can be alerted on.
            metrics.cache_requests.with_label_values(&[result]);
        }
        Self {
            used,
            metrics,
            tasks: tasks.clone(),
        }
    }

    /// Returns what there is under `key`: from the cache, or else from `read`, which asks the
    /// database. Requests for the same that come together ask it once. Where there is nothing, nothing
    /// is kept.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub async fn read<Read>(
        &self,
        key: Key,
        deadline: Instant,
        read: impl FnOnce() -> Read,
    ) -> Result<(Option<String>, Source), Unavailable>
    where
        Read: Future<Output = Result<Option<String>, Unavailable>>,
    {
        let began = Instant::now();
        // What waits for a database is large, and would be part of every future that holds it.
        let reading = Box::pin(read());
        let found = match &self.used {
            Some(used) => used.look(key).await.map(|it| (used, it)),
            None => None,
        };
        let Some((used, looked)) = found else {
            return Ok((reading.await?, self.count(Source::Bypass)));
        };
        if let Some(value) = looked.hit {
            return Ok((Some(value), self.count(Source::Hit)));
        }
        let source = self.count(Source::Miss);

        let once = used.join(key, &looked);
        let mut is_first = false;
        let landing = once.get_or_try_init(async || {
            is_first = true;
            reading.await
        });
        let landed = time::timeout_at(deadline, landing).await;
        let value = landed.map_err(|_elapsed| Unavailable::Away)??.clone();
        // Between two eras rows may come from a standby, which lacks the last ones.
        let is_of_era = looked.era.has_changed().is_ok_and(|it| !it);
        if let Some(value) = value.as_ref().filter(|_| is_first && is_of_era) {
            used.keep(key, looked.label, value, began).await?;
        }
        Ok((value, source))
    }

    /// Notes that an answer did not ask the cache at all, and says so.
    pub(crate) fn bypass(&self) -> Source {
        self.count(Source::Bypass)
    }

    /// Carries out `write`, which adds users, and ends the validity of the list. Once begun it is
    /// finished, though its client leaves: what was committed has to be invalidated.
    ///
    /// # Errors
    ///
    /// What `write` says, or [`Unavailable::Bug`] when it ended without saying anything.
    pub async fn change<T, E>(
        &self,
        write: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unavailable> + Send + 'static,
    {
        let Some(used) = self.used.clone() else {
            return write.await;
        };
        let (told, outcome) = oneshot::channel();
        self.tasks.start("change of users", |_stop| async move {
            // A write that reports a failure may have been committed all the same.
            let written = write.await;
            used.client.invalidate().await;
            // The client may have left.
            told.send(written).ok();
        });
        outcome.await.map_err(bug)?
    }

    /// Returns how the cache is: `ok`, `degraded` or `off`.
    pub(crate) fn status(&self) -> &'static str {
        match self.used.as_ref().map(|it| it.client.health()) {
            None => "off",
            Some((true, true)) => "ok",
            Some(_) => "degraded",
        }
    }

    /// Brings the metrics that are only read now and then up to date.
    pub(crate) fn report(&self) {
        let is_open = self.used.as_ref().is_some_and(|it| !it.client.health().0);
        self.metrics.cache_breaker_open.set(is_open.into());
    }

    fn count(&self, source: Source) -> Source {
        let result = source.name().to_ascii_lowercase();
        let requests = &self.metrics.cache_requests;
        requests.with_label_values(&[&result]).inc();
        source
    }
}

impl<B: CacheBackend> Used<B> {
    async fn look(&self, key: Key) -> Option<Looked> {
        let _turn = match key {
            Key::User(_) => None,
            Key::AllUsers => {
                let turn = time::timeout(LIST_TIMEOUT, self.lists.acquire());
                Some(turn.await.ok()?.ok()?)
            }
        };
        let mut era = self.era.clone();
        let mut label = era.borrow_and_update().clone();
        if label.is_empty() {
            return None;
        }
        let (generation, value) = self.client.look(&key.to_string()).await?;
        if let Key::AllUsers = key {
            label = format!("{label} {generation}");
        }
        let entry = serde_json::from_slice::<Entry<'_>>(value.as_deref().unwrap_or(&[])).ok();
        let hit = entry.filter(|it| it.label == label);
        Some(Looked {
            hit: hit.map(|it| it.value.get().to_owned()),
            label,
            generation,
            era,
        })
    }

    /// Joins a read of the database, or begins one. The first that initializes the cell reads for all;
    /// when it fails, or its client leaves, the next one reads. A request that came after a write does
    /// not join a read that began before it: it may have found nothing yet.
    fn join(&self, key: Key, looked: &Looked) -> Arc<OnceCell<Option<String>>> {
        let read = format!("{key} {} {}", looked.label, looked.generation);
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        // At most as many as there are requests, so that looking at each is cheaper than a guard.
        reads.retain(|_, it| it.strong_count() > 0);
        if let Some(under_way) = reads.get(&read).and_then(Weak::upgrade) {
            return under_way;
        }
        let cell = Arc::default();
        reads.insert(read, Arc::downgrade(&cell));
        cell
    }

    /// Stores a value that was read from the database after `began`, so that it is gone in time however
    /// long that took.
    async fn keep(
        &self,
        key: Key,
        label: String,
        value: &str,
        began: Instant,
    ) -> Result<(), Unavailable> {
        let value = serde_json::from_str(value).map_err(bug)?;
        let entry = encode(&Entry { label, value })?;
        let spread = rand::random_range(1.0 - SPREAD..=1.0 + SPREAD);
        let left = self.ttl.mul_f64(spread).checked_sub(began.elapsed());
        if let Some(left) = left.filter(|_| entry.len() <= LONGEST_ENTRY_BYTES) {
            self.client.keep(&key.to_string(), &entry, left).await;
        }
        Ok(())
    }
}

/// Writes what is kept, which is also what a client is shown.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<String, Unavailable> {
    serde_json::to_string(value).map_err(bug)
}

fn bug(error: impl std::fmt::Display) -> Unavailable {
    error!(%error, "an answer of the cache could not be made");
    Unavailable::Bug
}
