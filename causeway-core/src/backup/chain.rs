//! WAL segments on a timeline history, and those that a backup needs.

use std::collections::BTreeSet;

use crate::backup::HeldSegments;
use crate::lsn::{SegmentName, SegmentSize, TimelineHistory};
use crate::{Lsn, Timeline};

impl TimelineHistory {
    /// Returns the part of `segment` that replay towards this timeline may read. PostgreSQL reads every
    /// segment that it gets: it skips a timeline that begins after the segment, but not one that ended before
    /// it (`XLogFileReadAnyTLI` in `src/backend/access/transam/xlogrecovery.c`).
    pub fn share(&self, segment: SegmentName, size: SegmentSize) -> SegmentShare {
        let start = segment.start(size);
        match self.left_at(segment.timeline) {
            Some(left_at) if left_at <= start => SegmentShare::Nothing,
            Some(left_at) if left_at.get() - start.get() < size.bytes() => {
                SegmentShare::UpTo(left_at)
            }
            Some(_) | None => SegmentShare::Whole,
        }
    }

    /// Returns the segment with this number that replay reads: that of the newest timeline which had begun by
    /// its end and is in `held`.
    pub fn segment(&self, number: u64, held: &HeldSegments) -> Option<SegmentName> {
        let size = held.segment_size();
        let begun = self
            .ancestors()
            .last()
            .map_or(0, |ancestor| ancestor.left_at.get());
        let newest = std::iter::once((self.timeline(), begun, u64::MAX));
        let ancestors: Vec<_> = self.stretches().collect();
        let ancestors = ancestors.into_iter().rev();
        let parts = newest
            .chain(ancestors.map(|(timeline, begin, end)| (timeline, begin.get(), end.get())));
        let mut names = parts
            .filter(|(_, begin, end)| {
                begin / size.bytes() <= number && number.saturating_mul(size.bytes()) < *end
            })
            .map(|(timeline, _, _)| SegmentName::numbered(timeline, number, size));
        names.find(|segment| held.holds(*segment))
    }

    /// Returns whether `segment` is a whole segment of an ancestor, before its fork. PostgreSQL marks such
    /// segments as archived when it promotes, and never archives them.
    pub fn is_whole_before_a_fork(&self, segment: SegmentName, size: SegmentSize) -> bool {
        let start = segment.start(size);
        let Some(end) = start.get().checked_add(size.bytes()).map(Lsn::new) else {
            return false;
        };
        self.stretches().any(|(timeline, begin, left_at)| {
            timeline == segment.timeline && begin < end && end <= left_at
        })
    }
}

/// Part of a segment that replay towards a timeline may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentShare {
    /// The whole segment.
    Whole,
    /// The part before this position, at which its timeline ends.
    UpTo(Lsn),
    /// Nothing: its timeline ends before it.
    Nothing,
}

/// Returns the segments that contain the WAL from `start` up to, and not including, `stop`.
pub fn needed_segments(
    timeline: Timeline,
    start: Lsn,
    stop: Lsn,
    size: SegmentSize,
) -> impl Iterator<Item = SegmentName> {
    let first = start.get() / size.bytes();
    let end = stop.get().div_ceil(size.bytes());
    (first..end).map(move |number| SegmentName::numbered(timeline, number, size))
}

/// Returns the segments of `needed` that are not in `held`.
pub fn missing_segments(
    needed: impl Iterator<Item = SegmentName>,
    held: &BTreeSet<SegmentName>,
) -> Vec<SegmentName> {
    needed.filter(|segment| !held.contains(segment)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Ancestor;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    #[test]
    fn segment_of_a_fork_then_not_whole() {
        let history = history();
        let segment = |lsn: u64| SegmentName::containing(timeline(1), Lsn::new(lsn << 20), SIZE);

        assert!(history.is_whole_before_a_fork(segment(80), SIZE));
        assert!(!history.is_whole_before_a_fork(segment(96), SIZE));
        assert!(!history.is_whole_before_a_fork(segment(112), SIZE));
        let of_another = SegmentName::containing(timeline(2), Lsn::new(0), SIZE);
        assert!(!history.is_whole_before_a_fork(of_another, SIZE));
    }

    #[test]
    fn segment_past_the_fork_then_nothing_is_read() {
        let share =
            |of, number| history().share(SegmentName::numbered(timeline(of), number, SIZE), SIZE);
        assert_eq!(share(1, 5), SegmentShare::Whole);
        assert_eq!(share(1, 6), SegmentShare::UpTo(Lsn::new(100 << 20)));
        assert_eq!(share(1, 7), SegmentShare::Nothing);
        assert_eq!(share(3, 6), SegmentShare::Whole);
        assert_eq!(share(2, 7), SegmentShare::Whole, "2 is not on the way");

        let left = Ancestor {
            timeline: timeline(1),
            left_at: Lsn::new(96 << 20),
        };
        let at_a_boundary = TimelineHistory::new(timeline(2), vec![left]);
        let share =
            |number| at_a_boundary.share(SegmentName::numbered(timeline(1), number, SIZE), SIZE);
        assert_eq!(
            (share(5), share(6)),
            (SegmentShare::Whole, SegmentShare::Nothing)
        );
    }

    #[test]
    fn segment_of_a_fork_then_that_of_the_newest_timeline() {
        let history = history();
        let mut held = HeldSegments::new(SIZE);
        let name = |of, number| SegmentName::numbered(timeline(of), number, SIZE);
        held.insert(name(1, 5));
        held.insert(name(1, 6));
        held.insert(name(1, 7));

        assert_eq!(history.segment(5, &held), Some(name(1, 5)));
        assert_eq!(history.segment(6, &held), Some(name(1, 6)));
        held.insert(name(3, 6));
        assert_eq!(history.segment(6, &held), Some(name(3, 6)));
        assert_eq!(history.segment(7, &held), None, "7 was never on the way");
    }

    #[test]
    fn segments_missing_then_each_is_a_gap() {
        let range = || needed_segments(timeline(1), Lsn::new(17 << 20), Lsn::new(64 << 20), SIZE);
        let held: BTreeSet<_> = range().skip(1).take(1).collect();

        assert_eq!(range().count(), 3);
        let names: Vec<_> = missing_segments(range(), &held)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            ["000000010000000000000001", "000000010000000000000003"]
        );
    }

    #[test]
    fn segments_up_to_the_last_address_then_the_list_ends() {
        let start = Lsn::new(u64::MAX - (20 << 20));
        let needed = needed_segments(timeline(1), start, Lsn::new(u64::MAX), SIZE);
        assert_eq!(needed.take(9).count(), 2);
    }

    fn history() -> TimelineHistory {
        let left = Ancestor {
            timeline: timeline(1),
            left_at: Lsn::new(100 << 20),
        };
        TimelineHistory::new(timeline(3), vec![left])
    }

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }
}
