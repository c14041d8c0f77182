//! Meaning of a segment that no bucket has: the end of the WAL, or a gap.

use crate::backup::TimelineHistory;
use crate::lsn::{Ancestor, SegmentName, SegmentSize};
use crate::{Lsn, Timeline};

/// Meaning of a segment that is in no bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The archive ends before it: recovery may end there.
    End,
    /// The archive has WAL written after it: recovery must not end there.
    Gap,
}

/// Content of the archive beside the absent segment.
#[derive(Clone, Debug)]
pub struct ArchivedBeside<'a> {
    /// Whether a bucket lists a later segment of the same timeline.
    pub later_segment: bool,
    /// Ancestors of the segment's own timeline; empty for the first timeline.
    pub own_history: &'a [Ancestor],
    /// Ancestors of the other timelines.
    pub other_histories: &'a [(Timeline, Vec<Ancestor>)],
    /// Size of the segments.
    pub segment_size: SegmentSize,
}

/// Returns the meaning of the absence of `segment`.
///
/// PostgreSQL requests a segment on each timeline of the history that it follows, the newest first
/// (`XLogFileReadAnyTLI` in `src/backend/access/transam/xlogrecovery.c`), so a segment that its timeline never
/// reached is requested too, and its absence is harmless. It is a gap if the timeline continued after it: in a
/// later segment, or in another timeline that forked at its end or later.
pub fn classify_absence(segment: SegmentName, beside: &ArchivedBeside<'_>) -> Absence {
    let start = segment.start(beside.segment_size);
    let end = Lsn::new(start.get().saturating_add(beside.segment_size.bytes()));
    let begin = beside
        .own_history
        .last()
        .map_or(Lsn::new(0), |ancestor| ancestor.left_at);
    // The timeline begins later: the ancestor has this WAL.
    if end <= begin {
        return Absence::End;
    }
    let branched_later = beside
        .other_histories
        .iter()
        .filter(|(timeline, _)| *timeline > segment.timeline)
        .flat_map(|(_, ancestors)| ancestors)
        .any(|ancestor| ancestor.timeline == segment.timeline && ancestor.left_at >= end);
    if beside.later_segment || branched_later {
        Absence::Gap
    } else {
        Absence::End
    }
}

/// Returns whether replay along `history` to the end of `last`, which the archive once had, reads `segment`.
///
/// A timeline has the segments from the one in which it began to the one before its fork. The segment of the
/// fork belongs to the next timeline, which begins with a copy of it and is requested first.
pub fn is_on_the_way(
    segment: SegmentName,
    last: SegmentName,
    history: &TimelineHistory,
    size: SegmentSize,
) -> bool {
    if segment == last {
        return true;
    }
    let number = |lsn: Lsn| lsn.get() / size.bytes();
    let wanted = segment.number(size);
    let begin = history.begin(segment.timeline).map(number);
    let left = history.left_at(segment.timeline).map(number);
    wanted < last.number(size)
        && begin.is_some_and(|begin| begin <= wanted)
        && left.is_none_or(|left| wanted < left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    #[test]
    fn nothing_later_then_end() {
        assert_eq!(absent(1, 0x0D, &beside(false, &[], &[])), Absence::End);
    }

    #[test]
    fn later_segment_then_gap() {
        assert_eq!(absent(1, 0x0D, &beside(true, &[], &[])), Absence::Gap);
    }

    #[test]
    fn branch_at_its_end_or_later_then_gap() {
        let forked = |at: u64| [(timeline(2), vec![left(1, at)])];
        for (at, expected) in [
            (0x0C80_0000, Absence::End),
            // The new timeline's first segment has this WAL, up to the fork.
            (0x0D80_0000, Absence::End),
            (0x0DFF_FFFF, Absence::End),
            (0x0E00_0000, Absence::Gap),
            (0x0E00_0001, Absence::Gap),
            (0x2000_0000, Absence::Gap),
        ] {
            let others = forked(at);
            let found = absent(1, 0x0D, &beside(false, &[], &others));
            assert_eq!(found, expected, "left at {at:X}");
        }
    }

    #[test]
    fn descendant_two_timelines_on_then_gap() {
        let others = [(
            timeline(5),
            vec![left(1, 0x0E10_0000), left(3, 0x2000_0000)],
        )];
        assert_eq!(absent(1, 0x0D, &beside(false, &[], &others)), Absence::Gap);
        let own = [left(1, 0x0E10_0000)];
        assert_eq!(absent(3, 0x0F, &beside(false, &own, &others)), Absence::Gap);
    }

    #[test]
    fn timeline_begins_later_then_end() {
        let own = [left(1, 0x0E10_0000)];
        assert_eq!(absent(2, 0x0D, &beside(true, &own, &[])), Absence::End);
        assert_eq!(absent(2, 0x0E, &beside(true, &own, &[])), Absence::Gap);
    }

    #[test]
    fn segment_up_to_a_known_end_then_on_the_way() {
        // 1 ends within segment 6, 2 within 9, and 3 is followed to 12.
        let history = TimelineHistory::new(
            timeline(3),
            vec![left(1, 0x0610_0000), left(2, 0x0910_0000)],
        );
        let name = |of, number| SegmentName::numbered(timeline(of), number, SIZE);
        let wanted = |segment, last| is_on_the_way(segment, last, &history, SIZE);
        for (of, numbers) in [(1, 0..6), (2, 6..9), (3, 9..13)] {
            for number in 0..20 {
                let expected = numbers.contains(&number);
                let found = wanted(name(of, number), name(3, 12));
                assert_eq!(found, expected, "{number} of {of}");
            }
        }
        // No segment of 2 was archived, and replay ended in the copy of the segment in which it began.
        assert!(wanted(name(1, 6), name(1, 6)));
        assert!(!wanted(name(2, 6), name(1, 6)) && !wanted(name(1, 7), name(1, 6)));
        assert!(!wanted(name(7, 6), name(3, 12)), "7 is not on the way");
    }

    fn beside<'a>(
        later_segment: bool,
        own_history: &'a [Ancestor],
        other_histories: &'a [(Timeline, Vec<Ancestor>)],
    ) -> ArchivedBeside<'a> {
        ArchivedBeside {
            later_segment,
            own_history,
            other_histories,
            segment_size: SIZE,
        }
    }

    fn absent(number: u32, segment: u32, beside: &ArchivedBeside<'_>) -> Absence {
        let segment = SegmentName {
            timeline: timeline(number),
            log: 0,
            segment,
        };
        classify_absence(segment, beside)
    }

    fn left(number: u32, at: u64) -> Ancestor {
        Ancestor {
            timeline: timeline(number),
            left_at: Lsn::new(at),
        }
    }

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }
}
