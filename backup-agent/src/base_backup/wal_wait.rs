//! Wait for the WAL of a backup: PostgreSQL's own wait trusts `archive_command` and has no timeout.

use std::time::Duration;

use causeway_core::backup::BackupSummary;
use causeway_core::backup::chain::{missing_segments, needed_segments};
use causeway_core::lsn::SegmentName;
use causeway_runtime::retry::RetryPolicy;
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::chain;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::archive::wal_archive::WalArchive;
use crate::base_backup::archive_progress::ArchiveProgress;
use crate::base_backup::session::{ServerInfo, Session};
use crate::config::Config;
use crate::error::Error;
use crate::storage::buckets::Buckets;

/// Pauses between two listings of the archive: short at first, because the last segment takes a
/// moment, then longer.
const CHECK_BACKOFF: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(250),
    max_backoff: Duration::from_secs(2),
};

/// Time in which a segment that PostgreSQL has ended must be archived.
const ARCHIVE_TIMEOUT_SECS: u64 = 60;

/// Maximum number of missing segments that an error names.
const MAX_NAMED: usize = 5;

/// Makes the primary end the segment in which a standby's backup has ended: an idle primary leaves
/// it open, and only a primary can end it. Without `[postgres.primary]`, the wait lasts until the
/// primary's `archive_timeout`.
pub(crate) async fn end_segment(config: &Config, server: &ServerInfo, tasks: &Tasks) {
    let (true, Some(primary)) = (server.is_standby, &config.postgres.primary) else {
        return;
    };
    let switched = match Session::connect(primary, config.limits.server, tasks).await {
        Ok(session) => session.end_segment().await,
        Err(error) => Err(error),
    };
    match switched {
        Ok(()) => info!("segment ended on the primary"),
        Err(error) => {
            warn!(error = %chain(&error), "segment not ended on the primary, waiting for its `archive_timeout`");
        }
    }
}

/// Waits until each segment that the backup needs is in the required number of buckets. The wait
/// fails when no segment, of these or of those before them, has been archived for as long as the
/// server may leave a segment open, or for the configured time.
pub(crate) async fn wait(
    config: &Config,
    buckets: &Buckets,
    system_id: u64,
    summary: &BackupSummary,
    (server, session): (&ServerInfo, &Session),
) -> Result<(), Error> {
    let size = server.segment_size;
    let waited_secs = segment_timeout_secs(config.limits.archive_wait_secs, server);
    let archive = WalArchive::new(config, buckets, system_id);
    let range = || needed_segments(summary.timeline, summary.start_lsn, summary.stop_lsn, size);
    let (Some(first), Some(last)) = (range().next(), range().last()) else {
        return Ok(());
    };
    let mut progress = ArchiveProgress::new(&archive, session, size, (first, last));
    let mut until = Instant::now() + Duration::from_secs(waited_secs);
    let mut backoff = CHECK_BACKOFF.backoff();
    // Not `poll::until`: each segment that is archived moves the deadline.
    loop {
        match progress.check_status().await {
            Ok(status) => {
                let enough = |segment: &_| {
                    let holding = status
                        .holders
                        .iter()
                        .filter(|holder| holder.contains(segment));
                    holding.count() >= buckets.required()
                };
                let missing = missing_segments(range(), &range().filter(enough).collect());
                if missing.is_empty() {
                    return Ok(());
                }
                if status.has_come_nearer {
                    until = Instant::now() + Duration::from_secs(waited_secs);
                }
                if Instant::now() >= until {
                    return Err(not_archived(&missing, waited_secs, server, summary));
                }
            }
            // Hours of work are not discarded for an error that a retry may resolve.
            Err(error) if is_permanent(&error) || Instant::now() >= until => return Err(error),
            Err(error) => warn!(error = %chain(&error), "archive not listed, retrying"),
        }
        backoff.pause().await;
    }
}

/// Returns how long the next segment may take, in seconds.
fn segment_timeout_secs(set: Option<u64>, server: &ServerInfo) -> u64 {
    // A segment that begins right after the last one ended is ended an `archive_timeout` later, by
    // a process that wakes at that interval.
    set.unwrap_or(2 * server.archive_timeout_secs + ARCHIVE_TIMEOUT_SECS)
}

fn is_permanent(error: &Error) -> bool {
    if let Error::Unreachable { last, .. } = error {
        return last.kind().is_refusal();
    }
    false
}

fn not_archived(
    missing: &[SegmentName],
    waited_secs: u64,
    server: &ServerInfo,
    summary: &BackupSummary,
) -> Error {
    let names: Vec<String> = missing
        .iter()
        .take(MAX_NAMED)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = match missing.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let mut text = format!("{}{more}", names.join(", "));
    if let ([_], true) = (missing, server.is_standby) {
        let hint = format!(
            ", in which the backup of this standby ended at {}: an idle primary does not end it; set \
             `[postgres.primary]`, or call `pg_switch_wal()` there during the backup",
            summary.stop_lsn
        );
        text.push_str(&hint);
    }
    Error::WalNotArchived {
        waited_secs,
        missing: text,
    }
}

#[cfg(test)]
mod tests {
    use causeway_core::lsn::SegmentSize;

    use super::*;

    #[test]
    fn archive_timeout_then_wait_is_two_of_them_and_60_s() {
        let server = |archive_timeout_secs| ServerInfo {
            version: 150_018,
            segment_size: SegmentSize::DEFAULT,
            checksums: true,
            catalog_version: 202_209_061,
            is_standby: true,
            archive_timeout_secs,
        };
        for (timeout, waited) in [(0, 60), (60, 180), (300, 660)] {
            assert_eq!(
                segment_timeout_secs(None, &server(timeout)),
                waited,
                "{timeout}"
            );
        }
        assert_eq!(
            segment_timeout_secs(Some(5), &server(60)),
            5,
            "as it was set"
        );
    }
}
