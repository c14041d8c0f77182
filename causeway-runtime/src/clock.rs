//! Clocks of this host: the only file that reads them for decisions.

use std::time::Duration;

use causeway_core::HostInstant;
use nix::time::{ClockId, clock_gettime};

/// Returns the current readings of `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW`.
///
/// The readings are the kernel's, so an instant is valid in every process of this boot.
pub fn now() -> HostInstant {
    HostInstant::new(
        read(ClockId::CLOCK_BOOTTIME),
        read(ClockId::CLOCK_MONOTONIC_RAW),
    )
}

/// Returns the wall-clock time since 1970. No decision may compare it with another host's.
pub fn wall() -> Duration {
    read(ClockId::CLOCK_REALTIME)
}

/// Returns the identifier that the kernel generated at boot.
///
/// # Errors
///
/// An error if `/proc` cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one file that reads the clocks that decide"
)]
fn read(clock: ClockId) -> Duration {
    // Not a default: with a reading of zero no deadline would ever pass. clock_gettime(2) fails only for a
    // clock that the kernel lacks, and Linux has all three since 2.6.39.
    clock_gettime(clock)
        .expect("this kernel has CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW and CLOCK_REALTIME")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_then_ordered_and_of_one_boot() {
        let before = now();
        let after = now();

        assert!(after.elapsed_upper_bound(before) < Duration::from_secs(5));
        assert!(after.boottime() >= before.boottime());
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
