//! The cache of the users: Redis keeps what the database said, for a while.
//!
//! It is optional at every moment. Whatever happens to Redis, the answer comes from the database, and
//! is no older than what anybody was told of: see [`generation`] for when a value may be believed, and
//! [`breaker`] for when Redis is left alone.

mod breaker;
mod flights;
mod generation;
mod redis;
mod server;
mod sessions;
#[cfg(test)]
mod simulation;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use ha_runtime::shutdown::Tasks;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};
use tokio::time::{self, Instant};
use tracing::error;

use self::flights::Flights;
use self::redis::Redis;
pub use self::redis::Unusable;
use self::server::Server;
use self::sessions::{Found, Sessions};
use crate::config;
use crate::metrics::Metrics;
use crate::store::Unavailable;
use crate::trace;

/// Says whether an answer came from the cache.
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// How much the time to live of a value differs from what is set, either way, so that values which
/// were stored together do not expire together.
const SPREAD: f64 = 0.1;
/// The longest value that is kept. What comes behind a longer one on the connection would wait for more
/// of the time that Redis has to answer in, and a Redis that is well would be called broken.
const LONGEST_ENTRY_BYTES: usize = 512 * 1024;
/// How often Redis is asked whether it is there, so that readiness is known without requests.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often an invalidation that failed is tried again.
const SETTLE_EVERY: Duration = Duration::from_millis(250);

/// The cache, if there is one.
#[derive(Debug)]
pub(crate) struct Cache<S: Server = Redis> {
    used: Option<Arc<Used<S>>>,
    metrics: Metrics,
    tasks: Tasks,
}

#[derive(Debug)]
struct Used<S: Server> {
    sessions: Sessions<S>,
    flights: Flights<String>,
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

impl Source {
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
    /// Starts using Redis, if there is one. `primaries` changes whenever a primary has been found:
    /// the one before may have told us of rows that this one does not have.
    ///
    /// # Errors
    ///
    /// [`Unusable`] when the trusted authorities cannot be read.
    pub(crate) fn start(
        settings: &config::Cache,
        primaries: watch::Receiver<u64>,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, Unusable> {
        let redis = settings.redis.as_ref();
        let server = redis
            .map(|it| Redis::new(it, &settings.prefix))
            .transpose()?;
        Ok(Self::with(server, settings.ttl, primaries, metrics, tasks))
    }
}

impl<S: Server> Cache<S> {
    fn with(
        server: Option<S>,
        ttl: Duration,
        primaries: watch::Receiver<u64>,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        let used = server.map(|server| {
            Arc::new(Used {
                sessions: Sessions::new(server, ttl.mul_f64(1.0 + SPREAD)),
                flights: Flights::new(),
                ttl,
            })
        });
        if let Some(used) = used.clone() {
            tasks.start("cache", |stop| async move {
                tokio::select! {
                    never = used.look_after(primaries) => match never {},
                    () = stop.cancelled() => {}
                }
            });
        }
        for source in [Source::Hit, Source::Miss, Source::Bypass] {
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
        let key = key.to_string();
        let found = match self.look(&key).await {
            Some((_, Found::Hit(value))) => {
                self.count(Source::Hit);
                return Ok((value, Source::Hit));
            }
            Some((used, Found::Miss(ticket))) => Some((used, ticket)),
            None => None,
        };
        // What waits for a database is large, and would be part of every future that holds it.
        let reading = Box::pin(read());
        let Some((used, ticket)) = found else {
            return Ok((reading.await?, self.bypass()));
        };
        self.count(Source::Miss);

        let mut own = None;
        let seat = used.flights.board(&key, ticket.generation);
        let landing = seat.land(async {
            let value = reading.await?;
            let entry = generation::entry(ticket.generation, &value).map_err(bug);
            own = Some(value);
            entry
        });
        let landed = time::timeout_at(deadline, landing).await;
        let entry = landed.map_err(|_elapsed| Unavailable::Away)??;
        let Some(value) = own else {
            let value = generation::value(entry).map_err(bug)?;
            return Ok((value, Source::Miss));
        };
        if keeps(&value) && entry.len() <= LONGEST_ENTRY_BYTES {
            let spread = rand::random_range(1.0 - SPREAD..=1.0 + SPREAD);
            let ttl = used.ttl.mul_f64(spread);
            used.sessions.keep(ticket, &key, entry, ttl).await;
        }
        Ok((value, Source::Miss))
    }

    /// Notes that an answer did not ask the cache at all, and says so.
    pub(crate) fn bypass(&self) -> Source {
        self.count(Source::Bypass);
        Source::Bypass
    }

    /// Carries out `write`, which changes users, and makes what is kept count no more. Once begun it
    /// is finished, though its client leaves: what was committed has to be invalidated.
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
        let write = trace::carried(write);
        let (told, outcome) = oneshot::channel();
        self.tasks.start("change of users", |_stop| async move {
            // A write that reports a failure may have been committed all the same.
            let written = write.await;
            used.sessions.invalidate().await;
            // The client may have left.
            told.send(written).ok();
        });
        outcome.await.map_err(bug)?
    }

    /// Returns how the cache is: `ok`, `degraded` or `off`.
    pub(crate) fn status(&self) -> &'static str {
        match &self.used {
            None => "off",
            Some(used) if used.sessions.is_well() => "ok",
            Some(_) => "degraded",
        }
    }

    /// Brings the metrics that are only read now and then up to date.
    pub(crate) fn report(&self) {
        let is_open = self.used.as_ref().is_some_and(|it| it.sessions.is_open());
        self.metrics.cache_breaker_open.set(is_open.into());
    }

    async fn look<T: DeserializeOwned>(&self, key: &str) -> Option<(&Used<S>, Found<T, S::Link>)> {
        let used = self.used.as_deref()?;
        Some((used, used.sessions.look(key).await?))
    }

    fn count(&self, source: Source) {
        let requests = &self.metrics.cache_requests;
        requests.with_label_values(&[source.label()]).inc();
    }
}

impl<S: Server> Used<S> {
    /// Asks Redis now and then, so that its state is known without requests; begins anew when there is
    /// another primary; and makes good what could not be invalidated.
    async fn look_after(&self, mut primaries: watch::Receiver<u64>) -> Infallible {
        loop {
            let pause = if self.sessions.settle().await {
                SETTLE_EVERY
            } else {
                self.sessions.ask().await;
                ASK_EVERY
            };
            tokio::select! {
                () = time::sleep(pause) => {}
                () = self.sessions.owing() => {}
                Ok(()) = primaries.changed() => self.sessions.end(),
            }
        }
    }
}

fn bug(error: impl std::fmt::Display) -> Unavailable {
    error!(%error, "an answer of the cache could not be made");
    Unavailable::Bug
}
