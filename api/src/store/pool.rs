//! Connections to the primary, each lent to one statement at a time: for writes, and for whatever
//! takes long. Those of a primary that was left are closed, and never lent.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};

use super::connect::{ConnectError, Connector};
use super::failure::Failure;
use super::opened::Opened;
use super::primary::{Known, Primary};
use super::queries::Effect;
use crate::metrics::Metrics;

/// How long a request waits for a connection while the primary is well. A longer queue than this
/// would only make every answer late.
const LOAN_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connector: Connector,
    primary: Primary,
    metrics: Metrics,
    permits: Arc<Semaphore>,
    size: usize,
    idle: Mutex<Vec<Opened>>,
}

/// A connection that is lent. Dropped, it is closed, since something may still be under way on it;
/// only [`Loan::give_back`] keeps it.
#[derive(Debug)]
pub(super) struct Loan {
    opened: Opened,
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(
        size: usize,
        connector: Connector,
        primary: Primary,
        metrics: Metrics,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                connector,
                primary,
                metrics,
                permits: Arc::new(Semaphore::new(size)),
                size,
                idle: Mutex::default(),
            }),
        }
    }

    /// Lends a connection to the primary, waiting for one until `deadline`.
    pub(super) async fn lend(&self, effect: Effect, deadline: Instant) -> Result<Loan, Failure> {
        let shared = &self.shared;
        let began = Instant::now();
        let permit = self.permit(deadline).await?;
        let known = shared.primary.known(effect, deadline).await?;
        shared
            .metrics
            .db_pool_wait
            .observe(began.elapsed().as_secs_f64());
        match shared.take(known.generation) {
            Some(opened) => Ok(Loan {
                opened,
                shared: Arc::clone(shared),
                permit,
            }),
            None => self.open(known, permit, deadline).await,
        }
    }

    /// Opens a connection and lends it. If it is open too late for this request, it is the next one's:
    /// when many wait, each would otherwise open one in vain.
    async fn open(
        &self,
        known: Arc<Known>,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Loan, Failure> {
        let began = Instant::now();
        let shared = Arc::clone(&self.shared);
        let (lender, borrower) = oneshot::channel();
        let tasks = &self.shared.connector.tasks;
        tasks.start("connect", |_stop| async move {
            let opened = Opened::to(&known, &shared.connector, &shared.primary).await;
            let loan = opened.map(|opened| Loan {
                opened,
                shared,
                permit,
            });
            if let Err(Ok(unwanted)) = lender.send(loan) {
                unwanted.give_back();
            }
        });
        match time::timeout_at(deadline, borrower).await {
            Ok(Ok(loan)) => loan,
            Ok(Err(_)) | Err(_) => Err(ConnectError::OutOfTime(began.elapsed()).into()),
        }
    }

    /// Waits for a free place: until `deadline`, and not for longer than [`LOAN_TIMEOUT`] of a time in
    /// which the primary was well. While it is not, the places are held by those who wait for it; and
    /// when it is back, all who have come meanwhile are waiting, and that is no sign of overload.
    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let primary = &self.shared.primary;
        let began = Instant::now();
        let give_up_at = || deadline.min(began.max(primary.well_since()) + LOAN_TIMEOUT);
        let mut acquiring = Box::pin(Arc::clone(&self.shared.permits).acquire_owned());
        loop {
            match time::timeout_at(give_up_at(), &mut acquiring).await {
                Ok(Ok(permit)) => return Ok(permit),
                Ok(Err(_closed)) => return Err(Failure::PoolExhausted),
                Err(_elapsed) if Instant::now() < give_up_at() => {}
                Err(_elapsed) => return Err(primary.absence().unwrap_or(Failure::PoolExhausted)),
            }
        }
    }

    /// Writes how many connections there are to the metrics.
    pub(super) fn report(&self) {
        self.shared.report();
    }

    /// Closes the idle connections and lends no more.
    pub(super) fn close(&self) {
        self.shared.permits.close();
        drop(mem::take(&mut *self.shared.idle()));
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Opened>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection that was used last, and closes those that are of no more use.
    fn take(&self, generation: u64) -> Option<Opened> {
        let mut idle = self.idle();
        if idle.last().is_some_and(|it| it.generation != generation) {
            idle.retain(|it| it.generation == generation);
        }
        while let Some(opened) = idle.pop() {
            if opened.is_of_use() {
                return Some(opened);
            }
        }
        None
    }

    fn report(&self) {
        let connections = &self.metrics.db_pool_connections;
        let idle = i64::try_from(self.idle().len()).unwrap_or(i64::MAX);
        let lent = self.size.saturating_sub(self.permits.available_permits());
        let lent = i64::try_from(lent).unwrap_or(i64::MAX);
        connections.with_label_values(&["idle"]).set(idle);
        connections.with_label_values(&["lent"]).set(lent);
    }
}

impl Loan {
    /// Returns the connection.
    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Keeps the connection for the next request. Nothing is under way on it any more.
    pub(super) fn give_back(self) {
        let Self {
            opened,
            shared,
            permit,
        } = self;
        if opened.is_of_use() {
            shared.idle().push(opened);
        }
        // Whoever waits for a place finds the connection there.
        drop(permit);
    }

    /// Leaves the connection to what is still under way on it. A write is let run, for `patience`,
    /// and its connection is kept: were it closed, whoever comes next would have to open another.
    pub(super) fn leave(self, effect: Effect, patience: Duration) {
        if effect == Effect::Reads {
            return self.abandon(effect);
        }
        let tasks = self.shared.connector.tasks.clone();
        tasks.start("late answer", |_stop| async move {
            let settled = time::timeout(patience, self.opened.connection.settle()).await;
            if let Ok(Ok(())) = settled {
                self.give_back();
            }
        });
    }

    /// Ends the connection, on which something is still under way.
    pub(super) fn abandon(self, effect: Effect) {
        self.shared
            .connector
            .abandon(&self.opened.connection, effect);
    }
}
