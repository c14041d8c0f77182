//! Transfer rate of an object, as far as the bucket determines it: the reader's own time is
//! excluded.

use std::time::Duration;

use crate::storage::candidate::{HEDGE_BYTES_PER_SEC, HEDGE_SLOW_AFTER};

/// Measuring window after the first one: a lost packet costs a second or two, and abandoning a pack
/// means reading its beginning twice.
const LATER_WINDOW: Duration = Duration::from_secs(10);

/// Received bytes of one object, and the time spent waiting for them.
#[derive(Debug)]
pub(super) struct DownloadPace {
    bytes: u64,
    waited: Duration,
    window: Duration,
    all_bytes: u64,
    all_waited: Duration,
}

impl DownloadPace {
    /// Returns the pace of a transfer that has not begun.
    pub(super) fn new() -> Self {
        Self {
            bytes: 0,
            waited: Duration::ZERO,
            window: HEDGE_SLOW_AFTER,
            all_bytes: 0,
            all_waited: Duration::ZERO,
        }
    }

    /// Adds received bytes.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.all_bytes = self.all_bytes.saturating_add(bytes);
    }

    /// Adds time spent waiting for the bucket.
    pub(super) fn add_wait(&mut self, waited: Duration) {
        self.waited += waited;
        self.all_waited += waited;
    }

    /// Returns the remaining waiting time of the current window.
    pub(super) fn until_window_end(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }

    /// Ends the window, and returns its rate in bytes a second if that is too low.
    pub(super) fn end_window(&mut self) -> Option<u64> {
        let bytes_per_sec = per_second(self.bytes, self.waited);
        self.bytes = 0;
        self.waited = Duration::ZERO;
        self.window = LATER_WINDOW;
        (bytes_per_sec < HEDGE_BYTES_PER_SEC).then_some(bytes_per_sec)
    }

    /// Returns whether the whole transfer proves that the bucket is not slow: a few bytes prove
    /// nothing.
    pub(super) fn is_proven(&self) -> bool {
        self.all_bytes >= HEDGE_BYTES_PER_SEC
            && per_second(self.all_bytes, self.all_waited) >= HEDGE_BYTES_PER_SEC
    }
}

fn per_second(bytes: u64, waited: Duration) -> u64 {
    let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    bytes.saturating_mul(1000) / millis.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn too_little_in_a_window_then_slow() {
        let mut pace = DownloadPace::new();
        pace.add_bytes(600 << 10);
        pace.add_wait(2 * SECOND);
        assert_eq!(pace.until_window_end(), Duration::ZERO);
        assert_eq!(pace.end_window(), None);
        assert!(pace.is_proven());

        // Earlier bytes do not compensate for it.
        assert_eq!(pace.until_window_end(), LATER_WINDOW);
        pace.add_bytes(20_000);
        pace.add_wait(LATER_WINDOW);
        assert_eq!(pace.end_window(), Some(2000));
        assert!(!pace.is_proven());
    }

    #[test]
    fn few_bytes_at_once_then_nothing_proven() {
        let mut pace = DownloadPace::new();
        pace.add_bytes(1000);
        assert!(!pace.is_proven());
    }
}
