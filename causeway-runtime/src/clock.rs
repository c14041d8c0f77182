//! The one place that reads the clocks of this host.

use std::time::Duration;

use causeway_core::HostInstant;
use nix::time::{ClockId, clock_gettime};

/// Returns this moment, as `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW` show it.
///
/// The readings are the kernel's own, so a moment means the same in every process of this boot.
pub fn now() -> HostInstant {
    HostInstant::new(
        read(ClockId::CLOCK_BOOTTIME),
        read(ClockId::CLOCK_MONOTONIC_RAW),
    )
}

/// Returns what the wall clock shows, counted from 1970. Nothing may be decided by comparing it with
/// another host's.
pub fn wall() -> Duration {
    read(ClockId::CLOCK_REALTIME)
}

/// Returns the identifier that the kernel drew when this host booted.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one file that reads the clocks that decide"
)]
fn read(clock: ClockId) -> Duration {
    // A reading of zero would never reach a deadline. The only error of clock_gettime(2) is a clock that
    // the kernel lacks, and Linux has all three since 2.6.39.
    clock_gettime(clock)
        .expect("this kernel has CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW and CLOCK_REALTIME")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_the_boot_stays_the_same() {
        let before = now();
        let after = now();

        assert!(after.elapsed_upper_bound(before) < Duration::from_secs(5));
        assert!(after.boottime() >= before.boottime());
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
