//! Reach of the WAL in the buckets, determined before a restore, and reported by `list` and
//! `check`.

use std::fmt;

use causeway_core::backup::{
    ArchiveReach, BackupSummary, HeldSegments, TimelineHistory, WalGap, WallTime,
};
use causeway_core::lsn::{SegmentName, SegmentSize};
use causeway_core::{Lsn, Timeline};
use causeway_runtime::telemetry::chain;
use serde::Serialize;

use crate::archive::listed_segments::{ListedSegments, list_segments, segment_size, timelines};
use crate::archive::wal_archive::WalArchive;
use crate::archive::wal_tail::{MAX_SEARCHED_SEGMENTS, read_tail};
use crate::display;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::storage::buckets::Buckets;

/// End of the WAL that can be replayed from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownReach {
    /// Timeline towards which it is followed.
    pub(crate) timeline: Timeline,
    /// Last segment, and the gap after it.
    pub(crate) segments: ArchiveReach,
    /// Size of the segments.
    pub(crate) segment_size: SegmentSize,
    /// Content of the last segments; `None` if nothing could be decrypted.
    pub(crate) end: Option<WalEnd>,
    /// Last segment of the branch that the timeline left, if no segment of the timeline itself is
    /// archived.
    pub(crate) branch_left: Option<SegmentName>,
    /// Unreadable last segments, and why.
    pub(crate) unreadable: Vec<String>,
    /// Buckets that did not respond.
    pub(crate) silent: Vec<String>,
}

/// Content of the last WAL segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalEnd {
    /// Position of the last record.
    pub(crate) last_record: Option<Lsn>,
    /// Time of the last commit or abort, if one of the last segments has one.
    pub(crate) last_transaction: Option<WallTime>,
    /// Whether all segments were searched, back to the start of the backup.
    pub(crate) is_complete: bool,
}

/// Reach of the WAL in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ReachOutput {
    timeline: u32,
    last_segment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_transaction: Option<String>,
    gap: Option<GapOutput>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct GapOutput {
    missing: String,
    next_held: String,
}

/// Returns the reach of the WAL from `backup` along `lineage`, read from its last segments.
pub(crate) async fn read_reach(
    archive: &WalArchive<'_>,
    buckets: &Buckets,
    identity: &Identity,
    lineage: &TimelineHistory,
    backup: &BackupSummary,
) -> Result<KnownReach, Error> {
    let size = segment_size(archive.object_keys(), backup)?;
    let timelines = timelines(std::slice::from_ref(lineage));
    let held = list_segments(
        buckets,
        archive.object_keys(),
        size,
        backup.start_lsn,
        timelines,
    )
    .await?;
    let mut known = KnownReach::new(&held, lineage, backup);
    known.silent = held.silent.into_iter().collect();
    if let Some(last) = known.segments.last {
        let first = backup.start_lsn.get() / size.bytes();
        let (end, unreadable) = end(archive, identity, &held.all, lineage, first, last).await?;
        known.end = Some(end);
        known.unreadable = unreadable;
    }
    Ok(known)
}

/// Reads the last segment, and earlier ones until one has a commit or abort.
async fn end(
    archive: &WalArchive<'_>,
    identity: &Identity,
    held: &HeldSegments,
    lineage: &TimelineHistory,
    first: u64,
    last: SegmentName,
) -> Result<(WalEnd, Vec<String>), Error> {
    let size = held.segment_size();
    let mut end = WalEnd::default();
    let mut unreadable = Vec::new();
    let mut name = Some(last);
    for _ in 0..=MAX_SEARCHED_SEGMENTS {
        let Some(segment) = name else {
            end.is_complete = true;
            break;
        };
        match archive.read_segment(identity, segment).await {
            Ok(file) => {
                // The rest of an ancestor's copy belongs to the abandoned branch.
                let left_at = lineage.left_at(segment.timeline);
                let tail = read_tail(&file, None, left_at)?;
                end.last_transaction = end.last_transaction.max(tail.last_transaction);
                end.last_record = end.last_record.or(tail.last_record);
            }
            // Recovery reaches the segment before it, which may suffice.
            Err(why @ (Error::Damaged { .. } | Error::WalFileRejected { .. })) => {
                unreadable.push(format!("`{segment}` cannot be read: {}", chain(&why)));
            }
            Err(why) => return Err(why),
        }
        if end.last_transaction.is_some() {
            break;
        }
        let before = segment.number(size).checked_sub(1);
        name = before
            .filter(|segment| *segment >= first)
            .and_then(|number| lineage.segment(number, held));
    }
    Ok((end, unreadable))
}

impl KnownReach {
    /// Returns the reach of the listed segments from `backup` along `lineage`.
    pub(super) fn new(
        held: &ListedSegments,
        lineage: &TimelineHistory,
        backup: &BackupSummary,
    ) -> Self {
        Self {
            timeline: lineage.timeline(),
            segments: held.all.reach(lineage, backup.start_lsn),
            segment_size: held.all.segment_size(),
            end: None,
            branch_left: held.all.branch_left(lineage),
            unreadable: Vec::new(),
            silent: Vec::new(),
        }
    }

    /// Returns the error for a target that is not within reach.
    pub(crate) fn unreachable_target(&self, why: String) -> Error {
        Error::BeyondReach {
            why,
            reach: self.to_string(),
        }
    }

    fn last_record(&self) -> Option<Lsn> {
        self.end.and_then(|end| end.last_record)
    }

    fn last_transaction(&self) -> Option<WallTime> {
        self.end.and_then(|end| end.last_transaction)
    }

    /// Returns the JSON output.
    pub(crate) fn output(&self) -> ReachOutput {
        ReachOutput {
            timeline: self.timeline.get(),
            last_segment: self.segments.last.map(|segment| segment.to_string()),
            last_record: self.last_record().map(|record| record.to_string()),
            last_transaction: self.last_transaction().map(display::timestamp),
            gap: self.segments.gap.map(|gap| GapOutput {
                missing: gap.missing.to_string(),
                next_held: gap.next_held.to_string(),
            }),
        }
    }
}

impl fmt::Display for KnownReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segments.last {
            Some(last) => write!(f, "WAL complete to `{last}`, timeline {}", last.timeline)?,
            None => write!(f, "no WAL from the start of the backup on")?,
        }
        if let Some(time) = self.last_transaction() {
            write!(f, ", last transaction at {}", display::timestamp(time))?;
        }
        if let Some(lsn) = self.last_record() {
            write!(f, ", last record at {lsn}")?;
        }
        let ended_on = self.segments.last.map(|last| last.timeline);
        if self.segments.gap.is_none() && ended_on.is_some_and(|timeline| timeline != self.timeline)
        {
            write!(
                f,
                "; no segment of timeline {} is archived yet",
                self.timeline
            )?;
        }
        if let Some(left) = self.branch_left {
            write!(f, ", and timeline {} continues to `{left}`", left.timeline)?;
        }
        for text in &self.unreadable {
            write!(f, "; {text}")?;
        }
        if let Some(gap) = self.segments.gap {
            write!(f, "; GAP: {}", GapText(gap))?;
        }
        Ok(())
    }
}

/// Text of a gap for messages.
pub(crate) struct GapText(pub(crate) WalGap);

impl fmt::Display for GapText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WalGap { missing, next_held } = self.0;
        write!(f, "`{missing}` is missing and `{next_held}` is there")
    }
}
