//! Records for the metrics: requests, backups, listings and restores.

use std::path::Path;
use std::time::Duration;

use crate::storage::bucket_health::{BucketHealth, now};
use crate::storage::health_report::{BackupRecord, FilledDirectory};

/// Result of comparing the listed WAL with the listed backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalCoverage {
    /// Segments after the oldest backup that no bucket has.
    pub(crate) missing_segments: u64,
    /// End of the oldest backup after which no segment is missing, in seconds since 1970.
    pub(crate) oldest_recovery_point: Option<i64>,
}

impl BucketHealth {
    /// Returns whether the last request to the bucket was answered and allowed; `None` before the first.
    pub(crate) fn is_reachable(&self, bucket: &str) -> Option<bool> {
        let report = self.report();
        report.buckets.get(bucket)?.is_reachable
    }

    /// Records whether a request to the bucket was answered and allowed.
    pub(crate) fn record_request(&self, bucket: &str, is_reachable: bool) {
        self.record(bucket, |record| record.is_reachable = Some(is_reachable));
    }

    /// Records that the bucket has another server's WAL under the name of a file to push.
    pub(crate) fn record_conflict(&self, bucket: &str) {
        self.record(bucket, |record| record.has_conflict = true);
    }

    /// Records whether the bucket has objects of other system identifiers below the cluster's name, and none of this
    /// database.
    pub(crate) fn record_foreign(&self, bucket: &str, is_foreign: bool) {
        self.record(bucket, |record| record.is_foreign = is_foreign);
    }

    /// Records that a base backup failed now.
    pub(crate) fn record_backup_failed(&self) {
        self.update(|report| report.backup.last_failed_at = Some(now()));
    }

    /// Records a completed base backup.
    pub(crate) fn record_backup(&self, duration: Duration, stored_bytes: u64) {
        self.update(|report| {
            report.backup = BackupRecord {
                last_duration_secs: duration.as_secs(),
                last_stored_bytes: stored_bytes,
                ..report.backup
            };
        });
    }

    /// Records the listed length of each bucket and, if every bucket has listed its WAL, its coverage.
    pub(crate) fn record_listing(&self, bytes: &[(String, u64)], coverage: Option<WalCoverage>) {
        self.update(|report| {
            for (bucket, bytes) in bytes {
                if let Some(record) = report.buckets.get_mut(bucket) {
                    record.repository_bytes = *bytes;
                }
            }
            if let Some(coverage) = coverage {
                report.missing_segments = coverage.missing_segments;
                report.oldest_recovery_point = coverage.oldest_recovery_point;
            }
        });
    }

    /// Records that a restore has filled a directory, which counts once [`record_verified`](Self::record_verified) has
    /// been called for it.
    pub(crate) fn record_restore(&self, filled: FilledDirectory) {
        self.update(|report| report.restore.unverified = Some(filled));
    }

    /// Records that the database restored into `directory` has answered at this time.
    pub(crate) fn record_verified(&self, directory: &Path, answered_at: i64) {
        self.update(|report| {
            let filled = &mut report.restore.unverified;
            if let Some(filled) = filled.take_if(|filled| filled.path == directory) {
                let secs = answered_at.saturating_sub(filled.began_at);
                report.restore.last_verified_at = Some(now());
                report.restore.last_duration_secs = u64::try_from(secs).unwrap_or(0);
            }
        });
    }
}
