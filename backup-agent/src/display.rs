//! Times and sizes as text.

use causeway_core::backup::WallTime;
use jiff::Timestamp;

/// Returns a time in RFC 3339 format, in UTC.
pub(crate) fn timestamp(time: WallTime) -> String {
    Timestamp::from_microsecond(time.as_micros()).map_or_else(
        |_| format!("{} µs", time.as_micros()),
        |time| time.to_string(),
    )
}

/// Returns a time in seconds since 1970 in RFC 3339 format.
pub(crate) fn seconds(time: i64) -> String {
    timestamp(WallTime::from_micros(time.saturating_mul(1_000_000)))
}

/// Returns `time` in the format of PostgreSQL's `recovery_target_time`.
pub(crate) fn as_recovery_target(time: WallTime) -> String {
    timestamp(time).replace('T', " ").replace('Z', "+00")
}

/// Returns a number of bytes with a readable unit.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("GiB", 30_u32), ("MiB", 20), ("KiB", 10)];
    for (unit, power) in units {
        let one = 1_u64 << power;
        if bytes >= one {
            let tenths = u128::from(bytes) * 10 / u128::from(one);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_then_shown_in_readable_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(
            timestamp(WallTime::from_micros(1_000_000)),
            "1970-01-01T00:00:01Z"
        );
    }
}
