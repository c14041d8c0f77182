//! The cache of users: Redis keeps answers of the database for a limited time.
//!
//! Redis is optional at every moment. Whatever happens to it, the answer comes from the database, and is
//! no older than any answer before it.
//!
//! A value is the JSON of an answer. It carries a label, and is valid only while its key has that label:
//!
//! - A stored user never changes, so its label is the *era*: the run of the server that is the primary.
//!   Another primary may lack rows of the one before.
//! - The label of the list is era and *generation*, a number in Redis that every write raises after its
//!   commit. See [`client`] for what keeps a number from occurring twice.
//!
//! A reader takes the label before it reads the database. So a value is at least as new as its label,
//! however late it is stored.

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
pub use self::redis::{CacheBackend, Redis};
use crate::metrics::Metrics;
use crate::store::DatabaseError;

/// Whether an answer came from the cache.
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Jitter of a value's TTL, in both directions, so that values stored together do not expire together.
const TTL_JITTER: f64 = 0.1;
/// The longest value that is stored. Commands behind a longer one on the connection would time out, and
/// open the circuit breaker of a healthy Redis.
const MAX_ENTRY_BYTES: usize = 512 * 1024;
/// The lists that are fetched at once, each of at most [`MAX_ENTRY_BYTES`].
const LISTS_AT_ONCE: usize = 8;
/// The longest wait for one of those fetches. After it the list is read from the database.
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
    /// The reads of the database that are under way, each for all requests that need it (single-flight).
    reads: Mutex<BTreeMap<String, Weak<OnceCell<Option<String>>>>>,
    lists: Semaphore,
    era: watch::Receiver<String>,
    ttl: Duration,
}

/// The key of a value.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// One user.
    User(i64),
    /// All of them.
    AllUsers,
}

/// Source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The cache.
    Hit,
    /// The database: the cache has no valid value.
    Miss,
    /// The database: there is no cache, or it does not answer.
    Bypass,
}

/// A value as Redis holds it.
#[derive(Debug, Deserialize, Serialize)]
struct Entry<'a> {
    label: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// The result of a lookup.
struct Lookup {
    /// The label for a value that is read from now on, unless `era` has changed by the time it is stored.
    label: String,
    /// The generation that the last invalidation made.
    generation: i64,
    hit: Option<String>,
    era: watch::Receiver<String>,
}

impl Source {
    /// Returns the header `X-Cache`.
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

impl<B: CacheBackend> Cache<B> {
    /// Starts using `backend`, if there is one, for the data of the current `era`.
    pub fn start(
        backend: Option<B>,
        ttl: Duration,
        era: watch::Receiver<String>,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        let used = backend.map(|backend| {
            Arc::new(Used {
                client: CacheClient::new(backend),
                reads: Mutex::default(),
                lists: Semaphore::new(LISTS_AT_ONCE),
                era,
                ttl,
            })
        });
        if let Some(used) = used.clone() {
            tasks.start("cache", |stop| async move {
                stop.run_until_cancelled(used.client.run_sessions()).await;
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

    /// Returns the value of `key`: from the cache, or else from `read`, which queries the database once for all
    /// concurrent requests. `None` is not stored.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`] when there was no answer before `deadline`.
    pub async fn read<Read>(
        &self,
        key: Key,
        deadline: Instant,
        read: impl FnOnce() -> Read,
    ) -> Result<(Option<String>, Source), DatabaseError>
    where
        Read: Future<Output = Result<Option<String>, DatabaseError>>,
    {
        let began = Instant::now();
        // Boxed: the future of a read is large, and would be part of every future that holds it.
        let reading = Box::pin(read());
        let found = match &self.used {
            Some(used) => used.look_up(key).await.map(|lookup| (used, lookup)),
            None => None,
        };
        let Some((used, lookup)) = found else {
            return Ok((reading.await?, self.count(Source::Bypass)));
        };
        if let Some(value) = lookup.hit {
            return Ok((Some(value), self.count(Source::Hit)));
        }
        let source = self.count(Source::Miss);

        let once = used.join(key, &lookup);
        let mut is_first = false;
        let reading = once.get_or_try_init(async || {
            is_first = true;
            reading.await
        });
        let completed = time::timeout_at(deadline, reading).await;
        let value = completed.map_err(|_elapsed| DatabaseError::Away)??.clone();
        // Rows that were read during a change of the era may be those of another server.
        let is_of_era = matches!(lookup.era.has_changed(), Ok(false));
        if let Some(value) = value.as_ref().filter(|_| is_first && is_of_era) {
            used.store(key, lookup.label, value, began).await?;
        }
        Ok((value, source))
    }

    /// Counts an answer that did not ask the cache.
    pub(crate) fn bypass(&self) -> Source {
        self.count(Source::Bypass)
    }

    /// Runs `write`, which adds users, and then invalidates the list. Both run to their end, also when the
    /// client disconnects.
    ///
    /// # Errors
    ///
    /// The error of `write`, or [`DatabaseError::Bug`] when it panicked.
    pub async fn change<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let Some(used) = self.used.clone() else {
            return write.await;
        };
        let (sender, outcome) = oneshot::channel();
        self.tasks.start("change of users", |_stop| async move {
            // A write with an error may have been committed all the same.
            let written = write.await;
            used.client.invalidate().await;
            // The client may have disconnected.
            sender.send(written).ok();
        });
        outcome.await.map_err(bug)?
    }

    /// Returns the state of the cache: `ok`, `degraded` or `off`.
    pub(crate) fn status(&self) -> &'static str {
        match self.used.as_ref().map(|used| used.client.health()) {
            None => "off",
            Some((true, true)) => "ok",
            Some(_) => "degraded",
        }
    }

    /// Updates the metrics that are only computed when they are read.
    pub(crate) fn report(&self) {
        let is_open = self
            .used
            .as_ref()
            .is_some_and(|used| !used.client.health().0);
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
    async fn look_up(&self, key: Key) -> Option<Lookup> {
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
        let (generation, value) = self.client.look_up(&key.to_string()).await?;
        if let Key::AllUsers = key {
            label = format!("{label} {generation}");
        }
        let entry = serde_json::from_slice::<Entry<'_>>(value.as_deref().unwrap_or(&[])).ok();
        let hit = entry.filter(|entry| entry.label == label);
        Some(Lookup {
            hit: hit.map(|entry| entry.value.get().to_owned()),
            label,
            generation,
            era,
        })
    }

    /// Joins a read of the database, or begins one. The first request that initializes the cell reads for
    /// all; when it fails, or its client disconnects, the next one reads. A request that came after a
    /// write does not join a read that began before it.
    fn join(&self, key: Key, lookup: &Lookup) -> Arc<OnceCell<Option<String>>> {
        let read = format!("{key} {} {}", lookup.label, lookup.generation);
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        // There are at most as many as there are requests.
        reads.retain(|_, cell| cell.strong_count() > 0);
        if let Some(under_way) = reads.get(&read).and_then(Weak::upgrade) {
            return under_way;
        }
        let cell = Arc::default();
        reads.insert(read, Arc::downgrade(&cell));
        cell
    }

    /// Stores a value that was read from the database after `began`, the start of its TTL.
    async fn store(
        &self,
        key: Key,
        label: String,
        value: &str,
        began: Instant,
    ) -> Result<(), DatabaseError> {
        let value = serde_json::from_str(value).map_err(bug)?;
        let entry = encode(&Entry { label, value })?;
        let spread = rand::random_range(1.0 - TTL_JITTER..=1.0 + TTL_JITTER);
        let left = self.ttl.mul_f64(spread).checked_sub(began.elapsed());
        if let Some(left) = left.filter(|_| entry.len() <= MAX_ENTRY_BYTES) {
            self.client.store(&key.to_string(), &entry, left).await;
        }
        Ok(())
    }
}

/// Returns the JSON of a value, which is also what a client receives.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<String, DatabaseError> {
    serde_json::to_string(value).map_err(bug)
}

fn bug(error: impl std::fmt::Display) -> DatabaseError {
    error!(%error, "answer for the cache not encoded");
    DatabaseError::Bug
}
