//! Monotonic time as a value: nothing in this crate reads a clock, it is told what the clocks said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time on one host, as two of its clocks showed it: `CLOCK_BOOTTIME`, which counts
/// through a suspension, and `CLOCK_MONOTONIC_RAW`, which no time daemon slews.
///
/// The two can drift apart (chrony may slew by 8 %, a suspension stops the second), so every
/// question says which side it errs on: a holder believes the clock that says *later*, a challenger
/// the one that says *sooner*. Then no slew and no suspension can make two terms overlap.
///
/// Moments of two hosts, or of two boots, cannot be compared. Those of two processes on one host
/// can, which is how an agent hands a deadline to its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInstant {
    boottime: Duration,
    raw: Duration,
}

impl HostInstant {
    /// Returns the moment at which the two clocks showed these readings.
    pub const fn new(boottime: Duration, raw: Duration) -> Self {
        Self { boottime, raw }
    }

    /// Returns the moment at which both clocks showed the same reading.
    pub const fn at(reading: Duration) -> Self {
        Self::new(reading, reading)
    }

    /// Returns the reading of `CLOCK_BOOTTIME`.
    pub const fn boottime(self) -> Duration {
        self.boottime
    }

    /// Returns the most time that can have passed since `earlier`: what a holder counts with.
    pub fn elapsed_upper_bound(self, earlier: Self) -> Duration {
        let boottime = self.boottime.saturating_sub(earlier.boottime);
        boottime.max(self.raw.saturating_sub(earlier.raw))
    }

    /// Returns the least time that must have passed since `earlier`: what a challenger counts with.
    pub fn elapsed_lower_bound(self, earlier: Self) -> Duration {
        let boottime = self.boottime.saturating_sub(earlier.boottime);
        boottime.min(self.raw.saturating_sub(earlier.raw))
    }

    /// Returns whether a holder must regard `deadline` as reached: one clock is enough.
    pub fn has_passed_on_any_clock(self, deadline: Self) -> bool {
        self.boottime >= deadline.boottime || self.raw >= deadline.raw
    }

    /// Returns how long a holder may count on until `deadline`; zero once it is reached.
    pub fn time_left(self, deadline: Self) -> Duration {
        let boottime = deadline.boottime.saturating_sub(self.boottime);
        boottime.min(deadline.raw.saturating_sub(self.raw))
    }
}

impl std::ops::Add<Duration> for HostInstant {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self::new(self.boottime + wait, self.raw + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_suspended_holder_counts_the_suspension_and_a_challenger_does_not() {
        let before = HostInstant::new(secs(100), secs(50));
        let after_a_suspension = HostInstant::new(secs(130), secs(51));

        assert_eq!(after_a_suspension.elapsed_upper_bound(before), secs(30));
        assert_eq!(after_a_suspension.elapsed_lower_bound(before), secs(1));
        assert!(after_a_suspension.has_passed_on_any_clock(before + secs(10)));
        assert_eq!(after_a_suspension.time_left(before + secs(40)), secs(10));
    }
}
