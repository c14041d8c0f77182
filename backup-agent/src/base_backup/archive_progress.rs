//! Whether the archive comes nearer to what a backup needs: a wait for it is in vain only if not.

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

/// How many segments before the first the newest that the archive has is looked for; then this many
/// times further back.
const LOOK_BACK: u64 = 64;
const FURTHER: u64 = 16;

/// A server on this host answers at once or not at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What was archived on the way to the last segment of a backup. An archiver that is behind archives
/// what comes before the backup first.
pub(super) struct ArchiveProgress<'a> {
    archive: &'a WalArchive<'a>,
    session: &'a Session,
    size: SegmentSize,
    first: SegmentName,
    /// What is archived after it brings the backup no nearer, and prolongs no wait.
    last: SegmentName,
    /// The newest segment that the archive had before the first.
    since: Option<SegmentName>,
    held: usize,
    archived: Option<SegmentName>,
}

/// What one look at the archive found.
pub(super) struct ArchiveStatus {
    /// The segments that each bucket holds.
    pub(super) holders: Vec<BTreeSet<SegmentName>>,
    /// Whether anything came since the look before.
    pub(super) has_come_nearer: bool,
}

impl<'a> ArchiveProgress<'a> {
    /// Begins to look for the segments from `first` to `last`, which `session`'s server may archive.
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

    /// Looks at the archive, and at what the server's archiver did: a standby has none that archives
    /// what a primary writes, and an archiver may be at a timeline before the backup's.
    pub(super) async fn check_status(&mut self) -> Result<ArchiveStatus, Error> {
        let since = match self.since {
            Some(since) => since,
            None => *self.since.insert(self.newest_before().await?),
        };
        let holders = self.archive.holders(since).await?;
        let held = holders.iter().map(|segments| segments.range(..=self.last).count());
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

    /// Returns the newest segment up to the first that is in the archive, where the buckets differ the
    /// oldest of these.
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

    /// Returns the segment that the server's archiver archived last, if it is on the way. Without an
    /// answer, the archive alone shows what comes.
    async fn archived(&self) -> Option<SegmentName> {
        let asked = time::timeout(ANSWER_WITHIN, last_archived(self.session)).await;
        let answer = asked.context("it did not answer in time").flatten();
        let name = answer.unwrap_or_else(|error| {
            debug!(error = %chain(error.as_ref()), "archiver not asked");
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
