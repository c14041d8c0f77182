//! The number of requests in progress, and load shedding above it.

use prometheus::IntGauge;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::metrics::GaugeGuard;
use crate::problem::{Kind, Problem};

/// Counts the requests in progress, and rejects those above the limit.
#[derive(Debug)]
pub(crate) struct LoadLimit {
    /// Those in progress that are no probes: a scrape takes no client's place.
    in_flight: IntGauge,
    max_in_flight: i64,
    /// As many bodies that take memory while they arrive as requests may be in progress.
    long_bodies: Semaphore,
}

impl LoadLimit {
    pub(crate) fn new(in_flight: IntGauge, max_in_flight: usize) -> Self {
        Self {
            in_flight,
            max_in_flight: i64::try_from(max_in_flight).unwrap_or(i64::MAX),
            long_bodies: Semaphore::new(max_in_flight),
        }
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin_request(&self) -> GaugeGuard<'_> {
        GaugeGuard::add(&self.in_flight, 1)
    }

    /// Rejects a request above the limit.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        if self.in_flight.get() > self.max_in_flight {
            return Err(overloaded("too many requests are in progress"));
        }
        Ok(())
    }

    /// Waits for the body of a request, which does not count as in progress meanwhile, and rejects it if too
    /// many are in progress by then.
    pub(crate) async fn wait_for_body<T>(
        &self,
        body: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        let waiting = GaugeGuard::add(&self.in_flight, -1);
        let body = body.await;
        drop(waiting);
        self.check().map(|()| body)
    }

    /// Reserves memory for a long body, or rejects it.
    pub(crate) fn begin_long_body(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let permit = self.long_bodies.try_acquire();
        permit.map_err(|_no_permits| overloaded("too many long bodies are arriving"))
    }
}

/// Returns a problem with `Retry-After`.
pub(crate) fn overloaded(reason: &str) -> Problem {
    Problem::new(Kind::Overloaded, format!("{reason}; try again in a moment"))
}
