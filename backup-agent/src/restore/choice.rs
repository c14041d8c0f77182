//! Choice of a backup for a target time. The end time of a backup is from its server's clock, and
//! its transactions were committed by a primary's clock: the WAL before its end shows their times.

use causeway_core::Lsn;
use causeway_core::backup::{
    BackupSummary, RecoveryTarget, TimelineHistory, WallTime, choose_backup,
};
use causeway_core::lsn::{SegmentName, SegmentSize};
use tempfile::NamedTempFile;

use crate::archive::wal_archive::WalArchive;
use crate::archive::wal_tail::{MAX_SEARCHED_SEGMENTS, read_tail};
use crate::display;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::output;
use crate::restore::request::{Boundary, RestoreRequest};

/// Returns the backup from which `request` is reached. A backup with a transaction from after the
/// target time is skipped, whatever its server's clock was.
pub(super) async fn choose_in_time(
    archive: &WalArchive<'_>,
    identity: &Identity,
    lineage: &TimelineHistory,
    mut backups: Vec<BackupSummary>,
    request: &RestoreRequest,
) -> Result<BackupSummary, Error> {
    let target = last_included(&request.target, request.boundary);
    loop {
        let chosen = choose_backup(&backups, lineage, &target, request.backup.as_ref())?.clone();
        let RecoveryTarget::Time(time) = target else {
            return Ok(chosen);
        };
        let last = last_transaction(archive, identity, lineage, &chosen).await?;
        let Some(last) = last.filter(|last| *last > time) else {
            return Ok(chosen);
        };
        output::print_progress(&format!(
            "backup {} is skipped: a transaction in it ended at {}, after the target, although its server's clock \
             was at {} when the backup ended",
            chosen.id,
            display::timestamp(last),
            display::timestamp(chosen.stopped_at),
        ));
        for backup in backups.iter_mut().filter(|backup| backup.id == chosen.id) {
            backup.stopped_at = last;
        }
    }
}

/// Returns the latest time, with PostgreSQL's precision of microseconds, of a transaction that
/// recovery to `target` replays.
fn last_included(target: &RecoveryTarget, boundary: Boundary) -> RecoveryTarget {
    match (target, boundary) {
        (RecoveryTarget::Time(time), Boundary::Exclusive) => {
            RecoveryTarget::Time(WallTime::from_micros(time.as_micros().saturating_sub(1)))
        }
        (target, _) => target.clone(),
    }
}

/// Returns when the last transaction before the end of `backup` committed or aborted, from the last
/// segment with a commit or abort. Returns `None` if the WAL before the backup has expired.
async fn last_transaction(
    archive: &WalArchive<'_>,
    identity: &Identity,
    lineage: &TimelineHistory,
    backup: &BackupSummary,
) -> Result<Option<WallTime>, Error> {
    // Such a manifest is refused when its WAL is listed.
    let Ok(size) = backup.segment_size() else {
        return Ok(None);
    };
    let number = |lsn: Lsn| lsn.get() / size.bytes();
    let first_needed = number(backup.start_lsn);
    let last = number(Lsn::new(backup.stop_lsn.get().saturating_sub(1)));
    let mut following = None;
    for number in (0..=last).rev().take(MAX_SEARCHED_SEGMENTS) {
        let file = read_first(archive, identity, &names(lineage, number, size)).await?;
        if file.is_none() && number < first_needed {
            break;
        }
        if let Some(file) = &file {
            let end = backup.stop_lsn.get().min((number + 1) * size.bytes());
            let tail = read_tail(file, following.as_ref(), Some(Lsn::new(end)))?;
            if tail.last_transaction.is_some() {
                return Ok(tail.last_transaction);
            }
        }
        following = file;
    }
    Ok(None)
}

/// Reads the first of these segments that is in the archive and readable.
async fn read_first(
    archive: &WalArchive<'_>,
    identity: &Identity,
    names: &[SegmentName],
) -> Result<Option<NamedTempFile>, Error> {
    for name in names {
        match archive.read_segment(identity, *name).await {
            Ok(file) => return Ok(Some(file)),
            // A segment that the backup needs stops its recovery, and the listing of its WAL names
            // a gap.
            Err(
                Error::NotArchived { .. } | Error::Damaged { .. } | Error::WalFileRejected { .. },
            ) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(None)
}

/// Returns the segments of this number along `lineage`, newest timeline first. Up to the fork, the
/// copies of a segment are identical.
fn names(lineage: &TimelineHistory, number: u64, size: SegmentSize) -> Vec<SegmentName> {
    let mut parts: Vec<_> = lineage.stretches().collect();
    let begun = parts.last().map_or(Lsn::new(0), |(_, _, left_at)| *left_at);
    parts.push((lineage.timeline(), begun, Lsn::new(u64::MAX)));
    let holds = |begin: Lsn, end: Lsn| {
        begin.get() / size.bytes() <= number && number <= end.get() / size.bytes()
    };
    parts
        .into_iter()
        .rev()
        .filter(|(_, begin, end)| holds(*begin, *end))
        .map(|(timeline, _, _)| SegmentName::numbered(timeline, number, size))
        .collect()
}

#[cfg(test)]
mod tests {
    use causeway_core::Timeline;
    use causeway_core::lsn::Ancestor;

    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    #[test]
    fn exclusive_time_then_transactions_of_that_time_left_out() {
        let time = |micros| RecoveryTarget::Time(WallTime::from_micros(micros));
        assert_eq!(last_included(&time(7), Boundary::Exclusive), time(6));
        assert_eq!(last_included(&time(7), Boundary::Inclusive), time(7));
        let lsn = RecoveryTarget::Lsn(Lsn::new(7));
        assert_eq!(last_included(&lsn, Boundary::Exclusive), lsn);
    }

    #[test]
    fn segment_at_a_fork_then_both_timelines_have_it() {
        let left = Ancestor {
            timeline: Timeline::FIRST,
            left_at: Lsn::new(5 * SIZE.bytes() + 77),
        };
        let lineage = TimelineHistory::new(Timeline::new(2).unwrap(), vec![left]);
        let shown = |number| -> Vec<u32> {
            let names = names(&lineage, number, SIZE);
            names.iter().map(|segment| segment.timeline.get()).collect()
        };
        assert_eq!(shown(4), [1]);
        assert_eq!(shown(5), [2, 1]);
        assert_eq!(shown(6), [2]);
    }
}
