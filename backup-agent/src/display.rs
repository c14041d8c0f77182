//! Times as text.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_then_rfc_3339() {
        assert_eq!(
            timestamp(WallTime::from_micros(1_000_000)),
            "1970-01-01T00:00:01Z"
        );
    }
}
