//! Names of the files in `pg_wal`.

use std::fmt;
use std::str::FromStr;

use super::{Lsn, ParseLsnError, Timeline, hex};

/// Size of a WAL segment in bytes: a power of two from 1 MiB to 1 GiB, 16 MiB by default
/// (`initdb --wal-segsize`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize(u64);

/// Name of a file in `pg_wal`, in the forms that PostgreSQL archives
/// (`src/include/access/xlog_internal.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalFileName {
    /// `TTTTTTTTXXXXXXXXYYYYYYYY`: a finished segment.
    Segment(SegmentName),
    /// The same with `.partial`: the last segment of a timeline, ended by a promotion.
    Partial(SegmentName),
    /// `TTTTTTTT.history`: the forks of this timeline and its ancestors.
    History(Timeline),
    /// `TTTTTTTTXXXXXXXXYYYYYYYY.ZZZZZZZZ.backup`: written when a base backup ends; the last number
    /// is the offset at which the backup began.
    BackupLabel(SegmentName, u32),
}

/// Name of a WAL segment: its timeline and its two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Timeline that the segment was written on.
    pub timeline: Timeline,
    /// Upper half of the address.
    pub log: u32,
    /// Number of the segment within that half.
    pub segment: u32,
}

impl SegmentSize {
    /// Default size of initdb.
    pub const DEFAULT: Self = Self(16 << 20);

    /// Returns the size with this number of bytes, or `None` if PostgreSQL has no such size.
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

    /// Returns the position at which the segment begins, or the last one for a name beyond the address space.
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number(size).saturating_mul(size.0))
    }

    /// Returns whether a server with segments of this size gives one this name. Any 24 digits are a name, and one
    /// with a number above those of its log would have the position of another segment.
    pub fn is_canonical(self, size: SegmentSize) -> bool {
        u64::from(self.segment) < size.per_log()
    }

    /// Returns the name of the segment that follows on the same timeline.
    #[must_use]
    pub fn next(self, size: SegmentSize) -> Self {
        Self::numbered(self.timeline, self.number(size) + 1, size)
    }

    /// Returns the number of segments before this one, from the beginning of the address space.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn segment_named_for_a_position_then_contains_it(byte: u64, power in 20_u32..=30) {
            let size = SegmentSize::new(1 << power).unwrap();
            let name = SegmentName::containing(Timeline::FIRST, Lsn::new(byte), size);
            let start = name.start(size);

            prop_assert!(start.get() <= byte && byte - start.get() < size.bytes());
            prop_assert_eq!(name.to_string().parse(), Ok(WalFileName::Segment(name)));
        }
    }

    #[test]
    fn name_of_each_kind_then_parses_to_itself() {
        for name in [
            "00000001000000000000000A",
            "00000002000000010000002C.partial",
            "00000003.history",
            "000000010000000000000002.00000028.backup",
        ] {
            let parsed: WalFileName = name.parse().unwrap();
            assert_eq!(parsed.to_string(), name);
        }
    }

    #[test]
    fn text_that_names_no_wal_file_then_error() {
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
    fn last_segment_of_a_log_then_next_is_in_the_following_log() {
        let last: WalFileName = "0000000100000000000000FF".parse().unwrap();
        let WalFileName::Segment(name) = last else {
            panic!("a name without a suffix is a segment's")
        };
        assert_eq!(
            name.next(SegmentSize::DEFAULT).to_string(),
            "000000010000000100000000"
        );
    }
}
