//! WAL positions, timelines, and the names and histories of WAL files.

mod timeline_history;
mod wal_file_name;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::timeline_history::{Ancestor, TimelineHistory, parse_history};
pub use self::wal_file_name::{SegmentName, SegmentSize, WalFileName};

/// WAL position (LSN), a byte offset written as `16/B374D848`.
///
/// Two positions are comparable only within one timeline's history.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(u64);

/// Number of a timeline, from 1. A promotion begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Timeline(u32);

/// A text that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseLsnError {
    text: String,
    expected: &'static str,
}

impl ParseLsnError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            expected,
        }
    }
}

impl Lsn {
    /// Returns the position at this byte.
    pub const fn new(byte: u64) -> Self {
        Self(byte)
    }

    /// Returns the byte.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes from `earlier` to this position; zero if `earlier` is not earlier.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseLsnError::new(text, "an LSN such as `16/B374D848`");
        let (high, low) = text.split_once('/').ok_or_else(malformed)?;
        let half = |digits: &str| hex(digits, 1..=8).ok_or_else(malformed);
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

impl TryFrom<String> for Lsn {
    type Error = ParseLsnError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

impl Timeline {
    /// Timeline that initdb begins.
    pub const FIRST: Self = Self(1);

    /// Returns the timeline with this number, or `None` for 0, which PostgreSQL never uses.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the timeline with the next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the timelines above this one and below `end`, in order.
    pub fn until(self, end: Self) -> impl Iterator<Item = Self> {
        (self.0 + 1..end.0).map(Self)
    }
}

impl TryFrom<u32> for Timeline {
    type Error = ParseLsnError;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        Self::new(number).ok_or_else(|| ParseLsnError::new("0", "a timeline"))
    }
}

impl From<Timeline> for u32 {
    fn from(timeline: Timeline) -> Self {
        timeline.0
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses upper-case hexadecimal digits. `from_str_radix` would also accept a sign and lower case.
fn hex(digits: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let all_hex = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
    if !all_hex || !length.contains(&digits.len()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn formatted_position_then_parses_to_itself(byte: u64) {
            let lsn = Lsn::new(byte);
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }

        #[test]
        fn arbitrary_text_then_no_panic(text in ".{0,40}") {
            drop((text.parse::<Lsn>(), text.parse::<WalFileName>(), parse_history(&text)));
        }
    }
}
