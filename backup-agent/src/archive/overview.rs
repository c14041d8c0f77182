//! WAL that a set of backups needs, for `list`, `check` and `backup`.

use crate::archive::listed_segments::{ListedSegments, list_segments, segment_size, timelines};
use crate::archive::reach::KnownReach;
use crate::archive::wal_archive::WalArchive;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::output;
use crate::storage::buckets::Buckets;
use causeway_core::Timeline;
use causeway_core::backup::{BackupSummary, TimelineHistory, WalGap};
use causeway_runtime::telemetry::chain;
use std::collections::{BTreeMap, BTreeSet};

/// WAL in the buckets that a set of backups needs, and the timelines along which it is followed.
#[derive(Debug)]
pub(crate) struct WalOverview {
    lineages: Vec<TimelineHistory>,
    /// Newest timeline, if the histories could be read.
    newest: Option<Timeline>,
    held: ListedSegments,
}

impl WalOverview {
    /// Lists the WAL from the first of `backups` on; returns `None` without a backup.
    pub(crate) async fn new(
        archive: &WalArchive<'_>,
        buckets: &Buckets,
        identity: Option<&Identity>,
        backups: &[BackupSummary],
    ) -> Result<Option<Self>, Error> {
        let Some(first) = backups.iter().min_by_key(|backup| backup.start_lsn) else {
            return Ok(None);
        };
        let size = segment_size(archive.object_keys(), first)?;
        let lineages = lineages(archive, identity, backups).await?;
        let timelines = timelines(&lineages);
        let from = first.start_lsn;
        let held = list_segments(buckets, archive.object_keys(), size, from, timelines).await?;
        let newest = lineages.iter().map(TimelineHistory::timeline).max();
        let newest = newest.filter(|_| identity.is_some());
        Ok(Some(Self {
            lineages,
            newest,
            held,
        }))
    }

    /// Returns the reach of the WAL from a backup: towards the newest timeline if that descends
    /// from the backup's, and otherwise along its own.
    pub(crate) fn reach(&self, backup: &BackupSummary) -> Option<KnownReach> {
        let lineage = lineage_of(&self.lineages, backup)?;
        Some(KnownReach::new(&self.held, lineage, backup))
    }

    /// Returns the buckets that did not list their WAL: segments that only they have appear as a
    /// gap.
    pub(crate) fn silent(&self) -> &BTreeSet<String> {
        &self.held.silent
    }

    /// Returns the length of the listed WAL in a bucket.
    pub(super) fn bytes(&self, bucket: &str) -> u64 {
        self.held.bytes.get(bucket).copied().unwrap_or(0)
    }

    /// Returns the number of segments after `backups` that no bucket has, though one has a later one.
    pub(super) fn missing_segments(&self, backups: &[BackupSummary]) -> u64 {
        let mut missing: BTreeMap<Timeline, u64> = BTreeMap::new();
        for backup in backups {
            let lineage = lineage_of(&self.lineages, backup);
            let after = lineage.map(|lineage| self.held.all.missing(lineage, backup.start_lsn));
            // Lineages share ancestors.
            for (timeline, count) in after.into_iter().flatten() {
                let most = missing.entry(timeline).or_default();
                *most = count.max(*most);
            }
        }
        missing.values().sum()
    }

    /// Returns whether recovery from a backup reaches the end of the archived WAL.
    pub(super) fn reaches_end(&self, backup: &BackupSummary) -> bool {
        let Some(KnownReach {
            timeline,
            segments,
            segment_size,
            ..
        }) = self.reach(backup)
        else {
            return false;
        };
        let stop = backup.stop_lsn.get().saturating_sub(1) / segment_size.bytes();
        let is_consistent = segments
            .last
            .is_some_and(|last| last.number(segment_size) >= stop);
        let is_newest = self.newest.is_none_or(|newest| newest == timeline);
        is_consistent && is_newest && segments.gap.is_none()
    }

    /// Returns the newest timeline if recovery towards it does not pass a backup, so that a restore
    /// starts with an older one.
    pub(crate) fn newest_other_timeline(&self, backup: &BackupSummary) -> Option<Timeline> {
        let newest = self.lineages.first()?;
        let is_passed = newest.passes(backup.timeline, backup.stop_lsn);
        (!is_passed && newest.timeline() > backup.timeline).then(|| newest.timeline())
    }

    /// Returns the gaps after a backup, and where: in all buckets together or, if there is none, in
    /// each of `holders`.
    pub(crate) fn gaps(&self, backup: &BackupSummary, holders: &[String]) -> Vec<(String, WalGap)> {
        let lineage = lineage_of(&self.lineages, backup);
        lineage.map_or_else(Vec::new, |lineage| self.held.gaps(lineage, backup, holders))
    }
}

/// Returns the lineage of the newest timeline, and of each backup's timeline that it does not
/// descend from. Without an identity no history is readable, and each timeline is followed alone.
async fn lineages(
    archive: &WalArchive<'_>,
    identity: Option<&Identity>,
    backups: &[BackupSummary],
) -> Result<Vec<TimelineHistory>, Error> {
    let mut of_backups: BTreeSet<Timeline> = backups.iter().map(|backup| backup.timeline).collect();
    let Some(identity) = identity else {
        let alone = |timeline: Timeline| TimelineHistory::new(timeline, Vec::new());
        return Ok(of_backups.into_iter().map(alone).collect());
    };
    // Not an empty set after an error: every timeline would appear to have no ancestors.
    let known = archive.histories().await?;
    let mut lineages = Vec::new();
    if let Some(at_least) = of_backups.last().copied() {
        let newest = archive.lineage(identity, &known, None, at_least).await;
        if let Some(newest) = ok_or_log(newest) {
            of_backups.retain(|timeline| *timeline != newest.timeline());
            lineages.push(newest);
        }
    }
    for timeline in of_backups.into_iter().rev() {
        let lineage = archive
            .lineage(identity, &known, Some(timeline), timeline)
            .await;
        lineages
            .push(ok_or_log(lineage).unwrap_or_else(|| TimelineHistory::new(timeline, Vec::new())));
    }
    Ok(lineages)
}

/// Logs an error and returns `None`: an unreadable history does not hide the others.
fn ok_or_log<T>(found: Result<T, Error>) -> Option<T> {
    found
        .inspect_err(|why| output::print_error(&chain(why), why.hint()))
        .ok()
}

/// Returns the first of `lineages` that includes a backup.
fn lineage_of<'a>(
    lineages: &'a [TimelineHistory],
    backup: &BackupSummary,
) -> Option<&'a TimelineHistory> {
    let passes = |lineage: &&TimelineHistory| lineage.passes(backup.timeline, backup.stop_lsn);
    lineages.iter().find(passes)
}
