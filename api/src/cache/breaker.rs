//! The circuit breaker: when Redis is asked, and when it is left alone. A rule without a clock and
//! without a socket.

use std::time::Duration;

use tokio::time::Instant;

/// This many failures without a success between them open the breaker.
const FAILURES_TO_OPEN: u32 = 5;
/// How long it stays open before one request probes.
const OPEN_FOR: Duration = Duration::from_secs(5);
/// How long a probe holds the others up, if its client leaves and nothing is heard of it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Open, and when the next probe may be sent.
    probe_at: Option<Instant>,
}

impl Breaker {
    /// Returns whether a request may be sent at `now`.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        match self.probe_at {
            None => true,
            Some(at) if now < at => false,
            Some(_reached) => {
                self.probe_at = Some(now + PROBE_TIMEOUT);
                true
            }
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.is_open() || self.failures >= FAILURES_TO_OPEN {
            self.open(now);
        }
    }

    pub(super) fn open(&mut self, now: Instant) {
        self.failures = FAILURES_TO_OPEN;
        self.probe_at = Some(now + OPEN_FOR);
    }

    pub(super) fn is_open(&self) -> bool {
        self.probe_at.is_some()
    }

    /// Returns whether the last request succeeded.
    pub(super) fn is_well(&self) -> bool {
        self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_then_open() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        (0..4).for_each(|_| breaker.failed(now));
        assert!(!breaker.is_open() && !breaker.is_well());
        breaker.succeeded();
        (0..4).for_each(|_| breaker.failed(now));
        assert!(breaker.allows(now));
        breaker.failed(now);
        assert!(breaker.is_open() && !breaker.allows(now));
    }

    #[test]
    fn open_for_five_seconds_then_one_probe() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.open(now);
        assert!(!breaker.allows(now + Duration::from_secs(4)));

        let later = now + OPEN_FOR;
        assert!(breaker.allows(later) && !breaker.allows(later));
        breaker.failed(later);
        assert!(!breaker.allows(later + Duration::from_secs(4)));

        let later = later + OPEN_FOR;
        assert!(breaker.allows(later));
        // The client of the probe left.
        assert!(breaker.allows(later + PROBE_TIMEOUT));
        breaker.succeeded();
        assert!(breaker.allows(later) && breaker.is_well());
    }
}
