//! What the writer knows: on each timeline which rows are committed, in which order, and where.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// The size of a segment of these servers.
const SEGMENT_BYTES: u64 = 1 << 20;

/// A position in the WAL.
pub(super) type WalOffset = u64;

/// A committed row.
#[derive(Clone, Debug)]
pub(super) struct CommittedRow {
    pub(super) number: i64,
    /// Where it is committed; none if its acknowledgement was lost.
    pub(super) commit: Option<CommitRecord>,
}

/// Where a row is committed.
#[derive(Clone, Debug)]
pub(super) struct CommitRecord {
    /// After its commit, and before the next record of another row.
    pub(super) lsn: WalOffset,
    /// As its commit record has it.
    pub(super) time: String,
    pub(super) xid: u64,
}

/// A restore point.
#[derive(Clone, Debug)]
pub(super) struct RestorePoint {
    pub(super) name: String,
    /// How many rows were committed before.
    pub(super) rows: usize,
    pub(super) lsn: WalOffset,
}

/// What was committed on a timeline and those that it began from.
#[derive(Clone, Debug, Default)]
pub(super) struct TimelineModel {
    pub(super) timeline: u32,
    /// The timelines that it began from, oldest first, and where each was left.
    pub(super) ancestors: Vec<(u32, WalOffset)>,
    /// Oldest first.
    pub(super) rows: Vec<CommittedRow>,
    pub(super) points: Vec<RestorePoint>,
}

/// A backup that was reported to be made.
#[derive(Clone, Debug)]
pub(super) struct ReportedBackup {
    pub(super) id: String,
    pub(super) timeline: u32,
    pub(super) start: WalOffset,
    pub(super) stop: WalOffset,
    /// How many rows were committed when it was reported.
    pub(super) rows: usize,
    /// Its objects, in whichever bucket.
    pub(super) keys: Vec<String>,
}

/// Every timeline that was written on.
pub(super) type TimelineModels = BTreeMap<u32, TimelineModel>;

impl TimelineModel {
    /// Returns the branch that begins here with a timeline, of which this is the history file.
    pub(super) fn begin(&self, timeline: u32, history: &str) -> anyhow::Result<Self> {
        let lines = history.lines().map(str::trim);
        let lines = lines.filter(|value| !value.is_empty() && !value.starts_with('#'));
        let ancestors = lines.map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = fields.next().and_then(|field| field.parse().ok());
            let left_at = fields.next().map(parse_lsn);
            let what = || format!("`{line}` is no line of a history");
            Ok((timeline.with_context(what)?, left_at.with_context(what)??))
        });
        Ok(Self {
            timeline,
            ancestors: ancestors.collect::<anyhow::Result<_>>()?,
            ..self.clone()
        })
    }

    /// Returns the newest timeline that has the segment of this number.
    fn owner(&self, segment: u64) -> u32 {
        let before = self.ancestors.iter().rev();
        let mut owner = self.timeline;
        for (timeline, left_at) in before {
            if segment >= left_at / SEGMENT_BYTES {
                break;
            }
            owner = *timeline;
        }
        owner
    }

    /// Returns the number of the last segment on the way to this timeline that `holds` it, and up to
    /// where its WAL belongs to this branch.
    fn last_segment(&self, segments: &[(u32, u64)]) -> Option<(u64, WalOffset)> {
        let mut owned = segments.iter().filter(|(timeline, segment)| {
            self.owner(*segment) == *timeline || self.left_in(*timeline) == Some(*segment)
        });
        let (timeline, last) = owned.by_ref().max_by_key(|(_, segment)| *segment)?;
        let end = (last + 1) * SEGMENT_BYTES;
        let complete = segments.contains(&(self.owner(*last), *last));
        if complete || *timeline == self.timeline {
            return Some((*last, end));
        }
        let left_at = self.ancestors.iter().find(|(it, _)| it == timeline);
        Some((*last, left_at.map_or(end, |(_, at)| (*at).min(end))))
    }

    /// Returns the segment in which a timeline was left.
    fn left_in(&self, timeline: u32) -> Option<u64> {
        let left = self.ancestors.iter().find(|(it, _)| *it == timeline);
        left.map(|(_, at)| at / SEGMENT_BYTES)
    }

    /// Returns up to where the WAL reaches that these segments hold, gaps or not.
    pub(super) fn reach(&self, segments: &[(u32, u64)]) -> Option<WalOffset> {
        self.last_segment(segments).map(|(_, end)| end)
    }

    /// Returns how many rows are committed up to a position.
    pub(super) fn rows_until(&self, end: WalOffset) -> usize {
        let within =
            |row: &CommittedRow| row.commit.as_ref().is_some_and(|commit| commit.lsn <= end);
        self.rows.iter().rposition(within).map_or(0, |row| row + 1)
    }

    /// Returns the first segment from `start` on that lacks, although a later one is there.
    pub(super) fn gap(&self, start: WalOffset, segments: &[(u32, u64)]) -> Option<String> {
        let (last, _) = self.last_segment(segments)?;
        let first = start / SEGMENT_BYTES;
        let lacks = |number: &u64| {
            let older = *number == last
                && segments.iter().any(|(timeline, segment)| {
                    segment == number && self.left_in(*timeline) == Some(*number)
                });
            !segments.contains(&(self.owner(*number), *number)) && !older
        };
        let lacking = (first..=last).find(lacks)?;
        Some(segment_name(self.owner(lacking), lacking))
    }

    /// Tests whether a backup is of this branch.
    pub(super) fn has(&self, backup: &ReportedBackup) -> bool {
        backup.timeline == self.timeline
            || self
                .ancestors
                .iter()
                .any(|(timeline, at)| *timeline == backup.timeline && backup.stop <= *at)
    }
}

/// Returns a position as PostgreSQL writes it, as a number.
pub(super) fn parse_lsn(text: &str) -> anyhow::Result<WalOffset> {
    let what = || format!("`{text}` is no position");
    let (upper, lower) = text.split_once('/').with_context(what)?;
    let upper = u64::from_str_radix(upper, 16).with_context(what)?;
    let lower = u64::from_str_radix(lower, 16).with_context(what)?;
    Ok(upper << 32 | lower)
}

/// Writes a position as PostgreSQL does.
pub(super) fn lsn(position: WalOffset) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)
}

/// Returns a segment's file name.
fn segment_name(timeline: u32, segment: u64) -> String {
    let in_each = (1 << 32) / SEGMENT_BYTES;
    let (log, number) = (segment / in_each, segment % in_each);
    format!("{timeline:08X}{log:08X}{number:08X}")
}

/// Returns the timeline and the number of a segment's file name.
pub(super) fn parse_segment(name: &str) -> Option<(u32, u64)> {
    if name.len() != 24 {
        return None;
    }
    let part = |from: usize| u64::from_str_radix(name.get(from..from + 8)?, 16).ok();
    let in_each = (1 << 32) / SEGMENT_BYTES;
    let timeline = u32::try_from(part(0)?).ok()?;
    Some((timeline, part(8)? * in_each + part(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timeline 1 was left in the middle of its segment 5, and timeline 3 began there.
    fn branch() -> TimelineModel {
        let old = TimelineModel {
            timeline: 1,
            ..TimelineModel::default()
        };
        old.begin(3, "1\t0/580000\tno reason\n").unwrap()
    }

    #[test]
    fn segments_then_up_to_where_they_reach() {
        let branch = branch();
        let mb = SEGMENT_BYTES;
        assert_eq!(branch.reach(&[(1, 3), (1, 4)]), Some(5 * mb));
        assert_eq!(branch.reach(&[(1, 4), (1, 5)]), Some(0x58_0000));
        assert_eq!(branch.reach(&[(1, 4), (1, 6)]), Some(5 * mb));
        assert_eq!(branch.reach(&[(1, 4), (3, 5)]), Some(6 * mb));
        assert_eq!(branch.reach(&[]), None);
    }

    #[test]
    fn segment_missing_then_a_gap() {
        let branch = branch();
        let start = 3 * SEGMENT_BYTES;
        assert_eq!(branch.gap(start, &[(1, 3), (1, 4), (3, 5), (3, 6)]), None);
        assert_eq!(branch.gap(start, &[(1, 3), (1, 4), (1, 5)]), None);
        let lacking = branch.gap(start, &[(1, 3), (3, 5)]).unwrap();
        assert_eq!(lacking, "000000010000000000000004");
        let lacking = branch
            .gap(start, &[(1, 3), (1, 4), (1, 5), (3, 6)])
            .unwrap();
        assert_eq!(lacking, "000000030000000000000005");
    }

    #[test]
    fn names_of_segments_then_back() {
        for (timeline, segment) in [(1, 0), (3, 4_095), (0x1f, 4_096)] {
            let name = segment_name(timeline, segment);
            assert_eq!(parse_segment(&name), Some((timeline, segment)));
        }
        assert_eq!(parse_lsn("1/80000").unwrap(), 0x1_0008_0000);
        assert_eq!(lsn(0x1_0008_0000), "1/80000");
    }
}
