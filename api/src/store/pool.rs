//! Pools of connections to the primary. A shared connection carries many statements, one behind the other;
//! any other is acquired for one statement at a time.
//!
//! A connection counts against the limit of its pool until the server has no backend of it: see
//! [`super::ended_sessions`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{self, Instant};

use super::connect::Connector;
use super::connection::Connection;
use super::ended_sessions::EndedSession;
use super::lock::lock;
use super::primary::{KnownServer, Primary};
use super::queries::Effect;
use super::query_error::QueryError;
use crate::config::Endpoint;
use crate::metrics::Metrics;

/// Timeout of the wait for a connection while the primary is available. A longer queue would delay every answer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Lifetime of a connection, in seconds, because the memory of a backend grows. The jitter keeps connections from
/// ending together.
const LIFETIME_SECS: Range<u64> = 12 * 60..18 * 60;

/// The connections for one kind of statement.
#[derive(Debug)]
pub(super) struct Pool {
    shared: bool,
    connector: Connector,
    primary: Primary,
    metrics: Metrics,
    ended: mpsc::UnboundedSender<EndedSession>,
    /// For each server, a permit for each connection that it may have a backend of.
    permits: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    size: usize,
    /// A permit for each statement that may have a connection, in the order of their requests.
    turns: Arc<Semaphore>,
    /// The connections that are shared, or idle.
    open: Mutex<Vec<Arc<PrimaryConnection>>>,
    changed: Notify,
    next: AtomicUsize,
}

/// An open connection to the primary of one generation.
#[derive(Debug)]
pub(super) struct PrimaryConnection {
    pub(super) connection: Connection,
    pub(super) generation: u64,
    server: Endpoint,
    expires_at: Instant,
    is_silent: AtomicBool,
    permit: Option<OwnedSemaphorePermit>,
    ended: mpsc::UnboundedSender<EndedSession>,
}

/// A connection that a statement has acquired. [`PooledConnection::release`] returns it to the pool,
/// [`PooledConnection::close`] ends it, and dropping it leaves it to the statement that is under way.
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
        ended: mpsc::UnboundedSender<EndedSession>,
    ) -> Arc<Self> {
        let turns = if shared { Semaphore::MAX_PERMITS } else { size };
        Arc::new(Self {
            shared,
            connector,
            primary,
            metrics,
            ended,
            permits: Mutex::default(),
            size,
            turns: Arc::new(Semaphore::new(turns)),
            open: Mutex::default(),
            changed: Notify::new(),
            next: AtomicUsize::new(0),
        })
    }

    /// Acquires a connection to the primary, until `deadline`.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        effect: Effect,
        deadline: Instant,
    ) -> Result<PooledConnection, QueryError> {
        let closed = |_closed| QueryError::PoolExhausted;
        let began = Instant::now();
        let turn = Arc::clone(&self.turns).acquire_owned();
        let turn = self.wait(turn, began, deadline).await?.map_err(closed)?;
        loop {
            let known = self.primary.server_for(effect, deadline).await?;
            // Listens until there is a permit, and no longer: a statement that opens a connection must not
            // take a notification from others.
            let permit = {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(opened) = self.pick(&known) {
                    self.record_wait(began);
                    return Ok(PooledConnection {
                        opened,
                        pool: Arc::clone(self),
                        turn: Some(turn),
                        effect,
                        is_done: self.shared,
                    });
                }
                let permit = async {
                    tokio::select! {
                        permit = self.permits(&known).acquire_owned() => Some(permit),
                        () = changed => None,
                        () = self.primary.left(known.generation) => None,
                    }
                };
                self.wait(permit, began, deadline).await?
            };
            if let Some(permit) = permit {
                let opening = self.open(known, permit.map_err(closed)?);
                let opened = time::timeout_at(deadline, opening).await;
                let opened = opened.ok().and_then(Result::ok);
                opened.unwrap_or_else(|| Err(QueryError::NoResponse(began.elapsed())))?;
            }
        }
    }

    /// Waits until `deadline`, and at most for [`ACQUIRE_TIMEOUT`] during which the primary was available.
    /// While it is not, statements that wait for it hold the connections; and when it is back, the queue of
    /// the meantime is no sign of overload.
    async fn wait<T>(
        &self,
        awaited: impl Future<Output = T>,
        began: Instant,
        deadline: Instant,
    ) -> Result<T, QueryError> {
        let give_up_at =
            || deadline.min(began.max(self.primary.available_since()) + ACQUIRE_TIMEOUT);
        let mut awaited = pin!(awaited);
        loop {
            match time::timeout_at(give_up_at(), &mut awaited).await {
                Ok(value) => return Ok(value),
                Err(_elapsed) if Instant::now() < give_up_at() => {}
                Err(_elapsed) => {
                    return Err(self.primary.absence().unwrap_or_else(|| {
                        self.record_wait(began);
                        QueryError::PoolExhausted
                    }));
                }
            }
        }
    }

    /// Records how long a statement has waited, in vain too: otherwise a pool without a free connection would look
    /// faster than a busy one.
    fn record_wait(&self, began: Instant) {
        if !self.shared {
            self.metrics
                .db_pool_wait
                .observe(began.elapsed().as_secs_f64());
        }
    }

    /// Returns a connection to the known primary, if one is open: the most recently used, or, of shared connections,
    /// the next with the fewest statements under way, since a stalled backend delays the statements behind it. Shared
    /// connections are opened one at a time up to the limit.
    fn pick(self: &Arc<Self>, known: &Arc<KnownServer>) -> Option<Arc<PrimaryConnection>> {
        let mut open = lock(&self.open);
        open.retain(|opened| opened.generation == known.generation && opened.is_usable());
        if !self.shared {
            return open.pop();
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % open.len().max(1);
        let in_turn = || open.iter().cycle().skip(next).take(open.len());
        let answering = in_turn()
            .filter(|opened| !opened.is_silent.load(Ordering::Relaxed))
            .min_by_key(|opened| Arc::strong_count(opened));
        let picked = answering.or_else(|| in_turn().next()).cloned()?;
        if open.len() < self.size
            && let Ok(permit) = self.permits(known).try_acquire_owned()
        {
            drop(self.open(Arc::clone(known), permit));
        }
        Some(picked)
    }

    fn permits(&self, known: &KnownServer) -> Arc<Semaphore> {
        let mut permits = lock(&self.permits);
        let of_server = permits.entry(known.address.server.to_string());
        Arc::clone(of_server.or_insert_with(|| Arc::new(Semaphore::new(self.size))))
    }

    /// Opens a connection for the statement that is first in the queue when it is open: when many wait, each
    /// would otherwise open one in vain.
    fn open(
        self: &Arc<Self>,
        known: Arc<KnownServer>,
        permit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Result<(), QueryError>> {
        let pool = Arc::clone(self);
        let (sender, receiver) = oneshot::channel();
        self.connector.tasks.start("connect", |_stop| async move {
            let opened = pool.connect(known, permit).await;
            // The statement that requested it may have timed out.
            sender
                .send(opened.map(|opened| pool.add(Arc::new(opened))))
                .ok();
        });
        receiver
    }

    /// Connects to the known primary. An error is reported to `primary`.
    async fn connect(
        &self,
        known: Arc<KnownServer>,
        permit: OwnedSemaphorePermit,
    ) -> Result<PrimaryConnection, QueryError> {
        let connected = self.connector.connect(&known.address, &known.ends).await;
        let checked =
            connected.and_then(|(connection, status)| known.check(&status).map(|()| connection));
        let connection =
            checked.inspect_err(|error| self.primary.record_error(known.generation, error))?;
        Ok(PrimaryConnection {
            connection,
            generation: known.generation,
            server: known.address.server.clone(),
            expires_at: Instant::now() + Duration::from_secs(rand::random_range(LIFETIME_SECS)),
            is_silent: AtomicBool::new(false),
            permit: Some(permit),
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

    /// Returns the number of idle or shared connections, and of all others.
    pub(super) fn count(&self) -> (usize, usize) {
        // One lock after the other: `pick` takes that of the permits while it holds the first.
        let open = lock(&self.open).len();
        let permits = lock(&self.permits);
        let taken = permits
            .values()
            .map(|permits| self.size - permits.available_permits());
        (open, taken.sum::<usize>().saturating_sub(open))
    }

    /// Closes the connections, and opens no more.
    pub(super) fn close(&self) {
        lock(&self.permits)
            .values()
            .for_each(|permits| permits.close());
        self.turns.close();
        lock(&self.open).clear();
    }
}

impl PrimaryConnection {
    /// Returns whether it can take another statement.
    fn is_usable(&self) -> bool {
        let connection = &self.connection;
        !connection.client.is_closed()
            && !connection.was_ended()
            && Instant::now() < self.expires_at
    }
}

impl Drop for PrimaryConnection {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            let ended = EndedSession {
                name: self.connection.session_name.clone(),
                server: self.server.clone(),
                at: Instant::now(),
                _permit: permit,
            };
            // The task has ended only when the program ends.
            self.ended.send(ended).ok();
        }
    }
}

impl PooledConnection {
    /// Returns the connection to the pool. No statement is under way on it.
    pub(super) fn release(mut self) {
        if !self.is_done {
            self.is_done = true;
            self.pool.add(Arc::clone(&self.opened));
        }
    }

    pub(super) fn close(mut self) {
        self.is_done = true;
        self.opened.connection.end();
    }

    /// Prefers others to a shared connection until it has answered, and ends it when it does not answer
    /// within `timeout`.
    pub(super) fn suspect(&self, timeout: Duration) {
        if !self.pool.shared || self.opened.is_silent.swap(true, Ordering::Relaxed) {
            return;
        }
        let (opened, connector) = (Arc::clone(&self.opened), self.pool.connector.clone());
        let tasks = connector.tasks.clone();
        tasks.start("silent connection", |stop| async move {
            let settled = time::timeout(timeout, opened.connection.wait_for_responses());
            match stop.run_until_cancelled(settled).await {
                Some(Ok(_)) => opened.is_silent.store(false, Ordering::Relaxed),
                Some(Err(_elapsed)) => connector.abandon(&opened.connection),
                None => {}
            }
        });
    }
}

impl Drop for PooledConnection {
    /// Cancels a read. A write runs to its end, and then its connection returns to the pool.
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
            let settled = stop
                .run_until_cancelled(opened.connection.wait_for_responses())
                .await;
            if settled.is_some_and(|settled| settled.is_ok()) {
                pool.add(opened);
            }
            drop(turn);
        });
    }
}
