//! The use of one server: one connection for all requests, which begins by raising the generation.
//!
//! What the server held while nobody was connected is unknown: it may have been emptied, restored, or
//! replaced by a replica that lacks the last writes. So a new connection first raises the generation
//! by a random distance, to a number that no stored value carries. The same is due when the generation
//! is missing or has gone back, and after an invalidation that failed: until it is done there is no
//! connection, and so no answer from the cache.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{self, Instant};
use tracing::{debug, info, warn};

use super::backend::{CacheBackend, CacheConnection, CacheError};
use super::breaker::Breaker;

/// Wide, so that a count that was lost and begins at zero meets a number of before with a chance of one
/// in a million million; and there is room for four million of them below 2^63, where it begins anew.
const DISTANCE: Range<i64> = (1 << 40)..(1 << 41);
/// How often the server is asked whether it answers, so that readiness is known without requests.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often an invalidation that failed is tried again.
const INVALIDATION_INTERVAL: Duration = Duration::from_millis(250);
/// A key under which nothing is stored.
const PROBE: &str = "users:none";

#[derive(Debug)]
pub(super) struct CacheClient<B: CacheBackend> {
    backend: B,
    state: Mutex<State<B::Connection>>,
    /// One request connects for all.
    connecting: tokio::sync::Mutex<()>,
    invalidation_failed: Notify,
}

#[derive(Debug)]
struct State<C> {
    breaker: Breaker,
    connection: Option<C>,
    /// Raised with each end of a connection: what began before it neither installs nor ends another.
    epoch: u64,
    /// The highest generation seen since the connection began.
    floor: i64,
    pending_invalidation: bool,
}

/// A connection, and what was known when it was handed out.
struct Usable<C> {
    connection: C,
    epoch: u64,
    floor: i64,
}

impl<B: CacheBackend> CacheClient<B> {
    pub(super) fn new(backend: B) -> Self {
        Self {
            backend,
            state: Mutex::new(State {
                breaker: Breaker::default(),
                connection: None,
                epoch: 0,
                floor: 0,
                pending_invalidation: false,
            }),
            connecting: tokio::sync::Mutex::default(),
            invalidation_failed: Notify::new(),
        }
    }

    /// Returns the current generation and the value under `key`, or `None` when the server is of no
    /// use now.
    pub(super) async fn look(&self, key: &str) -> Option<(i64, Option<Vec<u8>>)> {
        let usable = self.usable().await?;
        let looked = self.try_look(&usable, key).await;
        self.account(usable.epoch, looked)
    }

    async fn try_look(
        &self,
        usable: &Usable<B::Connection>,
        key: &str,
    ) -> Result<(i64, Option<Vec<u8>>), CacheError> {
        let seen = usable.connection.look(key).await?;
        let text = seen.generation.as_deref().map(std::str::from_utf8);
        let generation = text.and_then(|it| it.ok()?.parse().ok());
        if let Some(generation) = generation.filter(|it| *it >= usable.floor) {
            self.with_current(usable, |state| state.floor = state.floor.max(generation))?;
            return Ok((generation, seen.value));
        }
        warn!("cache has lost its generation, and begins a new one");
        let generation = usable.connection.raise(distance()).await?;
        self.with_current(usable, |state| state.floor = generation)?;
        Ok((generation, seen.value))
    }

    pub(super) async fn keep(&self, key: &str, value: &str, ttl: Duration) {
        if let Some(usable) = self.usable().await {
            let kept = usable.connection.keep(key, value, ttl).await;
            self.account(usable.epoch, kept);
        }
    }

    /// Ends the validity of every value that was stored for an earlier generation. If that fails, the
    /// cache is not read here until it has been made good.
    pub(super) async fn invalidate(&self) {
        if let Some(usable) = self.usable().await {
            let raised = self.try_raise(&usable).await;
            if self.account(usable.epoch, raised).is_some() {
                return;
            }
        }
        let mut state = self.state();
        if !state.pending_invalidation {
            warn!("cache could not be invalidated, and is not read until that has been made good");
        }
        state.pending_invalidation = true;
        state.disconnect();
        state.breaker.open(Instant::now());
        drop(state);
        self.invalidation_failed.notify_one();
    }

    async fn try_raise(&self, usable: &Usable<B::Connection>) -> Result<(), CacheError> {
        let generation = usable.connection.raise(1).await?;
        self.with_current(usable, |state| state.floor = state.floor.max(generation))
    }

    /// Makes good what could not be invalidated, and keeps track of whether the server answers.
    pub(super) async fn maintain(&self) -> Infallible {
        loop {
            let pause = if self.state().pending_invalidation {
                let connected = self.connect().await;
                self.account(None, connected);
                INVALIDATION_INTERVAL
            } else {
                self.look(PROBE).await;
                PROBE_INTERVAL
            };
            tokio::select! {
                () = time::sleep(pause) => {}
                () = self.invalidation_failed.notified() => {}
            }
        }
    }

    /// Returns whether the last operation succeeded.
    pub(super) fn is_well(&self) -> bool {
        let state = self.state();
        state.breaker.is_well() && state.connection.is_some()
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().breaker.is_open()
    }

    /// Returns a connection, unless the breaker is open.
    async fn usable(&self) -> Option<Usable<B::Connection>> {
        if !self.state().breaker.allows(Instant::now()) {
            return None;
        }
        match self.connect().await {
            Ok(usable) => Some(usable),
            Err(error) => self.account(None, Err(error)),
        }
    }

    /// Returns the connection, which is opened if there is none.
    async fn connect(&self) -> Result<Usable<B::Connection>, CacheError> {
        if let Some(usable) = self.state().usable() {
            return Ok(usable);
        }
        let Ok(_only) = self.connecting.try_lock() else {
            let other = time::timeout(self.backend.connect_timeout(), self.connecting.lock());
            other.await.ok();
            // Where the other request failed, this one would fail too.
            return self.state().usable().ok_or(CacheError::NotConnected);
        };
        let epoch = {
            let state = self.state();
            if let Some(usable) = state.usable() {
                return Ok(usable);
            }
            state.epoch
        };
        let connection = self.backend.connect().await?;
        let generation = connection.raise(distance()).await?;
        let mut state = self.state();
        if state.epoch != epoch {
            return Err(CacheError::NotConnected);
        }
        state.connection = Some(connection);
        state.floor = generation;
        state.pending_invalidation = false;
        debug!(generation, "connected to the cache");
        state.usable().ok_or(CacheError::NotConnected)
    }

    /// Changes the state, unless the connection of `usable` has ended: another may lead to another
    /// server, of which this one's answers say nothing.
    fn with_current(
        &self,
        usable: &Usable<B::Connection>,
        change: impl FnOnce(&mut State<B::Connection>),
    ) -> Result<(), CacheError> {
        let mut state = self.state();
        if state.epoch != usable.epoch {
            return Err(CacheError::NotConnected);
        }
        change(&mut state);
        Ok(())
    }

    /// Draws the conclusion from connecting, or from an operation on the connection of an epoch.
    fn account<T>(&self, epoch: impl Into<Option<u64>>, done: Result<T, CacheError>) -> Option<T> {
        let mut state = self.state();
        let was_open = state.breaker.is_open();
        let error = match done {
            Ok(done) => {
                state.breaker.succeeded();
                if was_open {
                    info!("cache is used again");
                }
                return Some(done);
            }
            Err(CacheError::NotConnected) => return None,
            Err(error) => error,
        };
        state.breaker.failed(Instant::now());
        let is_open = state.breaker.is_open();
        if Some(state.epoch) == epoch.into() && (is_open || error != CacheError::Timeout) {
            state.disconnect();
        }
        if is_open && !was_open {
            warn!(%error, "cache does not answer, and is not used for a while");
        } else {
            debug!(%error, "cache did not answer");
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State<B::Connection>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clone> State<C> {
    fn usable(&self) -> Option<Usable<C>> {
        Some(Usable {
            connection: self.connection.clone()?,
            epoch: self.epoch,
            floor: self.floor,
        })
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.epoch += 1;
    }
}

fn distance() -> i64 {
    rand::random_range(DISTANCE)
}
