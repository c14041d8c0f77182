//! Who the primary is. One task asks the servers, so that a thousand requests need not.
//!
//! While a primary is known it is asked once a second whether it still takes writes. Whoever finds it
//! gone says so with [`Primary::record_error`]; then every server is asked at once, over and over, and of those
//! that take writes the one on the highest timeline is the primary. Requests wait for that, and are woken
//! by it. A lower timeline than one that was seen, and another database, are never gone to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::telemetry::chain;
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connect::Address;
use super::connection::{Answer, Connection};
use super::lock::lock;
use super::queries::Effect;
use super::query_error::{ErrorClass, QueryError};

/// How long a request waits for a primary that has been away for longer than a failover takes. A
/// primary that only refuses writes is read after as long.
pub(super) const KNOWN_ABSENCE: Duration = Duration::from_secs(1);
/// How many times the grace of `/readyz` a database has been away when no failover is under way.
const FAILOVERS: u32 = 3;

/// A server that accepts writes, or did when it was last asked; or one that may be read meanwhile.
#[derive(Debug)]
pub(super) struct KnownServer {
    /// Rises whenever connections that were opened before must not be used again.
    pub(super) generation: u64,
    /// Where it is.
    pub(super) address: Address,
    /// What it said of itself, and when.
    pub(super) answer: Answer,
    pub(super) answered_at: Instant,
    /// Ends every connection of this generation.
    pub(super) ends: CancellationToken,
    /// The connection on which it is asked whether it still is the primary.
    pub(super) monitor: Arc<Connection>,
}

impl KnownServer {
    /// Returns whether a new connection leads to the same server, in the same role.
    pub(super) fn check(&self, answer: &Answer) -> Result<(), QueryError> {
        if self.answer.writable && !answer.writable {
            return Err(QueryError::ReadOnly);
        }
        if self.answer.history() != answer.history() {
            let why = "another server answers at this address by now";
            return Err(QueryError::OtherServer(why.to_owned()));
        }
        Ok(())
    }

    /// Returns how old what it shows can be, if it is a standby.
    fn staleness(&self) -> Option<Duration> {
        let behind = self.answer.behind.unwrap_or_default();
        let is_standby = self.answer.timeline.is_none();
        is_standby.then(|| behind + self.answered_at.elapsed())
    }
}

/// What is known about the primary.
#[derive(Clone, Debug)]
pub(super) enum PrimaryState {
    /// It answers and accepts writes.
    Available(Arc<KnownServer>),
    /// It has not answered in time. Others are asked too, and nothing new is sent to it.
    Suspected(Arc<KnownServer>),
    /// There is none, and this server may be read.
    Reading(Arc<KnownServer>),
    /// There is none.
    Searching {
        /// Whether some server answers.
        read_only: bool,
    },
}

/// The place where the primary is looked up, reported missing, and found again.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    pub(super) view: Arc<watch::Sender<PrimaryState>>,
    /// What identifies the history and the run of the last primary. Empty before the first, and while a
    /// standby is read.
    pub(super) era: Arc<watch::Sender<String>>,
    pub(super) last_writable: Arc<Mutex<Instant>>,
    /// When the primary that is known came, or came back to its senses.
    pub(super) available_since: Arc<Mutex<Instant>>,
    /// Why each server cannot be used, as it was last seen.
    pub(super) server_errors: Arc<Mutex<BTreeMap<String, String>>>,
    /// How long a failover may take.
    grace: Duration,
}

impl Primary {
    /// Returns one that no server has been found for.
    pub(super) fn new(ready_grace: Duration) -> Self {
        Self {
            view: Arc::new(watch::Sender::new(PrimaryState::Searching {
                read_only: false,
            })),
            era: Arc::default(),
            last_writable: Arc::new(Mutex::new(Instant::now())),
            available_since: Arc::new(Mutex::new(Instant::now())),
            server_errors: Arc::default(),
            // A lease expires, and a promotion takes its time: requests wait for both.
            grace: FAILOVERS * ready_grace,
        }
    }

    /// Returns the server for a statement, waiting for one until `deadline`; or for a moment, where
    /// there has been none for longer than a failover takes.
    pub(super) async fn known(
        &self,
        effect: Effect,
        deadline: Instant,
    ) -> Result<Arc<KnownServer>, QueryError> {
        if let PrimaryState::Available(known) = &*self.view.borrow() {
            return Ok(Arc::clone(known));
        }
        let mut view = self.view.subscribe();
        let began = Instant::now();
        loop {
            match &*view.borrow_and_update() {
                PrimaryState::Available(known) => return Ok(Arc::clone(known)),
                PrimaryState::Reading(known) if effect == Effect::Reads => {
                    return Ok(Arc::clone(known));
                }
                PrimaryState::Suspected(_)
                | PrimaryState::Reading(_)
                | PrimaryState::Searching { .. } => {}
            }
            let failover_over = *lock(&self.last_writable) + self.grace;
            let give_up_at = deadline.min(failover_over.max(began + KNOWN_ABSENCE));
            let changed = time::timeout_at(give_up_at, view.changed()).await;
            if let (Err(_elapsed), Some(absence)) = (changed, self.absence()) {
                return Err(absence);
            }
        }
    }

    /// Returns why nothing can be sent to the primary now, or `None` if it can.
    pub(super) fn absence(&self) -> Option<QueryError> {
        let read_only = match &*self.view.borrow() {
            PrimaryState::Available(_) => return None,
            PrimaryState::Suspected(_) => false,
            PrimaryState::Reading(_) => true,
            PrimaryState::Searching { read_only } => *read_only,
        };
        Some(QueryError::NoPrimary { read_only })
    }

    /// Returns since when statements could be sent to the primary, which is now if they cannot be.
    pub(super) fn well_since(&self) -> Instant {
        match self.absence() {
            None => *lock(&self.available_since),
            Some(_) => Instant::now(),
        }
    }

    /// Returns once the server of `generation` is not the one to ask.
    pub(super) async fn left(&self, generation: u64) {
        let is_left = |view: &PrimaryState| match view {
            PrimaryState::Available(it) | PrimaryState::Reading(it) => it.generation != generation,
            PrimaryState::Suspected(_) | PrimaryState::Searching { .. } => true,
        };
        // It cannot be closed: the other end is here too.
        self.view.subscribe().wait_for(is_left).await.ok();
    }

    /// Returns what is known now.
    pub(super) fn view(&self) -> PrimaryState {
        self.view.borrow().clone()
    }

    /// Returns how long ago a server last said that it accepts writes.
    pub(super) fn away_for(&self) -> Duration {
        lock(&self.last_writable).elapsed()
    }

    /// Returns how old the rows can be that are read now, if they are a standby's.
    pub(super) fn staleness(&self) -> Option<Duration> {
        let view = self.view.borrow();
        let PrimaryState::Reading(known) = &*view else {
            return None;
        };
        known.staleness()
    }

    /// Returns why each server cannot be used, as it was last seen.
    pub(super) fn server_errors(&self) -> String {
        let server_errors = lock(&self.server_errors);
        let each = server_errors.iter().map(|(it, why)| format!("{it}: {why}"));
        each.collect::<Vec<_>>().join("; ")
    }

    /// Draws the conclusion from a failure on a connection of `generation`: its server is gone, accepts
    /// no writes, or does not answer. If there is another by now, nothing happens.
    pub(super) fn record_error(&self, generation: u64, error: &QueryError) {
        let class = error.class();
        let left = self.turn(generation, |known, is_suspected| match class {
            ErrorClass::ServerLost => Some(PrimaryState::Searching { read_only: false }),
            ErrorClass::ServerReadOnly => Some(PrimaryState::Searching { read_only: true }),
            // One that is only read is left.
            ErrorClass::ServerSilent if !known.answer.writable => {
                Some(PrimaryState::Searching { read_only: false })
            }
            ErrorClass::ServerSilent if !is_suspected => Some(PrimaryState::Suspected(known)),
            ErrorClass::ServerSilent
            | ErrorClass::ConnectionSpent
            | ErrorClass::Passing
            | ErrorClass::Final
            | ErrorClass::Bug => None,
        });
        if left {
            warn!(generation, error = chain(error), "primary is lost");
        }
    }

    pub(super) fn answered(&self, generation: u64) {
        *lock(&self.last_writable) = Instant::now();
        self.turn(generation, |known, is_suspected| {
            is_suspected.then(|| {
                *lock(&self.available_since) = Instant::now();
                PrimaryState::Available(known)
            })
        });
    }

    /// Changes what is known of the server of `generation`, if it is still the one.
    fn turn(
        &self,
        generation: u64,
        next: impl FnOnce(Arc<KnownServer>, bool) -> Option<PrimaryState>,
    ) -> bool {
        self.view.send_if_modified(|view| {
            let (known, is_suspected) = match view {
                PrimaryState::Available(known) | PrimaryState::Reading(known) => (known, false),
                PrimaryState::Suspected(known) => (known, true),
                PrimaryState::Searching { .. } => return false,
            };
            let is_it = known.generation == generation;
            let next = is_it.then(|| next(Arc::clone(known), is_suspected));
            next.flatten().map(|next| *view = next).is_some()
        })
    }

    /// Says that a server answers, which accepts no writes, and may be read if it is `readable`.
    pub(super) fn some_server_answers(&self, readable: impl FnOnce() -> Option<Arc<KnownServer>>) {
        self.view.send_if_modified(|view| match view {
            PrimaryState::Searching { read_only } => {
                let next = readable();
                if next.as_ref().is_some_and(|it| it.staleness().is_some()) {
                    self.era.send_replace(String::new());
                }
                let next = next.map(PrimaryState::Reading);
                let is_news = !*read_only || next.is_some();
                *view = next.unwrap_or(PrimaryState::Searching { read_only: true });
                is_news
            }
            PrimaryState::Available(_) | PrimaryState::Suspected(_) | PrimaryState::Reading(_) => {
                false
            }
        });
    }
}
