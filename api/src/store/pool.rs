//! Connections to the primary, as many as the pool has places. One that is shared carries many
//! statements, one behind the other; any other is acquired for one statement at a time.
//!
//! A connection keeps its place until the server has no backend of it any more: see
//! [`super::ended_sessions`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};

use super::connect::Connector;
use super::connection::Connection;
use super::ended_sessions::EndedSessions;
use super::lock::lock;
use super::primary::{KnownServer, Primary};
use super::queries::Effect;
use super::query_error::QueryError;
use crate::config::Server;
use crate::metrics::Metrics;

/// How long a request waits for a connection while the primary is well. A longer queue than this
/// would only make every answer late.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection is used, in seconds: backends that live for ever only grow. The spread keeps
/// connections from ending together.
const LIFETIME_SECS: Range<u64> = 12 * 60..18 * 60;

/// The connections for one kind of statement.
#[derive(Debug)]
pub(super) struct Pool {
    shared: bool,
    connector: Connector,
    primary: Primary,
    metrics: Metrics,
    ended: EndedSessions,
    /// One for each connection that a server may have a backend of.
    places: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    size: usize,
    /// One for each statement that may have a connection; in the order in which they came.
    turns: Arc<Semaphore>,
    /// Those that are shared, or that nothing is under way on.
    open: Mutex<Vec<Arc<PrimaryConnection>>>,
    changed: Notify,
    next: AtomicUsize,
}

/// An open connection to the primary of one generation.
#[derive(Debug)]
pub(super) struct PrimaryConnection {
    pub(super) connection: Connection,
    pub(super) generation: u64,
    server: Server,
    lifetime: Duration,
    is_silent: AtomicBool,
    place: Option<OwnedSemaphorePermit>,
    ended: EndedSessions,
}

/// A connection that a statement has acquired. Dropped, it is left to what is still under way on it;
/// [`PooledConnection::release`] keeps it, and [`PooledConnection::close`] does not.
#[derive(Debug)]
pub(super) struct PooledConnection {
    pub(super) opened: Arc<PrimaryConnection>,
    pool: Arc<Pool>,
    turn: Option<OwnedSemaphorePermit>,
    effect: Effect,
    is_done: bool,
}

impl Pool {
    pub(super) fn new(
        (size, shared): (usize, bool),
        connector: Connector,
        primary: Primary,
        metrics: Metrics,
        ended: EndedSessions,
    ) -> Arc<Self> {
        let turns = if shared { Semaphore::MAX_PERMITS } else { size };
        Arc::new(Self {
            shared,
            connector,
            primary,
            metrics,
            ended,
            places: Mutex::default(),
            size,
            turns: Arc::new(Semaphore::new(turns)),
            open: Mutex::default(),
            changed: Notify::new(),
            next: AtomicUsize::new(0),
        })
    }

    /// Returns a connection to the primary, waiting for one until `deadline`.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        effect: Effect,
        deadline: Instant,
    ) -> Result<PooledConnection, QueryError> {
        let closed = |_closed| QueryError::PoolExhausted;
        let began = Instant::now();
        let turn = Arc::clone(&self.turns).acquire_owned();
        let turn = self.soon(turn, began, deadline).await?.map_err(closed)?;
        loop {
            let known = self.primary.known(effect, deadline).await?;
            // Until there is a place, and no longer: what opens a connection keeps no wake-up from others.
            let place = {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(opened) = self.pick(&known) {
                    if !self.shared {
                        let waited = began.elapsed().as_secs_f64();
                        self.metrics.db_pool_wait.observe(waited);
                    }
                    return Ok(PooledConnection {
                        opened,
                        pool: Arc::clone(self),
                        turn: Some(turn),
                        effect,
                        is_done: self.shared,
                    });
                }
                let place = async {
                    tokio::select! {
                        place = self.places(&known).acquire_owned() => Some(place),
                        () = changed => None,
                        () = self.primary.left(known.generation) => None,
                    }
                };
                self.soon(place, began, deadline).await?
            };
            if let Some(place) = place {
                let opening = self.open(known, place.map_err(closed)?);
                let opened = time::timeout_at(deadline, opening).await;
                let opened = opened.ok().and_then(Result::ok);
                opened.unwrap_or_else(|| Err(QueryError::Silent(began.elapsed())))?;
            }
        }
    }

    /// Waits until `deadline`, and not for longer than [`ACQUIRE_TIMEOUT`] of a time in which the
    /// primary was well. While it is not, connections are held by those who wait for it; and when it is
    /// back, all who have come meanwhile are waiting, and that is no sign of overload.
    async fn soon<T>(
        &self,
        awaited: impl Future<Output = T>,
        began: Instant,
        deadline: Instant,
    ) -> Result<T, QueryError> {
        let give_up_at = || deadline.min(began.max(self.primary.well_since()) + ACQUIRE_TIMEOUT);
        let mut awaited = pin!(awaited);
        loop {
            match time::timeout_at(give_up_at(), &mut awaited).await {
                Ok(it) => return Ok(it),
                Err(_elapsed) if Instant::now() < give_up_at() => {}
                Err(_elapsed) => {
                    return Err(self.primary.absence().unwrap_or(QueryError::PoolExhausted));
                }
            }
        }
    }

    /// Returns a connection to the primary that is known, if one is open: the one that was used last,
    /// or, of those that are shared, the next with the fewest statements under way: a backend that hangs
    /// for a moment holds up what is sent after. Those are opened one by one until every place is taken.
    fn pick(self: &Arc<Self>, known: &Arc<KnownServer>) -> Option<Arc<PrimaryConnection>> {
        let mut open = lock(&self.open);
        open.retain(|it| it.generation == known.generation && it.is_of_use());
        if !self.shared {
            return open.pop();
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % open.len().max(1);
        let in_turn = || open.iter().cycle().skip(next).take(open.len());
        let answering = in_turn()
            .filter(|it| !it.is_silent.load(Ordering::Relaxed))
            .min_by_key(|it| Arc::strong_count(it));
        let picked = answering.or_else(|| in_turn().next()).cloned()?;
        if open.len() < self.size
            && let Ok(place) = self.places(known).try_acquire_owned()
        {
            drop(self.open(Arc::clone(known), place));
        }
        Some(picked)
    }

    fn places(&self, known: &KnownServer) -> Arc<Semaphore> {
        let mut places = lock(&self.places);
        let of_server = places.entry(known.address.server.to_string());
        Arc::clone(of_server.or_insert_with(|| Arc::new(Semaphore::new(self.size))))
    }

    /// Opens a connection, which is there for whoever comes first: when many wait, each would otherwise
    /// open one in vain.
    fn open(
        self: &Arc<Self>,
        known: Arc<KnownServer>,
        place: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Result<(), QueryError>> {
        let pool = Arc::clone(self);
        let (sender, receiver) = oneshot::channel();
        self.connector.tasks.start("connect", |_stop| async move {
            let opened = pool.connect(known, place).await;
            // Whoever asked may have gone.
            sender.send(opened.map(|it| pool.add(Arc::new(it)))).ok();
        });
        receiver
    }

    /// Connects to the primary that is known. If it is none, `primary` is told.
    async fn connect(
        &self,
        known: Arc<KnownServer>,
        place: OwnedSemaphorePermit,
    ) -> Result<PrimaryConnection, QueryError> {
        let connected = self.connector.connect(&known.address, &known.ends).await;
        let checked = connected.and_then(|(it, answer)| known.check(&answer).map(|()| it));
        let connection =
            checked.inspect_err(|error| self.primary.record_error(known.generation, error))?;
        Ok(PrimaryConnection {
            connection,
            generation: known.generation,
            server: known.address.server.clone(),
            lifetime: Duration::from_secs(rand::random_range(LIFETIME_SECS)),
            is_silent: AtomicBool::new(false),
            place: Some(place),
            ended: self.ended.clone(),
        })
    }

    fn add(&self, opened: Arc<PrimaryConnection>) {
        if !self.turns.is_closed() {
            lock(&self.open).push(opened);
        }
        if self.shared {
            self.changed.notify_waiters();
        } else {
            self.changed.notify_one();
        }
    }

    /// Returns how many connections are idle, or shared, and how many others there are.
    pub(super) fn count(&self) -> (usize, usize) {
        // One after the other: `pick` takes the lock of the places while it has the other one.
        let open = lock(&self.open).len();
        let places = lock(&self.places);
        let taken = places.values().map(|it| self.size - it.available_permits());
        (open, taken.sum::<usize>().saturating_sub(open))
    }

    /// Closes the connections, and opens no more.
    pub(super) fn close(&self) {
        lock(&self.places).values().for_each(|it| it.close());
        self.turns.close();
        lock(&self.open).clear();
    }
}

impl PrimaryConnection {
    /// Returns whether another statement may be sent on it.
    fn is_of_use(&self) -> bool {
        let connection = &self.connection;
        !connection.client.is_closed()
            && !connection.was_ended()
            && connection.opened_at.elapsed() < self.lifetime
    }
}

impl Drop for PrimaryConnection {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.ended.add(&self.connection, &self.server, place);
        }
    }
}

impl PooledConnection {
    /// Keeps the connection for the next statement. Nothing is under way on it any more.
    pub(super) fn release(mut self) {
        if !self.is_done {
            self.is_done = true;
            self.pool.add(Arc::clone(&self.opened));
        }
    }

    /// Ends the connection.
    pub(super) fn close(mut self) {
        self.is_done = true;
        self.opened.connection.end();
    }

    /// Sends nothing more on a shared connection until it has answered, if others do; ends it if it does
    /// not answer in `time`.
    pub(super) fn suspect(&self, time: Duration) {
        if !self.pool.shared || self.opened.is_silent.swap(true, Ordering::Relaxed) {
            return;
        }
        let (opened, connector) = (Arc::clone(&self.opened), self.pool.connector.clone());
        let tasks = connector.tasks.clone();
        tasks.start("silent connection", |stop| async move {
            let settled = time::timeout(time, opened.connection.settle());
            match stop.run_until_cancelled(settled).await {
                Some(Ok(_)) => opened.is_silent.store(false, Ordering::Relaxed),
                Some(Err(_elapsed)) => connector.abandon(&opened.connection),
                None => {}
            }
        });
    }
}

impl Drop for PooledConnection {
    /// Leaves the connection to what is still under way on it. A read is cancelled. A write is let run,
    /// for as long as it takes, and its connection is kept.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let connector = &self.pool.connector;
        if self.effect == Effect::Reads {
            return connector.abandon(&self.opened.connection);
        }
        let (opened, pool) = (Arc::clone(&self.opened), Arc::clone(&self.pool));
        let turn = self.turn.take();
        connector.tasks.start("late answer", |stop| async move {
            let settled = stop.run_until_cancelled(opened.connection.settle()).await;
            if settled.is_some_and(|it| it.is_ok()) {
                pool.add(opened);
            }
            drop(turn);
        });
    }
}
