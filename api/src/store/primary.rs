//! Who the primary is. One task asks the servers, so that a thousand requests need not.
//!
//! While a primary is known it is asked once a second whether it still takes writes. Whoever finds it
//! gone says so with [`Primary::heed`]; then every server is asked at once, over and over, and of those
//! that take writes the one on the highest timeline is the primary. Requests wait for that, and are woken
//! by it. A lower timeline than one that was seen, and another database, are never gone to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::chain;
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connect::{Address, Connector};
use super::connection::{Answer, Connection};
use super::failure::{Failure, Meaning};
use super::keeper::Keeper;
use super::lock;
use super::queries::Effect;
use crate::config::Database;
use crate::metrics::Metrics;

/// How long a request waits for a primary that has been away for longer than a failover takes. A
/// primary that only refuses writes is read after as long.
pub(super) const KNOWN_ABSENCE: Duration = Duration::from_secs(1);
/// How many times the grace of `/readyz` a database has been away when no failover is under way.
const FAILOVERS: u32 = 3;

/// A server that accepts writes, or did when it was last asked; or one that may be read meanwhile.
#[derive(Debug)]
pub(super) struct Known {
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

impl Known {
    /// Returns whether a new connection leads to the same server, in the same role.
    pub(super) fn check(&self, answer: &Answer) -> Result<(), Failure> {
        if self.answer.writable && !answer.writable {
            return Err(Failure::ReadOnly);
        }
        if self.answer.history() != answer.history() {
            let why = "another server answers at this address by now";
            return Err(Failure::OtherServer(why.to_owned()));
        }
        Ok(())
    }

    /// Returns which run of which server it is.
    pub(super) fn run(&self) -> (&str, (Option<&str>, Option<u32>)) {
        (&self.answer.started_at, self.answer.history())
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
pub(super) enum View {
    /// It answers and accepts writes.
    Known(Arc<Known>),
    /// It has not answered in time. Others are asked too, and nothing new is sent to it.
    Suspected(Arc<Known>),
    /// There is none, and this server may be read.
    Reading(Arc<Known>),
    /// There is none.
    Searching {
        /// Whether some server answers.
        read_only: bool,
    },
}

/// The place where the primary is looked up, reported missing, and found again.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    pub(super) view: Arc<watch::Sender<View>>,
    /// What identifies the history and the run of the last primary. Empty before the first, and while a
    /// standby is read.
    pub(super) era: Arc<watch::Sender<String>>,
    pub(super) last_writable: Arc<Mutex<Instant>>,
    /// When the primary that is known came, or came back to its senses.
    pub(super) came: Arc<Mutex<Instant>>,
    /// Why each server cannot be used, as it was last seen.
    pub(super) troubles: Arc<Mutex<BTreeMap<String, String>>>,
    /// How long a failover may take.
    grace: Duration,
}

impl Primary {
    /// Starts looking for the primary, and never stops.
    pub(super) fn start(
        settings: &Database,
        connector: Connector,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        let primary = Self {
            view: Arc::new(watch::Sender::new(View::Searching { read_only: false })),
            era: Arc::default(),
            last_writable: Arc::new(Mutex::new(Instant::now())),
            came: Arc::new(Mutex::new(Instant::now())),
            troubles: Arc::default(),
            // A lease runs out, and a promotion takes its time: requests wait for both.
            grace: FAILOVERS * settings.ready_grace,
        };
        let keeper = Keeper::new(settings, connector, metrics, primary.clone());
        tasks.start("primary", |stop| async move {
            tokio::select! {
                never = keeper.run() => match never {},
                () = stop.cancelled() => {}
            }
        });
        primary
    }

    /// Returns the server for a statement, waiting for one until `deadline`; or for a moment, where
    /// there has been none for longer than a failover takes.
    pub(super) async fn known(
        &self,
        effect: Effect,
        deadline: Instant,
    ) -> Result<Arc<Known>, Failure> {
        if let View::Known(known) = &*self.view.borrow() {
            return Ok(Arc::clone(known));
        }
        let mut view = self.view.subscribe();
        let began = Instant::now();
        loop {
            match &*view.borrow_and_update() {
                View::Known(known) => return Ok(Arc::clone(known)),
                View::Reading(known) if effect == Effect::Reads => return Ok(Arc::clone(known)),
                View::Suspected(_) | View::Reading(_) | View::Searching { .. } => {}
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
    pub(super) fn absence(&self) -> Option<Failure> {
        let read_only = match &*self.view.borrow() {
            View::Known(_) => return None,
            View::Suspected(_) => false,
            View::Reading(_) => true,
            View::Searching { read_only } => *read_only,
        };
        Some(Failure::NoPrimary { read_only })
    }

    /// Returns since when statements could be sent to the primary, which is now if they cannot be.
    pub(super) fn well_since(&self) -> Instant {
        match self.absence() {
            None => *lock(&self.came),
            Some(_) => Instant::now(),
        }
    }

    /// Returns once the server of `generation` is not the one to ask.
    pub(super) async fn left(&self, generation: u64) {
        let is_left = |view: &View| match view {
            View::Known(it) | View::Reading(it) => it.generation != generation,
            View::Suspected(_) | View::Searching { .. } => true,
        };
        // It cannot be closed: the other end is here too.
        self.view.subscribe().wait_for(is_left).await.ok();
    }

    /// Returns what is known now.
    pub(super) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Returns how long ago a server last said that it accepts writes.
    pub(super) fn away_for(&self) -> Duration {
        lock(&self.last_writable).elapsed()
    }

    /// Returns how old the rows can be that are read now, if they are a standby's.
    pub(super) fn staleness(&self) -> Option<Duration> {
        match &*self.view.borrow() {
            View::Reading(known) => known.staleness(),
            View::Known(_) | View::Suspected(_) | View::Searching { .. } => None,
        }
    }

    /// Returns why each server cannot be used, as it was last seen.
    pub(super) fn troubles(&self) -> String {
        let troubles = lock(&self.troubles);
        let each = troubles.iter().map(|(it, why)| format!("{it}: {why}"));
        each.collect::<Vec<_>>().join("; ")
    }

    /// Draws the conclusion from a failure on a connection of `generation`: its server is gone, accepts
    /// no writes, or does not answer. If there is another by now, nothing happens.
    pub(super) fn heed(&self, generation: u64, failure: &Failure) {
        let meaning = failure.meaning();
        let left = self.turn(generation, |known, is_suspected| match meaning {
            Meaning::ServerLost => Some(View::Searching { read_only: false }),
            Meaning::ServerReadOnly => Some(View::Searching { read_only: true }),
            // One that is only read is left.
            Meaning::ServerSilent if !known.answer.writable => {
                Some(View::Searching { read_only: false })
            }
            Meaning::ServerSilent if !is_suspected => Some(View::Suspected(known)),
            Meaning::ServerSilent
            | Meaning::ConnectionSpent
            | Meaning::Passing
            | Meaning::Final
            | Meaning::Bug => None,
        });
        if left {
            warn!(generation, error = chain(failure), "primary is lost");
        }
    }

    pub(super) fn answered(&self, generation: u64) {
        *lock(&self.last_writable) = Instant::now();
        self.turn(generation, |known, is_suspected| {
            is_suspected.then(|| {
                *lock(&self.came) = Instant::now();
                View::Known(known)
            })
        });
    }

    /// Changes what is known of the server of `generation`, if it is still the one.
    fn turn(&self, generation: u64, next: impl FnOnce(Arc<Known>, bool) -> Option<View>) -> bool {
        self.view.send_if_modified(|view| {
            let (known, is_suspected) = match view {
                View::Known(known) | View::Reading(known) => (known, false),
                View::Suspected(known) => (known, true),
                View::Searching { .. } => return false,
            };
            let is_it = known.generation == generation;
            let next = is_it.then(|| next(Arc::clone(known), is_suspected));
            next.flatten().map(|next| *view = next).is_some()
        })
    }

    /// Says that a server answers, which accepts no writes, and may be read if it is `readable`.
    pub(super) fn some_server_answers(&self, readable: impl FnOnce() -> Option<Arc<Known>>) {
        self.view.send_if_modified(|view| match view {
            View::Searching { read_only } => {
                let next = readable();
                if next.as_ref().is_some_and(|it| it.staleness().is_some()) {
                    self.era.send_replace(String::new());
                }
                let next = next.map(View::Reading);
                let is_news = !*read_only || next.is_some();
                *view = next.unwrap_or(View::Searching { read_only: true });
                is_news
            }
            View::Known(_) | View::Suspected(_) | View::Reading(_) => false,
        });
    }
}
