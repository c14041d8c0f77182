//! Every use of the server, and what its outcome means for the next.
//!
//! A session is a connection together with the newest generation that was seen on it. It ends with
//! the connection, or when the generation turns out to be lost; the next begins with a generation of
//! its own, which nothing in the server carries. So whoever reads has first invalidated whatever the
//! server may have kept from a time of which nobody knows.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{self, Instant};
use tracing::{debug, info, warn};

use super::breaker::{Breaker, Permit};
use super::generation::{self, Current};
use super::server::{Failure, Link, Server};

/// A key under which nobody stores anything.
const PROBE: &str = "users:none";

/// The use of one server by this process.
#[derive(Debug)]
pub(super) struct Sessions<S: Server> {
    server: S,
    /// How long after a write the last value of the time before it is gone by itself.
    staleness: Duration,
    state: Mutex<State<S::Link>>,
    /// One begins a session for all.
    beginning: tokio::sync::Mutex<()>,
    owing: Notify,
}

#[derive(Debug)]
struct State<L> {
    breaker: Breaker,
    session: Option<Arc<Session<L>>>,
}

#[derive(Debug)]
struct Session<L> {
    link: L,
    newest: AtomicI64,
}

/// What a reader found.
#[derive(Debug)]
pub(super) enum Found<T, L> {
    Hit(T),
    Miss(Ticket<L>),
}

/// Leave to store what is read from the database from now on.
#[derive(Debug)]
pub(super) struct Ticket<L> {
    link: L,
    /// The generation that was current at `taken`.
    pub(super) generation: i64,
    taken: Instant,
}

impl<S: Server> Sessions<S> {
    pub(super) fn new(server: S, staleness: Duration) -> Self {
        Self {
            server,
            staleness,
            state: Mutex::new(State {
                breaker: Breaker::new(),
                session: None,
            }),
            beginning: tokio::sync::Mutex::new(()),
            owing: Notify::new(),
        }
    }

    /// Returns what there is under `key`, or `None` when the server is of no use now.
    pub(super) async fn look<T: DeserializeOwned>(&self, key: &str) -> Option<Found<T, S::Link>> {
        let permit = self.permit()?;
        let looked = self.try_look(permit, key).await;
        self.account(permit, looked).ok()
    }

    /// Stores what was read since `ticket` was taken. Its time to live counts from then, so that it
    /// is gone in time whatever the read took.
    pub(super) async fn keep(
        &self,
        ticket: Ticket<S::Link>,
        key: &str,
        value: &str,
        ttl: Duration,
    ) {
        let Some(left) = ttl.checked_sub(ticket.taken.elapsed()) else {
            return;
        };
        if let Some(permit) = self.permit() {
            let kept = ticket.link.keep(key, value, left).await;
            self.account(permit, kept).ok();
        }
    }

    /// Makes every value of the time before this call count no more. If that fails, nobody here reads
    /// until it has been made good or the values have expired.
    pub(super) async fn invalidate(&self) {
        if let Some(permit) = self.permit() {
            let raised = self.try_raise(permit).await;
            match self.account(permit, raised) {
                Ok(()) => return,
                Err(error) => warn!(
                    %error,
                    "cache could not be invalidated, and is not read until that has been made good"
                ),
            }
        }
        let mut state = self.state();
        state.breaker.owe(Instant::now() + self.staleness);
        state.session = None;
        drop(state);
        self.owing.notify_one();
    }

    /// Ends the session, and so whatever was kept for it: the next begins a generation of its own.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.breaker.begin_era();
        state.session = None;
    }

    /// Asks the server for nothing, if it may be asked: whether it answers counts.
    pub(super) async fn ask(&self) {
        if let Some(permit) = self.permit() {
            let looked = self.try_look::<()>(permit, PROBE).await;
            self.account(permit, looked).ok();
        }
    }

    /// Waits until something is owed.
    pub(super) async fn owing(&self) {
        self.owing.notified().await;
    }

    /// Makes good what is owed, if anything is. Returns whether anything still is.
    pub(super) async fn settle(&self) -> bool {
        let Some(permit) = self.debt() else {
            return false;
        };
        let begun = self.connect(permit).await;
        self.account(permit, begun).ok();
        self.debt().is_some()
    }

    /// Returns whether the server answered the last time, and the breaker is closed.
    pub(super) fn is_well(&self) -> bool {
        let state = self.state();
        state.breaker.is_well() && state.session.is_some()
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().breaker.is_open()
    }

    async fn try_look<T: DeserializeOwned>(
        &self,
        permit: Permit,
        key: &str,
    ) -> Result<Found<T, S::Link>, Failure> {
        let session = self.session(permit).await?;
        let floor = session.newest.load(Ordering::Acquire);
        let taken = Instant::now();
        let seen = session.link.look(key).await?;
        let generation = seen.generation.as_deref();
        let judged = generation::judge(floor, generation, seen.value.as_deref());
        let Some(Current { generation, value }) = judged else {
            warn!("cache has lost its generation, and begins a new one");
            let renewed = self.renew(permit, &session).await?;
            let generation = renewed.newest.load(Ordering::Acquire);
            return Ok(Found::Miss(renewed.ticket(generation, taken)));
        };
        session.newest.fetch_max(generation, Ordering::AcqRel);
        let missed = || Found::Miss(session.ticket(generation, taken));
        Ok(value.map_or_else(missed, Found::Hit))
    }

    async fn try_raise(&self, permit: Permit) -> Result<(), Failure> {
        let session = self.session(permit).await?;
        let generation = session.link.raise(1).await?;
        session.newest.fetch_max(generation, Ordering::AcqRel);
        Ok(())
    }

    /// Returns the session, which is begun if there is none.
    async fn session(&self, permit: Permit) -> Result<Arc<Session<S::Link>>, Failure> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let _only = self.turn_to_begin(permit).await?;
        match self.current() {
            Some(session) => Ok(session),
            None => self.connect(permit).await,
        }
    }

    /// Waits while another request begins a session. There is no sense in trying what made the breaker
    /// open in the meantime.
    async fn turn_to_begin(&self, permit: Permit) -> Result<impl Sized + '_, Failure> {
        let waiting = time::timeout(self.server.patience(), self.beginning.lock());
        let turn = waiting.await.map_err(|_elapsed| Failure::NotAsked)?;
        if self.state().breaker.counts(permit) {
            Ok(turn)
        } else {
            Err(Failure::NotAsked)
        }
    }

    async fn connect(&self, permit: Permit) -> Result<Arc<Session<S::Link>>, Failure> {
        let link = self.server.connect().await?;
        self.begin(permit, link).await
    }

    /// Begins a session on the connection of one whose generation is lost, unless somebody has.
    async fn renew(
        &self,
        permit: Permit,
        lost: &Arc<Session<S::Link>>,
    ) -> Result<Arc<Session<S::Link>>, Failure> {
        let _only = self.turn_to_begin(permit).await?;
        match self.current() {
            Some(other) if !Arc::ptr_eq(&other, lost) => Ok(other),
            Some(_) | None => self.begin(permit, lost.link.clone()).await,
        }
    }

    async fn begin(&self, permit: Permit, link: S::Link) -> Result<Arc<Session<S::Link>>, Failure> {
        let distance = generation::distance();
        let first = match link.raise(distance).await {
            // What is there is no number, or none that can be raised.
            Err(Failure::Refused(why)) => {
                debug!(why, "generation cannot be raised");
                link.restart(distance).await?;
                distance
            }
            raised => raised?,
        };
        let session = Arc::new(Session {
            link,
            newest: AtomicI64::new(first),
        });
        let mut state = self.state();
        if !state.breaker.counts(permit) {
            return Err(Failure::NotAsked);
        }
        state.session = Some(Arc::clone(&session));
        debug!(generation = first, "session with the cache begun");
        Ok(session)
    }

    fn current(&self) -> Option<Arc<Session<S::Link>>> {
        self.state().session.clone()
    }

    fn permit(&self) -> Option<Permit> {
        self.state().breaker.permit(Instant::now())
    }

    fn debt(&self) -> Option<Permit> {
        self.state().breaker.debt(Instant::now())
    }

    /// Draws the conclusion from how a use of the server ended.
    fn account<T>(&self, permit: Permit, ended: Result<T, Failure>) -> Result<T, Failure> {
        let mut state = self.state();
        let was_open = state.breaker.is_open();
        match &ended {
            Ok(_) => {
                state.breaker.succeeded(permit);
                if was_open && !state.breaker.is_open() {
                    info!("cache is used again");
                }
            }
            Err(Failure::NotAsked) => {}
            Err(error) => {
                let counts = state.breaker.counts(permit);
                state.breaker.failed(permit, Instant::now());
                let is_open = state.breaker.is_open();
                if counts && (is_open || *error != Failure::OutOfTime) {
                    state.session = None;
                }
                if is_open && !was_open {
                    warn!(%error, "cache does not answer, and is not used for a while");
                } else {
                    debug!(%error, "cache did not answer");
                }
            }
        }
        ended
    }

    fn state(&self) -> MutexGuard<'_, State<S::Link>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Clone> Session<L> {
    fn ticket(&self, generation: i64, taken: Instant) -> Ticket<L> {
        Ticket {
            link: self.link.clone(),
            generation,
            taken,
        }
    }
}
