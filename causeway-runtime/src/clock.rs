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
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|it| it.trim().to_owned())
}

fn read(clock: ClockId) -> Duration {
    // The kernels that the programs run on have all three clocks, and reading one of them cannot
    // fail in any other way (clock_gettime(2)). A zero would be a deadline long past: it stops
    // writes, and never allows them.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
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
