//! The state of a connection, as its service sees it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The state of a connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    requests: AtomicU32,
    is_answering: AtomicBool,
}

impl ConnectionState {
    pub(super) fn begin_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.is_answering.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_request(&self) {
        self.is_answering.store(false, Ordering::Relaxed);
    }

    /// Returns whether a request is being answered, and what is read belongs to its body.
    pub(super) fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// Returns the number of requests so far.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}
