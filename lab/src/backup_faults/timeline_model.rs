//! Model of the written timelines: committed rows, in order, with their LSNs.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// Segment size of these servers.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Position in the WAL (LSN), as a number.
pub(super) type WalOffset = u64;

/// Committed row.
#[derive(Clone, Debug)]
pub(super) struct CommittedRow {
    pub(super) number: i64,
    /// Commit; `None` if its acknowledgement was lost.
    pub(super) commit: Option<CommitRecord>,
}

/// Commit of a row.
#[derive(Clone, Debug)]
pub(super) struct CommitRecord {
    /// LSN after the commit record, and before the records of the next row.
    pub(super) lsn: WalOffset,
    /// Time in the commit record.
    pub(super) time: String,
    pub(super) xid: u64,
}

/// Restore point.
#[derive(Clone, Debug)]
pub(super) struct RestorePoint {
    pub(super) name: String,
    /// Number of rows committed before it.
    pub(super) rows: usize,
    pub(super) lsn: WalOffset,
}

/// Rows committed on a timeline and its ancestors.
#[derive(Clone, Debug, Default)]
pub(super) struct TimelineModel {
    pub(super) timeline: u32,
    /// Ancestors, oldest first, each with the LSN of its switch point.
    pub(super) ancestors: Vec<(u32, WalOffset)>,
    /// Rows, oldest first.
    pub(super) rows: Vec<CommittedRow>,
    pub(super) points: Vec<RestorePoint>,
}

/// Backup that `backup-agent` reported as complete.
#[derive(Clone, Debug)]
pub(super) struct ReportedBackup {
    pub(super) id: String,
    pub(super) timeline: u32,
    pub(super) start: WalOffset,
    pub(super) stop: WalOffset,
    /// Number of rows committed at its report.
    pub(super) rows: usize,
    /// Keys of its objects, in any bucket.
    pub(super) keys: Vec<String>,
}

/// Every written timeline.
pub(super) type TimelineModels = BTreeMap<u32, TimelineModel>;

impl TimelineModel {
    /// Returns the model of a new timeline that starts here, from its history file.
    pub(super) fn fork(&self, timeline: u32, history: &str) -> anyhow::Result<Self> {
        let lines = history.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let ancestors = lines.map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = fields.next().and_then(|field| field.parse().ok());
            let left_at = fields.next().map(parse_lsn);
            let invalid = || format!("`{line}` is not a line of a history file");
            Ok((
                timeline.with_context(invalid)?,
                left_at.with_context(invalid)??,
            ))
        });
        Ok(Self {
            timeline,
            ancestors: ancestors.collect::<anyhow::Result<_>>()?,
            ..self.clone()
        })
    }

    /// Returns the newest timeline that contains this segment.
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

    /// Returns the number of the last available segment of this branch, and the LSN up to which it
    /// belongs to the branch.
    fn last_segment(&self, segments: &[(u32, u64)]) -> Option<(u64, WalOffset)> {
        let mut owned = segments.iter().filter(|(timeline, segment)| {
            self.owner(*segment) == *timeline || self.left_in(*timeline) == Some(*segment)
        });
        let (timeline, last) = owned.by_ref().max_by_key(|(_timeline, segment)| *segment)?;
        let end = (last + 1) * SEGMENT_BYTES;
        let complete = segments.contains(&(self.owner(*last), *last));
        if complete || *timeline == self.timeline {
            return Some((*last, end));
        }
        let left_at = self
            .ancestors
            .iter()
            .find(|(ancestor, _left_at)| ancestor == timeline);
        Some((*last, left_at.map_or(end, |(_ancestor, at)| (*at).min(end))))
    }

    /// Returns the segment that contains the switch point of an ancestor.
    fn left_in(&self, timeline: u32) -> Option<u64> {
        let ancestor = self
            .ancestors
            .iter()
            .find(|(ancestor, _left_at)| *ancestor == timeline);
        ancestor.map(|(_ancestor, left_at)| left_at / SEGMENT_BYTES)
    }

    /// Returns the end of the WAL in these segments, with or without gaps.
    pub(super) fn wal_end(&self, segments: &[(u32, u64)]) -> Option<WalOffset> {
        self.last_segment(segments).map(|(_segment, end)| end)
    }

    /// Returns the number of rows committed up to an LSN.
    pub(super) fn rows_until(&self, end: WalOffset) -> usize {
        let within =
            |row: &CommittedRow| row.commit.as_ref().is_some_and(|commit| commit.lsn <= end);
        self.rows.iter().rposition(within).map_or(0, |row| row + 1)
    }

    /// Returns the first missing segment from `start` on that has an available successor.
    pub(super) fn missing_segment(
        &self,
        start: WalOffset,
        segments: &[(u32, u64)],
    ) -> Option<String> {
        let (last, _) = self.last_segment(segments)?;
        let first = start / SEGMENT_BYTES;
        let is_missing = |number: &u64| {
            let older = *number == last
                && segments.iter().any(|(timeline, segment)| {
                    segment == number && self.left_in(*timeline) == Some(*number)
                });
            !segments.contains(&(self.owner(*number), *number)) && !older
        };
        let missing = (first..=last).find(is_missing)?;
        Some(segment_name(self.owner(missing), missing))
    }

    /// Tests whether a backup belongs to this branch.
    pub(super) fn contains(&self, backup: &ReportedBackup) -> bool {
        backup.timeline == self.timeline
            || self
                .ancestors
                .iter()
                .any(|(timeline, left_at)| *timeline == backup.timeline && backup.stop <= *left_at)
    }
}

/// Parses an LSN in PostgreSQL's format.
pub(super) fn parse_lsn(text: &str) -> anyhow::Result<WalOffset> {
    let invalid = || format!("`{text}` is not an LSN");
    let (upper, lower) = text.split_once('/').with_context(invalid)?;
    let upper = u64::from_str_radix(upper, 16).with_context(invalid)?;
    let lower = u64::from_str_radix(lower, 16).with_context(invalid)?;
    Ok(upper << 32 | lower)
}

/// Formats an LSN as PostgreSQL does.
pub(super) fn format_lsn(position: WalOffset) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)
}

/// Returns the file name of a segment.
fn segment_name(timeline: u32, segment: u64) -> String {
    let segments_per_log = (1 << 32) / SEGMENT_BYTES;
    let log = segment / segments_per_log;
    let number = segment % segments_per_log;
    format!("{timeline:08X}{log:08X}{number:08X}")
}

/// Returns the timeline and number of a segment from its file name.
pub(super) fn parse_segment(name: &str) -> Option<(u32, u64)> {
    if name.len() != 24 {
        return None;
    }
    let part = |from: usize| u64::from_str_radix(name.get(from..from + 8)?, 16).ok();
    let segments_per_log = (1 << 32) / SEGMENT_BYTES;
    let timeline = u32::try_from(part(0)?).ok()?;
    Some((timeline, part(8)? * segments_per_log + part(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timeline 3 starts in the middle of segment 5 of timeline 1.
    fn branch() -> TimelineModel {
        let old = TimelineModel {
            timeline: 1,
            ..TimelineModel::default()
        };
        old.fork(3, "1\t0/580000\tno reason\n").unwrap()
    }

    #[test]
    fn segments_then_end_of_their_wal() {
        let branch = branch();
        let mb = SEGMENT_BYTES;
        assert_eq!(branch.wal_end(&[(1, 3), (1, 4)]), Some(5 * mb));
        assert_eq!(branch.wal_end(&[(1, 4), (1, 5)]), Some(0x58_0000));
        assert_eq!(branch.wal_end(&[(1, 4), (1, 6)]), Some(5 * mb));
        assert_eq!(branch.wal_end(&[(1, 4), (3, 5)]), Some(6 * mb));
        assert_eq!(branch.wal_end(&[]), None);
    }

    #[test]
    fn segment_missing_then_named() {
        let branch = branch();
        let start = 3 * SEGMENT_BYTES;
        assert_eq!(
            branch.missing_segment(start, &[(1, 3), (1, 4), (3, 5), (3, 6)]),
            None
        );
        assert_eq!(
            branch.missing_segment(start, &[(1, 3), (1, 4), (1, 5)]),
            None
        );
        let missing = branch.missing_segment(start, &[(1, 3), (3, 5)]).unwrap();
        assert_eq!(missing, "000000010000000000000004");
        let missing = branch
            .missing_segment(start, &[(1, 3), (1, 4), (1, 5), (3, 6)])
            .unwrap();
        assert_eq!(missing, "000000030000000000000005");
    }

    #[test]
    fn segment_name_then_parsed_back() {
        for (timeline, segment) in [(1, 0), (3, 4_095), (0x1f, 4_096)] {
            let name = segment_name(timeline, segment);
            assert_eq!(parse_segment(&name), Some((timeline, segment)));
        }
        assert_eq!(parse_lsn("1/80000").unwrap(), 0x1_0008_0000);
        assert_eq!(format_lsn(0x1_0008_0000), "1/80000");
    }
}
