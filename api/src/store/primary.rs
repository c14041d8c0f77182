//! The state of the primary, which one task keeps for all requests.
//!
//! A known primary is queried once a second. A statement that fails on it reports [`Primary::record_error`];
//! then all servers are queried at once, repeatedly, and of those that accept writes the one on the highest
//! timeline is the primary. Requests wait for it. A server on a lower timeline than before, or of another
//! database, is never used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::telemetry::chain;
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connect::Address;
use super::connection::{Connection, ServerStatus};
use super::lock::lock;
use super::queries::Effect;
use super::query_error::{ErrorClass, QueryError};

/// Time for which a request waits for a primary that has been absent for longer than a failover takes. A primary that
/// only rejects writes is read after the same time.
pub(super) const KNOWN_ABSENCE: Duration = Duration::from_secs(1);
/// After this many times the grace period of `/readyz` without a primary, no failover is expected.
const FAILOVERS: u32 = 3;

/// A server that accepts writes, or did when it was last queried; or a primary that only rejects them.
#[derive(Debug)]
pub(super) struct KnownServer {
    /// Rises whenever connections that were opened before must not be used again.
    pub(super) generation: u64,
    pub(super) address: Address,
    /// Its status when it was found.
    pub(super) status: ServerStatus,
    /// Ends every connection of this generation.
    pub(super) ends: CancellationToken,
    /// The connection on which its status is queried.
    pub(super) monitor: Arc<Connection>,
}

impl KnownServer {
    /// Returns whether a new connection leads to the same server, in the same role.
    pub(super) fn check(&self, status: &ServerStatus) -> Result<(), QueryError> {
        if self.status.writable && !status.writable {
            return Err(QueryError::ReadOnly);
        }
        if self.status.history() != status.history() {
            let why = "another server answers at this address now";
            return Err(QueryError::OtherServer(why.to_owned()));
        }
        Ok(())
    }
}

/// The known state of the primary.
#[derive(Clone, Debug)]
pub(super) enum PrimaryState {
    /// The server responds and accepts writes.
    Available(Arc<KnownServer>),
    /// The server did not respond in time. Others are queried too, and no statement is sent to this one.
    Suspected(Arc<KnownServer>),
    /// The server only rejects writes, and may be read.
    Reading(Arc<KnownServer>),
    /// There is none.
    Searching {
        /// Whether some server answers.
        read_only: bool,
    },
}

/// The shared state of the primary.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    pub(super) view: Arc<watch::Sender<PrimaryState>>,
    /// The history and the run of the last primary. Empty before the first.
    pub(super) era: Arc<watch::Sender<String>>,
    pub(super) last_writable: Arc<Mutex<Instant>>,
    /// Time when the current primary was found or last became responsive.
    pub(super) available_since: Arc<Mutex<Instant>>,
    /// The last error of each server.
    pub(super) server_errors: Arc<Mutex<BTreeMap<String, String>>>,
    /// The longest time for a failover.
    grace: Duration,
}

impl Primary {
    /// Returns the state before the first search.
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

    /// Returns the server for a statement, waiting for one until `deadline`, or at most [`KNOWN_ABSENCE`]
    /// where the failover is overdue.
    pub(super) async fn server_for(
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

    /// Returns why no statement can be sent to the primary now, or `None`.
    pub(super) fn absence(&self) -> Option<QueryError> {
        let read_only = match &*self.view.borrow() {
            PrimaryState::Available(_) => return None,
            PrimaryState::Suspected(_) => false,
            PrimaryState::Reading(_) => true,
            PrimaryState::Searching { read_only } => *read_only,
        };
        Some(QueryError::NoPrimary { read_only })
    }

    /// Returns the time since which the primary is available: now, if it is not.
    pub(super) fn available_since(&self) -> Instant {
        match self.absence() {
            None => *lock(&self.available_since),
            Some(_) => Instant::now(),
        }
    }

    /// Waits until the server of `generation` is no longer the one to use.
    pub(super) async fn left(&self, generation: u64) {
        let is_left = |view: &PrimaryState| match view {
            PrimaryState::Available(known) | PrimaryState::Reading(known) => {
                known.generation != generation
            }
            PrimaryState::Suspected(_) | PrimaryState::Searching { .. } => true,
        };
        // The channel is open: `self` has its sender.
        self.view.subscribe().wait_for(is_left).await.ok();
    }

    pub(super) fn view(&self) -> PrimaryState {
        self.view.borrow().clone()
    }

    /// Returns the time since a server last accepted writes.
    pub(super) fn absent_for(&self) -> Duration {
        lock(&self.last_writable).elapsed()
    }

    pub(super) fn server_errors(&self) -> String {
        let server_errors = lock(&self.server_errors);
        let each = server_errors
            .iter()
            .map(|(server, error)| format!("{server}: {error}"));
        each.collect::<Vec<_>>().join("; ")
    }

    /// Changes the state after an error on a connection of `generation`: the server is lost, read-only or
    /// unresponsive. An error of an earlier generation changes nothing.
    pub(super) fn record_error(&self, generation: u64, error: &QueryError) {
        let class = error.class();
        let left = self.update(generation, |known, is_suspected| match class {
            ErrorClass::ServerLost => Some(PrimaryState::Searching { read_only: false }),
            ErrorClass::ServerReadOnly => Some(PrimaryState::Searching { read_only: true }),
            // A read-only server is left at once.
            ErrorClass::ServerSilent if !known.status.writable => {
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
            warn!(generation, error = chain(error), "primary lost");
        }
    }

    pub(super) fn answered(&self, generation: u64) {
        *lock(&self.last_writable) = Instant::now();
        self.update(generation, |known, is_suspected| {
            is_suspected.then(|| {
                *lock(&self.available_since) = Instant::now();
                PrimaryState::Available(known)
            })
        });
    }

    /// Changes the state of the server of `generation`, if it is the current one.
    fn update(
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

    /// Records that a read-only server answers, which may be read if it is `readable`.
    pub(super) fn record_read_only(&self, readable: impl FnOnce() -> Option<Arc<KnownServer>>) {
        self.view.send_if_modified(|view| match view {
            PrimaryState::Searching { read_only } => {
                let next = readable().map(PrimaryState::Reading);
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
