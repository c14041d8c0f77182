//! Whether a segment that no bucket holds is the end of the WAL, or a gap in it.

use crate::lsn::{Ancestor, SegmentName, SegmentSize};
use crate::{Lsn, Timeline};

/// What it means that a segment is in no bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The archive ends before it: recovery may end there.
    End,
    /// WAL that was written after it is in the archive: recovery must not end there.
    Gap,
}

/// What the archive holds beside the segment that is absent.
#[derive(Clone, Debug)]
pub struct ArchivedBeside<'a> {
    /// Whether a bucket lists a later segment of the same timeline.
    pub later_segment: bool,
    /// The history of the segment's own timeline; the first one has none.
    pub own_history: &'a [Ancestor],
    /// The histories of the other timelines.
    pub other_histories: &'a [(Timeline, Vec<Ancestor>)],
    /// The size of the segments.
    pub segment_size: SegmentSize,
}

/// Returns what the absence of `segment` means.
///
/// PostgreSQL asks for a segment on each timeline of the history that it follows, the newest first
/// (`XLogFileReadAnyTLI` in `src/backend/access/transam/xlogrecovery.c`), so that one which its
/// timeline never reached is asked for and absent without harm. It is a gap if the timeline went on
/// after it: in a later segment, or in another timeline that branched off at its end or later.
pub fn absence(segment: SegmentName, beside: &ArchivedBeside<'_>) -> Absence {
    let start = segment.start(beside.segment_size);
    let end = Lsn::new(start.get().saturating_add(beside.segment_size.bytes()));
    let begin = beside
        .own_history
        .last()
        .map_or(Lsn::new(0), |ancestor| ancestor.left_at);
    // The timeline begins later: the ancestor holds this stretch.
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
            // The new timeline's first segment holds this stretch, up to the branch.
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
        absence(segment, beside)
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
