//! Progress of the archive towards the segments that a backup needs. A wait for them ends when
//! there is none.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::lsn::{SegmentName, SegmentSize, WalFileName};
use causeway_runtime::telemetry::chain;
use tokio::time;
use tracing::debug;

use crate::archive::wal_archive::WalArchive;
use crate::base_backup::session::Session;
use crate::error::Error;

/// Distance before the first segment at which the search for the archive's newest segment starts;
/// each further step goes this many times further back.
const LOOK_BACK: u64 = 64;
const FURTHER: u64 = 16;

/// Timeout of a query. A server on this host responds at once or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Segments archived on the way to the last segment of a backup. An archiver that is behind
/// archives the earlier ones first.
pub(super) struct ArchiveProgress<'a> {
    archive: &'a WalArchive<'a>,
    session: &'a Session,
    size: SegmentSize,
    first: SegmentName,
    /// Last segment of the backup. Later segments bring it no nearer and prolong no wait.
    last: SegmentName,
    /// Newest segment before the first that the archive had.
    since: Option<SegmentName>,
    held: usize,
    archived: Option<SegmentName>,
}

/// Result of one look into the archive.
pub(super) struct ArchiveStatus {
    /// Segments that each bucket holds.
    pub(super) holders: Vec<BTreeSet<SegmentName>>,
    /// Whether a segment has been archived since the previous look.
    pub(super) has_come_nearer: bool,
}

impl<'a> ArchiveProgress<'a> {
    /// Returns the progress of the segments from `first` to `last`, which `session`'s server may
    /// archive.
    pub(super) fn new(
        archive: &'a WalArchive<'a>,
        session: &'a Session,
        size: SegmentSize,
        (first, last): (SegmentName, SegmentName),
    ) -> Self {
        Self {
            archive,
            session,
            size,
            first,
            last,
            since: None,
            held: 0,
            archived: None,
        }
    }

    /// Looks into the archive and at the server's archiver. A standby's archiver does not archive
    /// the primary's WAL, and an archiver may be at a timeline before the backup's.
    pub(super) async fn check_status(&mut self) -> Result<ArchiveStatus, Error> {
        let since = match self.since {
            Some(since) => since,
            None => *self.since.insert(self.newest_before().await?),
        };
        let holders = self.archive.holders(since).await?;
        let held = holders
            .iter()
            .map(|segments| segments.range(..=self.last).count());
        let held = held.sum();
        let archived = self.archived().await;
        let has_come_nearer = held > self.held || archived > self.archived;
        self.held = self.held.max(held);
        self.archived = self.archived.max(archived);
        Ok(ArchiveStatus {
            holders,
            has_come_nearer,
        })
    }

    /// Returns the newest archived segment up to the first; if the buckets differ, the oldest of
    /// these.
    async fn newest_before(&self) -> Result<SegmentName, Error> {
        let (number, mut back) = (self.first.number(self.size), LOOK_BACK);
        loop {
            let from = number.saturating_sub(back);
            let from_name = SegmentName::numbered(self.first.timeline, from, self.size);
            let holders = self.archive.holders(from_name).await?;
            let newest = holders
                .iter()
                .filter_map(|segments| segments.range(..=self.first).next_back());
            match newest.min() {
                Some(newest) => return Ok(*newest),
                None if from == 0 => return Ok(self.first),
                None => back = back.saturating_mul(FURTHER),
            }
        }
    }

    /// Returns the segment that the server's archiver archived last, if it is on the way. Without a
    /// response only the archive shows progress.
    async fn archived(&self) -> Option<SegmentName> {
        let asked = time::timeout(ANSWER_TIMEOUT, last_archived(self.session)).await;
        let answer = asked.context("it did not respond in time").flatten();
        let name = answer.unwrap_or_else(|error| {
            debug!(error = %chain(error.as_ref()), "archiver not queried");
            None
        });
        let segment = match name?.parse().ok()? {
            WalFileName::Segment(name)
            | WalFileName::Partial(name)
            | WalFileName::BackupLabel(name, _) => name,
            WalFileName::History(_) => return None,
        };
        (segment <= self.last).then_some(segment)
    }
}

async fn last_archived(session: &Session) -> anyhow::Result<Option<String>> {
    let sql = "SELECT last_archived_wal FROM pg_stat_archiver";
    let row = session.client().query_opt(sql, &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}
