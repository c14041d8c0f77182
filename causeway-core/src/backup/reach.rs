//! Reach of the archived WAL from a backup, and its gaps.

use std::collections::BTreeMap;

use crate::backup::{SegmentShare, TimelineHistory};
use crate::lsn::{SegmentName, SegmentSize};
use crate::{Lsn, Timeline};

/// Segments in an archive, as runs without a gap, by timeline. Its size depends on the number of gaps, not on
/// that of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSegments {
    size: SegmentSize,
    /// Last number of each run, by its first number.
    runs: BTreeMap<Timeline, BTreeMap<u64, u64>>,
}

/// A missing segment, followed by an archived one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalGap {
    /// First missing segment.
    pub missing: SegmentName,
    /// First archived segment after it.
    pub next_held: SegmentName,
}

/// Reach of replay from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveReach {
    /// Last segment read without a gap; none if the first one is missing.
    pub last: Option<SegmentName>,
    /// Gap that ends replay, if it is not the end of the WAL.
    pub gap: Option<WalGap>,
}

impl HeldSegments {
    /// Returns an empty archive of segments of this size.
    pub const fn new(size: SegmentSize) -> Self {
        Self {
            size,
            runs: BTreeMap::new(),
        }
    }

    /// Returns the size of the segments.
    pub const fn segment_size(&self) -> SegmentSize {
        self.size
    }

    /// Adds a segment. A name that no server gives is ignored: a gap would pass for filled.
    pub fn insert(&mut self, segment: SegmentName) {
        if !segment.is_canonical(self.size) {
            return;
        }
        let number = segment.number(self.size);
        let runs = self.runs.entry(segment.timeline).or_default();
        let before = runs.range(..=number).next_back().map(|(a, b)| (*a, *b));
        let (first, last) = match before {
            Some((_, last)) if number <= last => return,
            Some((first, last)) if last + 1 == number => (first, number),
            _ => (number, number),
        };
        let joined = runs.remove(&(last + 1)).unwrap_or(last);
        runs.insert(first, joined);
    }

    /// Returns whether the archive has the segment.
    pub fn holds(&self, segment: SegmentName) -> bool {
        let number = segment.number(self.size);
        self.first_from(segment.timeline, number) == Some(number)
    }

    /// Returns the newest timeline with a segment.
    pub fn newest_timeline(&self) -> Option<Timeline> {
        self.runs.keys().next_back().copied()
    }

    /// Returns the number of the first segment of `timeline`, from `number` on.
    fn first_from(&self, timeline: Timeline, number: u64) -> Option<u64> {
        let runs = self.runs.get(&timeline)?;
        let holding = runs.range(..=number).next_back();
        if holding.is_some_and(|(_, last)| *last >= number) {
            return Some(number);
        }
        runs.range(number..).next().map(|(first, _)| *first)
    }

    /// Returns the number of the last segment of the run that holds `number`.
    fn run_end(&self, timeline: Timeline, number: u64) -> Option<u64> {
        let (_, last) = self
            .runs
            .get(&timeline)?
            .range(..=number)
            .next_back()
            .filter(|(_, last)| **last >= number)?;
        Some(*last)
    }

    /// Returns the reach of replay from `start`, on a timeline of `history`, along that history.
    pub fn reach(&self, history: &TimelineHistory, start: Lsn) -> ArchiveReach {
        let mut last = None;
        let mut number = start.get() / self.size.bytes();
        let mut parent = None;
        for (timeline, first, end) in self.parts(history) {
            let from = number.max(first);
            // A timeline that ends in the segment in which it began has no segment of its own: the next
            // timeline begins with a copy of it.
            if end.is_some_and(|end| end <= from) {
                parent = Some(timeline);
                continue;
            }
            number = from;
            if let Some(held) = self.run_end(timeline, number) {
                let held = end.map_or(held, |end| held.min(end - 1));
                last = Some(SegmentName::numbered(timeline, held, self.size));
                number = held + 1;
            } else if let Some(parent) = parent.filter(|_| number == first) {
                // The ancestor's segment has the WAL up to the fork, and replay ends there.
                let copy = SegmentName::numbered(parent, number, self.size);
                let has_share = history.share(copy, self.size) != SegmentShare::Nothing;
                last = Some(copy)
                    .filter(|copy| has_share && self.holds(*copy))
                    .or(last);
            }
            if end != Some(number) {
                let gap = self.gap(history, timeline, number);
                return ArchiveReach { last, gap };
            }
            parent = Some(timeline);
        }
        ArchiveReach { last, gap: None }
    }

    /// Returns the number of missing segments on each timeline of `history`, from `start` to the last archived segment
    /// on that history.
    pub fn missing(&self, history: &TimelineHistory, start: Lsn) -> BTreeMap<Timeline, u64> {
        let start = start.get() / self.size.bytes();
        let mut missing = BTreeMap::new();
        let mut is_followed = false;
        for (timeline, first, end) in self.parts(history).into_iter().rev() {
            let from = start.max(first);
            let until = end.unwrap_or(u64::MAX);
            let held = || self.runs_within(timeline, from, until);
            let archived_until = held().last().map(|(_, last)| last + 1);
            // Up to the fork if a later timeline has segments, and otherwise up to the last of this one.
            let until = if is_followed {
                Some(until)
            } else {
                archived_until
            };
            let held_count: u64 = held().map(|(first, last)| last + 1 - first).sum();
            if let Some(expected) = until.and_then(|until| until.checked_sub(from)) {
                missing.insert(timeline, expected - held_count);
            }
            is_followed |= archived_until.is_some();
        }
        missing
    }

    /// Returns the runs of `timeline` between two numbers, the second excluded.
    fn runs_within(
        &self,
        timeline: Timeline,
        from: u64,
        until: u64,
    ) -> impl Iterator<Item = (u64, u64)> + '_ {
        let runs = self.runs.get(&timeline).into_iter().flatten();
        let cut = move |(first, last): (&u64, &u64)| {
            let (first, last) = ((*first).max(from), (*last).min(until.saturating_sub(1)));
            (first <= last).then_some((first, last))
        };
        runs.filter_map(cut)
    }

    /// Returns the last segment that an ancestor wrote past its fork, if no segment of the new branch is
    /// archived: it is unknown which branch continued.
    pub fn branch_left(&self, history: &TimelineHistory) -> Option<SegmentName> {
        for (timeline, first, end) in self.parts(history).into_iter().rev() {
            let past = end.and_then(|end| self.first_from(timeline, end));
            if past.is_some() {
                let last = self.runs.get(&timeline)?.values().next_back()?;
                return Some(SegmentName::numbered(timeline, *last, self.size));
            }
            if self.first_from(timeline, first).is_some() {
                return None;
            }
        }
        None
    }

    /// Returns the timelines of `history` with the number of the segment in which each begins, and of that in
    /// which the next one begins; none for the last.
    fn parts(&self, history: &TimelineHistory) -> Vec<(Timeline, u64, Option<u64>)> {
        let number = |lsn: Lsn| lsn.get() / self.size.bytes();
        let mut parts: Vec<_> = history
            .stretches()
            .map(|(timeline, begin, left_at)| (timeline, number(begin), Some(number(left_at))))
            .collect();
        let begin = parts.last().and_then(|(_, _, end)| *end).unwrap_or(0);
        parts.push((history.timeline(), begin, None));
        parts
    }

    /// Returns the gap that begins at `number` of `timeline`, if a later segment on `history` is archived.
    fn gap(&self, history: &TimelineHistory, timeline: Timeline, number: u64) -> Option<WalGap> {
        let later = |(other, first, end): (Timeline, u64, Option<u64>)| {
            let held = self.first_from(other, number.max(first))?;
            let is_on_the_way = other >= timeline && end.is_none_or(|end| held < end);
            is_on_the_way.then(|| SegmentName::numbered(other, held, self.size))
        };
        Some(WalGap {
            missing: SegmentName::numbered(timeline, number, self.size),
            next_held: self.parts(history).into_iter().find_map(later)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::lsn::Ancestor;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    proptest! {
        /// Runs contain the added segments, in whatever order they were added.
        #[test]
        fn segments_added_then_runs_contain_them(numbers in prop::collection::vec(0_u64..40, 0..40)) {
            let mut held = HeldSegments::new(SIZE);
            for number in &numbers {
                held.insert(segment(1, *number));
            }
            let all: BTreeSet<u64> = numbers.into_iter().collect();
            for number in 0..41 {
                prop_assert_eq!(held.holds(segment(1, number)), all.contains(&number));
                let next = all.range(number..).next().copied();
                prop_assert_eq!(held.first_from(timeline(1), number), next);
            }
        }
    }

    #[test]
    fn wal_without_a_gap_then_reach_is_its_last_segment() {
        let held = held(&[(1, 3), (1, 4), (1, 5)]);
        let reach = held.reach(&one(), at(3));
        assert_eq!((reach.last, reach.gap), (Some(segment(1, 5)), None));
    }

    #[test]
    fn segment_missing_then_gap_names_it_and_the_next() {
        let held = held(&[(1, 3), (1, 5), (1, 6)]);
        let gap = WalGap {
            missing: segment(1, 4),
            next_held: segment(1, 5),
        };
        let reach = held.reach(&one(), at(3));
        assert_eq!((reach.last, reach.gap), (Some(segment(1, 3)), Some(gap)));

        let reach = held.reach(&one(), at(4));
        assert_eq!((reach.last, reach.gap), (None, Some(gap)));
        let reach = held.reach(&one(), at(7));
        assert_eq!(
            (reach.last, reach.gap),
            (None, None),
            "nothing is expected yet"
        );
    }

    #[test]
    fn segments_missing_on_the_way_then_counted_by_timeline() {
        let count = |held: HeldSegments, history: &TimelineHistory, from| {
            let missing = held.missing(history, at(from));
            missing.values().sum::<u64>()
        };
        assert_eq!(count(held(&[]), &one(), 3), 0);
        assert_eq!(count(held(&[(1, 3), (1, 4)]), &one(), 3), 0);
        assert_eq!(count(held(&[(1, 2), (1, 5), (1, 8)]), &one(), 3), 4);
        assert_eq!(count(held(&[(1, 2)]), &one(), 3), 0, "not written yet");

        // Timeline 3 forked from 1 within segment 5: its own copy of 5 is needed, and 6 of 1 is not.
        let forked = history(3, &[(1, 5, 77)]);
        let whole = held(&[(1, 3), (1, 4), (3, 5), (3, 6)]);
        assert_eq!(count(whole, &forked, 3), 0);
        let without = held(&[(1, 3), (1, 5), (3, 6)]);
        let missing = without.missing(&forked, at(3));
        assert_eq!(
            missing,
            BTreeMap::from([(timeline(1), 1), (timeline(3), 1)])
        );
        let never_archived = held(&[(1, 3)]);
        assert_eq!(count(never_archived, &forked, 3), 0);
    }

    #[test]
    fn fork_then_replay_continues_with_the_new_timeline() {
        // Timeline 3 forked from 1 within segment 5; 2 was reserved and never written.
        let history = history(3, &[(1, 5, 77)]);
        let whole = held(&[(1, 3), (1, 4), (3, 5), (3, 6)]);
        assert_eq!(whole.reach(&history, at(3)).last, Some(segment(3, 6)));

        // The ancestor's segment 5 has no WAL after the fork.
        let without = held(&[(1, 3), (1, 4), (1, 5), (1, 6), (3, 6)]);
        let reach = without.reach(&history, at(3));
        let gap = WalGap {
            missing: segment(3, 5),
            next_held: segment(3, 6),
        };
        assert_eq!((reach.last, reach.gap), (Some(segment(1, 5)), Some(gap)));

        let never_archived = held(&[(1, 3), (1, 4), (1, 5), (1, 6)]);
        let reach = never_archived.reach(&history, at(3));
        assert_eq!((reach.last, reach.gap), (Some(segment(1, 5)), None));
    }

    #[test]
    fn fork_between_two_segments_then_ancestor_ends_before_it() {
        let history = history(2, &[(1, 5, 0)]);
        let held = held(&[(1, 3), (1, 4), (1, 5), (1, 6)]);
        let reach = held.reach(&history, at(3));
        assert_eq!((reach.last, reach.gap), (Some(segment(1, 4)), None));
    }

    #[test]
    fn only_the_ancestor_continues_then_its_last_segment() {
        let two = history(2, &[(1, 5, 77)]);
        let past = held(&[(1, 3), (1, 4), (1, 5), (1, 6)]);
        assert_eq!(past.branch_left(&two), Some(segment(1, 6)));
        let three = history(3, &[(1, 5, 77), (2, 5, 99)]);
        assert_eq!(past.branch_left(&three), Some(segment(1, 6)));

        let switched = held(&[(1, 3), (1, 4)]);
        assert_eq!(switched.branch_left(&two), None);
        let went_on = held(&[(1, 4), (1, 5), (1, 6), (2, 5)]);
        assert_eq!(went_on.branch_left(&two), None);
        assert_eq!(went_on.branch_left(&three), Some(segment(2, 5)));
    }

    #[test]
    fn segment_missing_before_the_fork_then_gap() {
        let history = history(2, &[(1, 5, 0)]);
        let held = held(&[(1, 3), (2, 5)]);
        let gap = WalGap {
            missing: segment(1, 4),
            next_held: segment(2, 5),
        };
        assert_eq!(held.reach(&history, at(3)).gap, Some(gap));
    }

    #[test]
    fn two_forks_in_one_segment_then_that_of_the_last_timeline() {
        let history = history(3, &[(1, 5, 10), (2, 5, 20)]);
        let held = held(&[(1, 4), (1, 5), (2, 5), (3, 5)]);
        let reach = held.reach(&history, at(4));
        assert_eq!((reach.last, reach.gap), (Some(segment(3, 5)), None));
        assert_eq!(held.newest_timeline(), Some(timeline(3)));
    }

    #[test]
    fn backup_on_a_new_timeline_then_ancestors_not_needed() {
        let history = history(2, &[(1, 5, 0)]);
        let held = held(&[(2, 7), (2, 8)]);
        let reach = held.reach(&history, at(7));
        assert_eq!((reach.last, reach.gap), (Some(segment(2, 8)), None));
    }

    fn held(segments: &[(u32, u64)]) -> HeldSegments {
        let mut held = HeldSegments::new(SIZE);
        for (timeline, number) in segments {
            held.insert(segment(*timeline, *number));
        }
        held
    }

    fn one() -> TimelineHistory {
        TimelineHistory::new(Timeline::FIRST, Vec::new())
    }

    fn history(newest: u32, left: &[(u32, u64, u64)]) -> TimelineHistory {
        let ancestors = left.iter().map(|(of, number, bytes)| Ancestor {
            timeline: timeline(*of),
            left_at: Lsn::new(number * SIZE.bytes() + bytes),
        });
        TimelineHistory::new(timeline(newest), ancestors.collect())
    }

    fn at(number: u64) -> Lsn {
        Lsn::new(number * SIZE.bytes() + 40)
    }

    fn segment(of: u32, number: u64) -> SegmentName {
        SegmentName::numbered(timeline(of), number, SIZE)
    }

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }
}
