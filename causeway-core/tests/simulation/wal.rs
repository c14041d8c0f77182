//! A server's WAL, its history files, and the acknowledged commits of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use causeway_core::{Lsn, Timeline};

/// WAL: its timelines, the start of each, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) forks: Vec<(Timeline, u64)>,
    pub(crate) end: u64,
}

impl Log {
    pub(crate) fn first() -> Self {
        Self {
            forks: vec![(Timeline::FIRST, 0)],
            end: 1000,
        }
    }

    pub(crate) fn timeline(&self) -> Timeline {
        self.forks.last().unwrap().0
    }

    /// Returns the part that this WAL and `other` have in common.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let same = self.forks.iter().zip(&other.forks);
        let shared = same.take_while(|(here, there)| here == there).count();
        let end_of = |log: &Self| log.forks.get(shared).map_or(log.end, |(_, start)| *start);
        Self {
            forks: self.forks[..shared].to_vec(),
            end: end_of(self).min(end_of(other)),
        }
    }

    /// Returns whether streaming `other` can continue this WAL.
    pub(crate) fn leads_to(&self, other: &Self) -> bool {
        self.common(other) == *self
    }

    /// Returns whether it has the WAL of `timeline` up to `lsn`.
    pub(crate) fn reaches(&self, timeline: Timeline, lsn: Lsn) -> bool {
        self.end_on(timeline).is_some_and(|end| end >= lsn.get())
    }

    /// Returns the end of its WAL on `timeline`; none without WAL of that timeline.
    fn end_on(&self, timeline: Timeline) -> Option<u64> {
        let at = self
            .forks
            .iter()
            .position(|(begun, _)| *begun == timeline)?;
        Some(self.forks.get(at + 1).map_or(self.end, |(_, start)| *start))
    }
}

/// The history files in `pg_wal`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histories {
    real: BTreeSet<Timeline>,
    placeholders: BTreeSet<Timeline>,
}

impl Histories {
    fn has(&self, timeline: Timeline) -> bool {
        self.real.contains(&timeline) || self.placeholders.contains(&timeline)
    }

    /// Returns the newest number from `reserved` on that has a history file.
    pub(crate) fn taken_from(&self, reserved: Timeline) -> Option<Timeline> {
        let newest = self.real.last().max(self.placeholders.last()).copied();
        newest.filter(|newest| *newest >= reserved)
    }

    /// Fills the numbers between `own` and `reserved` that have no history file.
    pub(crate) fn reserve(&mut self, own: Timeline, reserved: Timeline) {
        let free: Vec<_> = own
            .until(reserved)
            .filter(|timeline| !self.has(*timeline))
            .collect();
        self.placeholders.extend(free);
    }

    /// Returns the placeholders above the newest real history, which keep a standby from being consistent.
    fn dangling(&self) -> impl Iterator<Item = Timeline> {
        let newest = self.real.last().copied().unwrap_or(Timeline::FIRST);
        self.placeholders
            .iter()
            .copied()
            .filter(move |timeline| *timeline > newest)
    }

    pub(crate) fn remove_dangling(&mut self) {
        let dangling: Vec<_> = self.dangling().collect();
        self.placeholders
            .retain(|timeline| !dangling.contains(timeline));
    }

    pub(crate) fn are_dangling(&self) -> bool {
        self.dangling().next().is_some()
    }

    /// Receives the history files of another server.
    pub(crate) fn receive(&mut self, other: &Self) {
        self.real.extend(&other.real);
        let missing: Vec<_> = (other.placeholders.iter().copied())
            .filter(|timeline| !self.has(*timeline))
            .collect();
        self.placeholders.extend(missing);
    }

    /// Begins the timeline that PostgreSQL chooses (`findNewestTimeLine`): the first above `own` without a
    /// history file.
    pub(crate) fn begin(&mut self, own: Timeline) -> Timeline {
        let mut next = own.next();
        while self.has(next) {
            next = next.next();
        }
        self.real.insert(next);
        next
    }
}

/// Acknowledged WAL on each timeline, less what was lost and stated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acknowledged(BTreeMap<Timeline, (u64, u64)>);

impl Acknowledged {
    /// Records that all WAL of a primary on its timeline is acknowledged.
    pub(crate) fn note(&mut self, log: &Log) {
        let (timeline, start) = *log.forks.last().unwrap();
        let known = self.0.entry(timeline).or_insert((start, start));
        known.1 = known.1.max(log.end);
    }

    /// Returns the acknowledged bytes that `log` does not have.
    pub(crate) fn lost(&self, log: &Log) -> u64 {
        let lost = |(timeline, (start, end)): (&Timeline, &(u64, u64))| {
            let held = log
                .end_on(*timeline)
                .map_or(*start, |held| held.clamp(*start, *end));
            end - held
        };
        self.0.iter().map(lost).sum()
    }

    /// Removes what `log` does not have.
    pub(crate) fn forget(&mut self, log: &Log) {
        for (timeline, (start, end)) in &mut self.0 {
            *end = log
                .end_on(*timeline)
                .map_or(*start, |held| held.clamp(*start, *end));
        }
    }
}
