//! Progress of a restore, reported at intervals.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

/// Interval of progress messages.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of a restore.
#[derive(Debug)]
pub(super) struct RestoreProgress {
    all_bytes: u64,
    bytes: AtomicU64,
    blobs: AtomicU64,
    reported_at: Mutex<Instant>,
}

impl RestoreProgress {
    /// Returns the progress of a restore of `all_bytes` that has not begun.
    pub(super) fn new(all_bytes: u64) -> Self {
        Self {
            all_bytes,
            bytes: AtomicU64::new(0),
            blobs: AtomicU64::new(0),
            reported_at: Mutex::new(Instant::now()),
        }
    }

    /// Counts a blob that is in its file, and reports the progress at intervals.
    pub(super) fn add(&self, bytes: u64) {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.blobs.fetch_add(1, Ordering::Relaxed);
        let mut reported_at = self
            .reported_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if reported_at.elapsed() >= REPORT_INTERVAL {
            *reported_at = Instant::now();
            let percent = bytes.saturating_mul(100) / self.all_bytes.max(1);
            info!(bytes, of = self.all_bytes, percent, "restore in progress");
        }
    }

    /// Returns the number of blobs that are in their files.
    pub(super) fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }
}
