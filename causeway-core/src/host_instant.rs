//! Monotonic time as a value: this crate reads no clock, and receives the readings as arguments.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time on one host, as readings of two of its clocks: `CLOCK_BOOTTIME`, which counts through a
/// suspension, and `CLOCK_MONOTONIC_RAW`, which no time daemon slews.
///
/// The two can drift apart (chrony may slew by 8 %, a suspension stops the second), so every method names its
/// bound: a holder uses the later clock, a candidate the earlier one. Then neither slew nor suspension makes
/// two leases overlap.
///
/// Instants of two hosts, or of two boots, are not comparable. Those of two processes on one host are, so an
/// agent can send a deadline to its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInstant {
    boottime: Duration,
    raw: Duration,
}

impl HostInstant {
    /// Returns the instant with these readings of the two clocks.
    pub const fn new(boottime: Duration, raw: Duration) -> Self {
        Self { boottime, raw }
    }

    /// Returns the instant at which both clocks have the same reading.
    pub const fn at(reading: Duration) -> Self {
        Self::new(reading, reading)
    }

    /// Returns the reading of `CLOCK_BOOTTIME`.
    pub const fn boottime(self) -> Duration {
        self.boottime
    }

    /// Returns the most time that can have passed since `earlier`, for a holder.
    pub fn elapsed_upper_bound(self, earlier: Self) -> Duration {
        let boottime = self.boottime.saturating_sub(earlier.boottime);
        boottime.max(self.raw.saturating_sub(earlier.raw))
    }

    /// Returns the least time that must have passed since `earlier`, for a candidate.
    pub fn elapsed_lower_bound(self, earlier: Self) -> Duration {
        let boottime = self.boottime.saturating_sub(earlier.boottime);
        boottime.min(self.raw.saturating_sub(earlier.raw))
    }

    /// Returns whether `deadline` has passed on at least one clock, for a holder.
    pub fn has_passed_on_any_clock(self, deadline: Self) -> bool {
        self.boottime >= deadline.boottime || self.raw >= deadline.raw
    }

    /// Returns the wall-clock time of this earlier instant, in the time since 1970, if `now` is at `wall`. It follows a
    /// step of the wall clock, and two instants stay in order.
    pub const fn wall_time(self, now: Self, wall: Duration) -> Duration {
        // The wall clock is slewed like CLOCK_BOOTTIME, and unlike CLOCK_MONOTONIC_RAW.
        wall.saturating_sub(now.boottime.saturating_sub(self.boottime))
    }

    /// Returns the time until `deadline` on the clock that reaches it first; zero once it has passed.
    pub fn time_left(self, deadline: Self) -> Duration {
        let boottime = deadline.boottime.saturating_sub(self.boottime);
        boottime.min(deadline.raw.saturating_sub(self.raw))
    }
}

impl std::ops::Add<Duration> for HostInstant {
    type Output = Self;

    /// Returns the later instant, or the last one: an overflow would end the guard, and PostgreSQL with it.
    fn add(self, wait: Duration) -> Self {
        let later = |reading: Duration| reading.saturating_add(wait);
        Self::new(later(self.boottime), later(self.raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn host_suspended_then_only_the_upper_bound_includes_it() {
        let before = HostInstant::new(secs(100), secs(50));
        let after_a_suspension = HostInstant::new(secs(130), secs(51));

        assert_eq!(after_a_suspension.elapsed_upper_bound(before), secs(30));
        assert_eq!(after_a_suspension.elapsed_lower_bound(before), secs(1));
        assert!(after_a_suspension.has_passed_on_any_clock(before + secs(10)));
        assert_eq!(after_a_suspension.time_left(before + secs(40)), secs(10));
    }
    #[test]
    fn wall_clock_stepped_then_earlier_instants_stay_in_order() {
        let (write, later) = (HostInstant::at(secs(100)), HostInstant::at(secs(103)));
        let now = HostInstant::new(secs(110), secs(190));

        assert_eq!(write.wall_time(now, secs(5_000)), secs(4_990));
        for wall in [5_000, 1_400] {
            let between = later
                .wall_time(now, secs(wall))
                .abs_diff(write.wall_time(now, secs(wall)));
            assert_eq!(between, secs(3));
        }
        assert_eq!(write.wall_time(now, secs(1)), Duration::ZERO);
    }
}
