//! The cache of the users: Redis keeps for a while what the database answered.
//!
//! It is optional at every moment. Whatever happens to Redis, the answer comes from the database, and
//! is no older than any answer before it.
//!
//! A value carries a label, and counts only while that is the label of its key:
//!
//! - A stored user never changes, so the label of one is the *era*: the run of the server that is the
//!   primary. Another primary may lack rows of the one before.
//! - The label of the list is era and *generation*, a number in Redis that every write raises after its
//!   commit. See [`client`] for what keeps a number from coming twice.
//!
//! A reader takes the label before it reads the database. So what it stores is at least as new as the
//! label says, however late it is stored.

mod backend;
mod breaker;
mod client;
mod redis;
#[cfg(test)]
mod simulation;
mod single_flight;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use ha_runtime::shutdown::Tasks;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::{self, Instant};
use tracing::error;

use self::backend::CacheBackend;
use self::client::CacheClient;
use self::redis::Redis;
pub use self::redis::Unusable;
use self::single_flight::SingleFlight;
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

/// The cache, if there is one.
#[derive(Debug)]
pub(crate) struct Cache<B: CacheBackend = Redis> {
    used: Option<Arc<Used<B>>>,
    metrics: Metrics,
    tasks: Tasks,
}

#[derive(Debug)]
struct Used<B: CacheBackend> {
    client: CacheClient<B>,
    reads: SingleFlight<String>,
    era: watch::Receiver<String>,
    ttl: Duration,
}

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// One user.
    User(i64),
    /// All of them.
    AllUsers,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The cache.
    Hit,
    /// The database, since the cache did not have it.
    Miss,
    /// The database, since there is no cache or it does not answer.
    Bypass,
}

/// A value as Redis holds it.
#[derive(Debug, Deserialize, Serialize)]
struct Entry<T> {
    label: String,
    value: T,
}

/// What a reader found.
struct Looked<T> {
    /// The label under which what is read from now on may be stored, unless `era` has changed by then.
    label: String,
    /// The number of the last write that was noted.
    generation: i64,
    hit: Option<T>,
    era: watch::Receiver<String>,
}

impl Source {
    const ALL: [Self; 3] = [Self::Hit, Self::Miss, Self::Bypass];

    /// Returns the header that says so.
    pub(crate) fn header(self) -> (HeaderName, HeaderValue) {
        let value = match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        };
        (X_CACHE, HeaderValue::from_static(value))
    }

    fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
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
    ///
    /// # Errors
    ///
    /// [`Unusable`] when the trusted authorities cannot be read.
    pub(crate) fn start(
        settings: &config::Cache,
        era: watch::Receiver<String>,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, Unusable> {
        let redis = settings.redis.as_ref();
        let backend = redis
            .map(|it| Redis::new(it, &settings.prefix))
            .transpose()?;
        Ok(Self::with(backend, settings.ttl, era, metrics, tasks))
    }
}

impl<B: CacheBackend> Cache<B> {
    fn with(
        backend: Option<B>,
        ttl: Duration,
        era: watch::Receiver<String>,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        let used = backend.map(|backend| {
            Arc::new(Used {
                client: CacheClient::new(backend),
                reads: SingleFlight::new(),
                era,
                ttl,
            })
        });
        if let Some(used) = used.clone() {
            tasks.start("cache", |stop| async move {
                tokio::select! {
                    never = used.client.maintain() => match never {},
                    () = stop.cancelled() => {}
                }
            });
        }
        for source in Source::ALL {
            // A series that begins at zero can be alerted on.
            metrics.cache_requests.with_label_values(&[source.label()]);
        }
        Self {
            used,
            metrics,
            tasks: tasks.clone(),
        }
    }

    /// Returns what there is under `key`: from the cache, or else from `read`, which asks the
    /// database. Requests for the same that come together ask it once. What `keeps` does not hold of
    /// is not kept.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub(crate) async fn read<T, Read>(
        &self,
        key: Key,
        deadline: Instant,
        read: impl FnOnce() -> Read,
        keeps: impl FnOnce(&T) -> bool,
    ) -> Result<(T, Source), Unavailable>
    where
        T: Serialize + DeserializeOwned,
        Read: Future<Output = Result<T, Unavailable>>,
    {
        let began = Instant::now();
        let found = match &self.used {
            Some(used) => used.look::<T>(key).await.map(|it| (used, it)),
            None => None,
        };
        // What waits for a database is large, and would be part of every future that holds it.
        let reading = Box::pin(read());
        let Some((used, looked)) = found else {
            return Ok((reading.await?, self.bypass()));
        };
        let Looked {
            label,
            generation,
            hit,
            era,
        } = looked;
        if let Some(value) = hit {
            self.count(Source::Hit);
            return Ok((value, Source::Hit));
        }
        self.count(Source::Miss);

        // A request that came after a write does not wait for a read that began before it: it may have
        // found nothing yet.
        let once = used.reads.join(&format!("{key} {label} {generation}"));
        let mut own = None;
        let landing = once.get_or_try_init(async || {
            let value = reading.await?;
            let entry = serde_json::to_string(&Entry {
                label,
                value: &value,
            });
            own = Some(value);
            entry.map_err(bug)
        });
        let landed = time::timeout_at(deadline, landing).await;
        let entry = landed.map_err(|_elapsed| Unavailable::Away)??;
        let Some(value) = own else {
            let entry: Entry<T> = serde_json::from_str(entry).map_err(bug)?;
            return Ok((entry.value, Source::Miss));
        };
        // Between two eras rows may come from a standby, which lacks the last ones.
        let is_of_era = era.has_changed().is_ok_and(|it| !it);
        if is_of_era && keeps(&value) && entry.len() <= LONGEST_ENTRY_BYTES {
            let spread = rand::random_range(1.0 - SPREAD..=1.0 + SPREAD);
            // From before the read, so that the value is gone in time however long that took.
            if let Some(left) = used.ttl.mul_f64(spread).checked_sub(began.elapsed()) {
                used.client.keep(&key.to_string(), entry, left).await;
            }
        }
        Ok((value, Source::Miss))
    }

    /// Notes that an answer did not ask the cache at all, and says so.
    pub(crate) fn bypass(&self) -> Source {
        self.count(Source::Bypass);
        Source::Bypass
    }

    /// Carries out `write`, which adds users, and ends the validity of the list. Once begun it is
    /// finished, though its client leaves: what was committed has to be invalidated.
    ///
    /// # Errors
    ///
    /// What `write` says, or [`Unavailable::Bug`] when it ended without saying anything.
    pub(crate) async fn change<T, E>(
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
        match &self.used {
            None => "off",
            Some(used) if used.client.is_well() => "ok",
            Some(_) => "degraded",
        }
    }

    /// Brings the metrics that are only read now and then up to date.
    pub(crate) fn report(&self) {
        let is_open = self.used.as_ref().is_some_and(|it| it.client.is_open());
        self.metrics.cache_breaker_open.set(is_open.into());
    }

    fn count(&self, source: Source) {
        let requests = &self.metrics.cache_requests;
        requests.with_label_values(&[source.label()]).inc();
    }
}

impl<B: CacheBackend> Used<B> {
    async fn look<T: DeserializeOwned>(&self, key: Key) -> Option<Looked<T>> {
        let mut era = self.era.clone();
        let mut label = era.borrow_and_update().clone();
        if label.is_empty() {
            return None;
        }
        let (generation, value) = self.client.look(&key.to_string()).await?;
        if let Key::AllUsers = key {
            label = format!("{label} {generation}");
        }
        let entry = value.and_then(|it| serde_json::from_slice::<Entry<T>>(&it).ok());
        let hit = entry.filter(|it| it.label == label).map(|it| it.value);
        Some(Looked {
            label,
            generation,
            hit,
            era,
        })
    }
}

fn bug(error: impl std::fmt::Display) -> Unavailable {
    error!(%error, "an answer of the cache could not be made");
    Unavailable::Bug
}
