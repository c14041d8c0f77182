//! The number of connections, and what happens above it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::metrics::Metrics;

/// The slots above the limit, for probes: several times those that a service has at one moment.
const RESERVED_SLOTS: usize = 64;
/// File descriptors of the rest: listeners, the runtime, the log, the cache.
const OTHER_DESCRIPTORS: usize = 64;

/// Slots for connections.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    slots: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    /// Woken in the order in which they came.
    evictions: Notify,
    /// The new connections for which there is no slot.
    waiting: AtomicUsize,
    metrics: Metrics,
}

/// One connection's slot, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    is_reserved: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionLimit {
    pub(crate) fn new(max: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(max)),
            reserved: Arc::new(Semaphore::new(RESERVED_SLOTS)),
            evictions: Notify::new(),
            waiting: AtomicUsize::new(0),
            metrics,
        })
    }

    /// Returns a slot for a connection that was accepted. Above the limit that is a reserved one, for
    /// one request; with all of those taken, the oldest that has not asked yet is evicted.
    pub(super) async fn acquire(self: &Arc<Self>) -> ConnectionSlot {
        let slot = |permit, is_reserved| ConnectionSlot {
            limit: Arc::clone(self),
            is_reserved,
            _permit: permit,
        };
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return slot(Some(permit), false);
        }
        self.metrics.http_connections_refused.inc();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.reserved.available_permits() == 0 {
            self.metrics.http_connections_displaced.inc();
            self.evictions.notify_one();
        }
        let permit = Arc::clone(&self.reserved).acquire_owned().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        slot(permit.ok(), true)
    }

    /// Returns whether a new connection would find only a reserved slot.
    pub(super) fn is_reached(&self) -> bool {
        self.slots.available_permits() == 0
    }
}

impl ConnectionSlot {
    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// Returns the limit that a regular slot is a part of.
    pub(super) fn limit(&self) -> Option<Arc<ConnectionLimit>> {
        (!self.is_reserved).then(|| Arc::clone(&self.limit))
    }

    /// Waits until the slot is needed for another connection; a regular one never is.
    pub(super) async fn evicted(&self) {
        if !self.is_reserved {
            std::future::pending::<()>().await;
        }
        loop {
            self.limit.evictions.notified().await;
            // The slot of one that was ending may have been enough.
            if self.limit.waiting.load(Ordering::Relaxed) > 0 {
                return;
            }
        }
    }
}

/// Returns how many of `wanted` connections fit beside `to_database` others. The process raises its
/// own limit of open files as far as the administrator allows.
pub(crate) fn max_connections(wanted: usize, to_database: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return wanted;
    };
    let is_raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = usize::try_from(if is_raised { hard } else { soft }).unwrap_or(usize::MAX);
    let room = limit
        .saturating_sub(OTHER_DESCRIPTORS + RESERVED_SLOTS + to_database)
        .max(1);
    if room < wanted {
        warn!(
            wanted,
            room,
            limit,
            "fewer connections fit than `MAX_CONNECTIONS`: raise the limit of open files, or lower it"
        );
    }
    room.min(wanted)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn eviction_that_was_not_needed_then_nobody_is_evicted() {
        let limit = ConnectionLimit::new(0, Metrics::new().unwrap());
        let mut slots = Vec::new();
        for _ in 0..RESERVED_SLOTS {
            slots.push(limit.acquire().await);
        }
        let (probe, ()) = tokio::join!(limit.acquire(), async { drop(slots.pop()) });
        assert!(probe.evicted().now_or_never().is_none());
    }
}
