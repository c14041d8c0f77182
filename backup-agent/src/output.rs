//! What people and scripts see: data on standard output, narration on standard error.

use std::io::{self, Write as _};

use causeway_core::backup::WallTime;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::Failure;

/// Prints one line of data.
pub(crate) fn line(text: &str) {
    // Whoever reads may have had enough (`| head`): what was done was done.
    drop(writeln!(io::stdout(), "{text}"));
}

/// Prints data as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    line(&text.map_err(|_| Failure::Internal("the answer cannot be written as JSON"))?);
    Ok(())
}

/// Says what is about to be done, or how far it is.
pub(crate) fn narrate(text: &str) {
    // There is nowhere to report that standard error cannot be written, as with a log on a full disk,
    // and no reason to end with another code for it.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Says what went wrong, and what can be done.
pub(crate) fn complain(error: &str, hint: Option<&str>) {
    narrate(&format!("backup-agent: {error}"));
    if let Some(hint) = hint {
        narrate(&format!("hint: {hint}"));
    }
}

/// Prints why the command line cannot be read, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) {
    // There is nowhere to report that standard error cannot be written.
    drop(error.print());
}

/// Returns a time as RFC 3339 writes it, in UTC.
pub(crate) fn timestamp(time: WallTime) -> String {
    Timestamp::from_microsecond(time.as_micros())
        .map_or_else(|_| format!("{} µs", time.as_micros()), |it| it.to_string())
}

/// Returns a time in seconds since 1970 as RFC 3339 writes it.
pub(crate) fn seconds(time: i64) -> String {
    timestamp(WallTime::from_micros(time.saturating_mul(1_000_000)))
}

/// Returns a number of bytes for people.
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
    fn sizes_and_times_are_written_for_people() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(
            timestamp(WallTime::from_micros(1_000_000)),
            "1970-01-01T00:00:01Z"
        );
    }
}
