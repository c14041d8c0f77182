//! Places in the write-ahead log: how PostgreSQL writes them, names their files and orders them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte position in the write-ahead log, written `16/B374D848`.
///
/// Two positions are comparable only within one timeline's history.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(u64);

/// The number of a timeline, from 1. A promotion begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(u32);

/// The size of a log segment in bytes: a power of two from 1 MiB to 1 GiB, 16 MiB unless initdb was
/// told otherwise (`initdb --wal-segsize`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize(u64);

/// The name of a file in `pg_wal`, in the forms that PostgreSQL archives
/// (`src/include/access/xlog_internal.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalFileName {
    /// `TTTTTTTTXXXXXXXXYYYYYYYY`: a finished segment.
    Segment(SegmentName),
    /// The same with `.partial`: the last segment of a timeline, cut off by a promotion.
    Partial(SegmentName),
    /// `TTTTTTTT.history`: where this timeline and its ancestors branched off.
    History(Timeline),
    /// `TTTTTTTTXXXXXXXXYYYYYYYY.ZZZZZZZZ.backup`: written when a base backup ends; the last number
    /// is the offset at which the backup began.
    BackupLabel(SegmentName, u32),
}

/// A segment's timeline and its two numbers, as its name gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// The timeline that the segment was written on.
    pub timeline: Timeline,
    /// The upper half of the address.
    pub log: u32,
    /// The number of the segment within that half.
    pub segment: u32,
}

/// A text that does not have the form of what it should be.
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

    /// Returns how many bytes lie between `earlier` and this position; zero if it is not earlier.
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
    /// The timeline that initdb begins.
    pub const FIRST: Self = Self(1);

    /// Returns the timeline with this number, or `None` for 0, which PostgreSQL never gives out.
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

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SegmentSize {
    /// What initdb chooses unless told otherwise.
    pub const DEFAULT: Self = Self(16 << 20);

    /// Returns the size of this many bytes, or `None` if PostgreSQL has no such size.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 1 << 20 && bytes <= 1 << 30 {
            return Some(Self(bytes));
        }
        None
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    const fn per_log(self) -> u64 {
        (1 << 32) / self.0
    }
}

impl SegmentName {
    /// Returns the name of the segment that holds the byte at `lsn`.
    pub fn containing(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Self {
        Self::numbered(timeline, lsn.0 / size.0, size)
    }

    /// Returns the position at which the segment begins.
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number(size) * size.0)
    }

    /// Returns the name of the segment that follows on the same timeline.
    #[must_use]
    pub fn next(self, size: SegmentSize) -> Self {
        Self::numbered(self.timeline, self.number(size) + 1, size)
    }

    /// Returns how many segments lie before this one, from the beginning of the address space.
    pub fn number(self, size: SegmentSize) -> u64 {
        u64::from(self.log) * size.per_log() + u64::from(self.segment)
    }

    /// Returns the name of the segment with this number ([`SegmentName::number`]), or of the last one that
    /// an LSN can address.
    ///
    /// # Panics
    ///
    /// Never: both halves of a 64-bit address have 32 bits.
    pub fn numbered(timeline: Timeline, number: u64, size: SegmentSize) -> Self {
        let number = number.min(u64::MAX / size.0);
        let half = |part| u32::try_from(part).expect("half of a 64-bit address has 32 bits");
        let (log, segment) = (half(number / size.per_log()), half(number % size.per_log()));
        Self {
            timeline,
            log,
            segment,
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:08X}{:08X}{:08X}",
            self.timeline.0, self.log, self.segment
        )
    }
}

impl WalFileName {
    /// Returns the timeline that the file belongs to.
    pub const fn timeline(self) -> Timeline {
        match self {
            Self::Segment(name) | Self::Partial(name) | Self::BackupLabel(name, _) => name.timeline,
            Self::History(timeline) => timeline,
        }
    }
}

impl fmt::Display for WalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(name) => name.fmt(f),
            Self::Partial(name) => write!(f, "{name}.partial"),
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.0),
            Self::BackupLabel(name, offset) => write!(f, "{name}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFileName {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            ParseLsnError::new(
                text,
                "the name of a WAL file such as `000000010000000000000001`",
            )
        };
        let mut parts = text.split('.');
        let stem = parts.next().expect("a split has at least one part");
        let suffixes: Vec<&str> = parts.collect();
        if let ["history"] = suffixes.as_slice() {
            let number = hex(stem, 8..=8).ok_or_else(malformed)?;
            return Timeline::new(number)
                .map(Self::History)
                .ok_or_else(malformed);
        }
        let name = segment_name(stem).ok_or_else(malformed)?;
        match suffixes.as_slice() {
            [] => Ok(Self::Segment(name)),
            ["partial"] => Ok(Self::Partial(name)),
            [offset, "backup"] => hex(offset, 8..=8)
                .map(|offset| Self::BackupLabel(name, offset))
                .ok_or_else(malformed),
            _ => Err(malformed()),
        }
    }
}

fn segment_name(stem: &str) -> Option<SegmentName> {
    if stem.len() != 24 {
        return None;
    }
    Some(SegmentName {
        timeline: Timeline::new(hex(stem.get(..8)?, 8..=8)?)?,
        log: hex(stem.get(8..16)?, 8..=8)?,
        segment: hex(stem.get(16..)?, 8..=8)?,
    })
}

/// Reads upper-case hexadecimal digits, and nothing that `from_str_radix` would also take.
fn hex(digits: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let all_hex = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
    if !all_hex || !length.contains(&digits.len()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

/// One line of a timeline's history file: an ancestor, and where it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// The timeline that was left.
    pub timeline: Timeline,
    /// The position at which the next one begins.
    pub left_at: Lsn,
}

/// Reads a history file: one ancestor a line, oldest first, `#` begins a comment
/// (`src/backend/access/transam/timeline.c`).
///
/// A recovery towards timeline 2 that ended before 2 begins writes a history by which 1 was left at that
/// fork, and 2 before it. The position belongs to the newest timeline that had begun
/// (`tliOfPointInHistory`), so none is followed further than the ones after it.
///
/// # Errors
///
/// [`ParseLsnError`] for a line that names no timeline and position.
pub fn parse_history(text: &str) -> Result<Vec<Ancestor>, ParseLsnError> {
    let written = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut ancestors: Vec<Ancestor> = written.map(ancestor).collect::<Result<_, _>>()?;
    let mut left_at = Lsn::new(u64::MAX);
    for ancestor in ancestors.iter_mut().rev() {
        left_at = left_at.min(ancestor.left_at);
        ancestor.left_at = left_at;
    }
    Ok(ancestors)
}

fn ancestor(line: &str) -> Result<Ancestor, ParseLsnError> {
    let malformed = || ParseLsnError::new(line, "a line of a timeline history");
    let mut words = line.split_whitespace();
    let number = words
        .next()
        .and_then(|word| word.parse().ok())
        .and_then(Timeline::new);
    let left_at = words.next().and_then(|word| word.parse().ok());
    match (number, left_at) {
        (Some(timeline), Some(left_at)) => Ok(Ancestor { timeline, left_at }),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_reads_back_as_it_was_written(byte: u64) {
            let lsn = Lsn::new(byte);
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }

        #[test]
        fn the_segment_named_for_a_position_holds_it(byte: u64, power in 20_u32..=30) {
            let size = SegmentSize::new(1 << power).unwrap();
            let name = SegmentName::containing(Timeline::FIRST, Lsn::new(byte), size);
            let start = name.start(size);

            prop_assert!(start.get() <= byte && byte - start.get() < size.bytes());
            prop_assert_eq!(name.to_string().parse(), Ok(WalFileName::Segment(name)));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}") {
            drop((text.parse::<Lsn>(), text.parse::<WalFileName>(), parse_history(&text)));
        }
    }

    #[test]
    fn names_every_kind_of_file_as_postgresql_does() {
        for name in [
            "00000001000000000000000A",
            "00000002000000010000002C.partial",
            "00000003.history",
            "000000010000000000000002.00000028.backup",
        ] {
            let parsed: WalFileName = name.parse().unwrap();
            assert_eq!(parsed.to_string(), name);
        }
        for wrong in [
            "",
            "00000000.history",
            "0000000a.history",
            "+0000001.history",
            "x",
            "000000010000000000000002.bak",
        ] {
            assert!(wrong.parse::<WalFileName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_segment_after_the_last_of_a_log_begins_the_next() {
        let last: WalFileName = "0000000100000000000000FF".parse().unwrap();
        let WalFileName::Segment(name) = last else {
            panic!("it has no suffix")
        };
        assert_eq!(
            name.next(SegmentSize::DEFAULT).to_string(),
            "000000010000000100000000"
        );
    }

    #[test]
    fn reads_a_history_file() {
        let text = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tbefore x\n";
        let read = parse_history(text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(
            read[1],
            Ancestor {
                timeline: Timeline(2),
                left_at: Lsn(0x500_0060)
            }
        );
        assert!(parse_history("one 0/1").is_err());

        let ended_before_its_fork = parse_history("1 0/50\n2 0/30\n3 0/40\n").unwrap();
        let left: Vec<u64> = ended_before_its_fork
            .iter()
            .map(|ancestor| ancestor.left_at.get())
            .collect();
        assert_eq!(left, [0x30, 0x30, 0x40]);
    }
}
