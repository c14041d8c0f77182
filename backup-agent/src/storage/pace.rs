//! How fast an object comes, as far as its bucket is to blame: what its reader takes is not counted.

use std::time::Duration;

use crate::storage::candidate::{HEDGE_BYTES_PER_SEC, HEDGE_SLOW_AFTER};

/// For how long what comes is looked at together after the first look: a packet that is lost on the way
/// costs a second or two, and leaving a pack means to read its beginning twice.
const LATER_WINDOW: Duration = Duration::from_secs(10);

/// How much of one object has come, and how long that was waited for.
#[derive(Debug)]
pub(super) struct DownloadPace {
    bytes: u64,
    waited: Duration,
    window: Duration,
    all_bytes: u64,
    all_waited: Duration,
}

impl DownloadPace {
    /// Returns the pace of what has not begun.
    pub(super) fn new() -> Self {
        Self {
            bytes: 0,
            waited: Duration::ZERO,
            window: HEDGE_SLOW_AFTER,
            all_bytes: 0,
            all_waited: Duration::ZERO,
        }
    }

    /// Takes in that `bytes` came.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.all_bytes = self.all_bytes.saturating_add(bytes);
    }

    /// Takes in that the bucket was waited for.
    pub(super) fn add_wait(&mut self, waited: Duration) {
        self.waited += waited;
        self.all_waited += waited;
    }

    /// Returns how long the bucket may be waited for until it is time to look.
    pub(super) fn until_look(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }

    /// Looks at what came since it was last looked, and returns how many bytes a second that is, if it is
    /// too little.
    pub(super) fn look(&mut self) -> Option<u64> {
        let bytes_per_sec = per_second(self.bytes, self.waited);
        self.bytes = 0;
        self.waited = Duration::ZERO;
        self.window = LATER_WINDOW;
        (bytes_per_sec < HEDGE_BYTES_PER_SEC).then_some(bytes_per_sec)
    }

    /// Says whether all that came shows that its bucket is not slow: a few bytes show nothing.
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
        assert_eq!(pace.until_look(), Duration::ZERO);
        assert_eq!(pace.look(), None);
        assert!(pace.is_proven());

        // What came before does not outweigh it.
        assert_eq!(pace.until_look(), LATER_WINDOW);
        pace.add_bytes(20_000);
        pace.add_wait(LATER_WINDOW);
        assert_eq!(pace.look(), Some(2000));
        assert!(!pace.is_proven());
    }

    #[test]
    fn few_bytes_at_once_then_nothing_proven() {
        let mut pace = DownloadPace::new();
        pace.add_bytes(1000);
        assert!(!pace.is_proven());
    }
}
