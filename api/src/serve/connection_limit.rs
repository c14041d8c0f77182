//! The connection limit, and eviction above it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::metrics::Metrics;

/// Slots above the limit, for probes: several times as many as a service has at one moment.
const RESERVED_SLOTS: usize = 64;
/// File descriptors of everything else: listeners, runtime, log, cache.
const OTHER_DESCRIPTORS: usize = 64;

/// Slots for connections.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    slots: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    /// Wakes reserved connections in the order of their arrival.
    evictions: Notify,
    /// The number of new connections without a slot.
    waiting: AtomicUsize,
    metrics: Metrics,
}

/// One connection's slot, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    pub(super) is_reserved: bool,
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

    /// Returns a slot for an accepted connection. Above the limit that is a reserved one, for one request;
    /// with all of those taken, the oldest that has sent no request is evicted.
    pub(super) async fn acquire(self: &Arc<Self>) -> ConnectionSlot {
        let slot = |permit, is_reserved| ConnectionSlot {
            limit: Arc::clone(self),
            is_reserved,
            _permit: permit,
        };
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return slot(Some(permit), false);
        }
        self.metrics.http_connections_rejected.inc();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.reserved.available_permits() == 0 {
            self.metrics.http_connections_evicted.inc();
            self.evictions.notify_one();
        }
        let permit = Arc::clone(&self.reserved).acquire_owned().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        slot(permit.ok(), true)
    }

    /// Returns whether a new connection would get a reserved slot.
    pub(super) fn is_reached(&self) -> bool {
        self.slots.available_permits() == 0
    }
}

impl ConnectionSlot {
    /// Returns the limit that a regular slot is a part of.
    pub(super) fn limit(&self) -> Option<Arc<ConnectionLimit>> {
        (!self.is_reserved).then(|| Arc::clone(&self.limit))
    }

    /// Waits until another connection needs the slot; a regular one is never needed.
    pub(super) async fn evicted(&self) {
        if !self.is_reserved {
            std::future::pending::<()>().await;
        }
        loop {
            self.limit.evictions.notified().await;
            // A connection that ended may have freed the slot.
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
            "connection limit lowered: raise the limit of open files, or lower `MAX_CONNECTIONS`"
        );
    }
    room.min(wanted)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn eviction_not_needed_then_none_evicted() {
        let limit = ConnectionLimit::new(0, Metrics::new().unwrap());
        let mut slots = Vec::new();
        for _ in 0..RESERVED_SLOTS {
            slots.push(limit.acquire().await);
        }
        let (probe, ()) = tokio::join!(limit.acquire(), async { drop(slots.pop()) });
        assert!(probe.evicted().now_or_never().is_none());
    }
}
