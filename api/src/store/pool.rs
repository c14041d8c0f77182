//! Connections to the primary, lent one at a time. Those of a primary that was left are closed, and
//! never lent.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{self, Instant};

use super::connect::{Connection, Connector};
use super::failure::Failure;
use super::primary::{Known, Primary, View};
use super::queries::Effect;
use crate::metrics::Metrics;

/// How long a request waits for a connection while the primary is well. A longer queue than this
/// would only make every answer late.
const LOAN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection is used. Backends that live for ever only grow.
const LIFETIME_SECS: u64 = 15 * 60;
/// How far chance moves the end of a life, so that connections do not all end together.
const LIFETIME_SPREAD_SECS: u64 = 3 * 60;

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
    idle: Mutex<Vec<Pooled>>,
}

#[derive(Debug)]
struct Pooled {
    connection: Connection,
    generation: u64,
    lifetime: Duration,
}

/// A connection that is lent. Dropped, it is closed, since something may still be under way on it;
/// only [`Loan::give_back`] keeps it.
#[derive(Debug)]
pub(super) struct Loan {
    pooled: Pooled,
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
    pub(super) async fn lend(&self, deadline: Instant) -> Result<Loan, Failure> {
        let shared = &self.shared;
        let began = Instant::now();
        let permit = self.permit(deadline).await?;
        let known = shared.primary.known(deadline).await?;
        shared
            .metrics
            .db_pool_wait
            .observe(began.elapsed().as_secs_f64());
        let pooled = match shared.take(known.generation) {
            Some(pooled) => pooled,
            None => match shared.open(&known).await {
                Ok(pooled) => pooled,
                Err(failure) => {
                    shared.primary.heed(known.generation, failure.meaning());
                    return Err(failure);
                }
            },
        };
        Ok(Loan {
            pooled,
            shared: Arc::clone(shared),
            permit,
        })
    }

    /// Waits for a free place: not for longer than [`LOAN_TIMEOUT`] while the primary is well, and
    /// until `deadline` while it is not, since then the places are held by those who wait for it.
    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let mut acquiring = Box::pin(Arc::clone(&self.shared.permits).acquire_owned());
        loop {
            let until = deadline.min(Instant::now() + LOAN_TIMEOUT);
            match time::timeout_at(until, &mut acquiring).await {
                Ok(Ok(permit)) => return Ok(permit),
                Ok(Err(_closed)) => return Err(Failure::PoolExhausted),
                Err(_elapsed) => {}
            }
            match self.shared.primary.view() {
                View::Searching { read_only } if Instant::now() >= deadline => {
                    return Err(Failure::NoPrimary { read_only });
                }
                View::Suspected(_) if Instant::now() >= deadline => {
                    return Err(Failure::NoPrimary { read_only: false });
                }
                View::Searching { .. } | View::Suspected(_) => {}
                View::Known(_) => return Err(Failure::PoolExhausted),
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
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Pooled>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection that was used last, and closes those that are of no more use.
    fn take(&self, generation: u64) -> Option<Pooled> {
        let mut idle = self.idle();
        if idle.last().is_some_and(|it| it.generation != generation) {
            idle.retain(|it| it.generation == generation);
        }
        while let Some(pooled) = idle.pop() {
            if pooled.is_of_use() {
                return Some(pooled);
            }
        }
        None
    }

    async fn open(&self, known: &Known) -> Result<Pooled, Failure> {
        let opening = self.connector.connect(&known.address, &known.ends);
        let (connection, answer) = opening.await?;
        if !answer.writable {
            return Err(Failure::ReadOnly);
        }
        let spread = rand::rng().random_range(0..=2 * LIFETIME_SPREAD_SECS);
        Ok(Pooled {
            connection,
            generation: known.generation,
            lifetime: Duration::from_secs(LIFETIME_SECS - LIFETIME_SPREAD_SECS + spread),
        })
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
    pub(super) fn connection(&self) -> &Connection {
        &self.pooled.connection
    }

    /// Returns the generation of the primary that it is connected to.
    pub(super) fn generation(&self) -> u64 {
        self.pooled.generation
    }

    /// Keeps the connection for the next request. Nothing is under way on it any more.
    pub(super) fn give_back(self) {
        let Self {
            pooled,
            shared,
            permit,
        } = self;
        if pooled.is_of_use() {
            shared.idle().push(pooled);
        }
        // Whoever waits for a place finds the connection there.
        drop(permit);
    }

    /// Ends the connection, on which something is still under way.
    pub(super) fn abandon(self, effect: Effect) {
        self.shared
            .connector
            .abandon(&self.pooled.connection, effect);
    }
}

impl Pooled {
    fn is_of_use(&self) -> bool {
        !self.connection.is_closed() && self.connection.age() < self.lifetime
    }
}
