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
use std::collections::BTreeSet;

/// WAL in the buckets that a set of backups needs, and the timelines along which it is followed.
#[derive(Debug)]
pub(crate) struct WalOverview {
    lineages: Vec<TimelineHistory>,
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
        Ok(Some(Self { lineages, held }))
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
