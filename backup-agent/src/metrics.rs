//! Metrics in the file `[metrics] textfile`, for the textfile collector of `node_exporter`. Each describes
//! this host's view.

use std::io;

use causeway_runtime::declare_metrics;
use prometheus::{GaugeVec, IntGauge, Registry, TextEncoder};

use crate::storage::bucket_health::RecordedBucket;
use crate::storage::health_report::HealthReport;

declare_metrics! {
    /// Commands have no port: with `[metrics] textfile`, each replaces a file for the textfile collector of
    /// `node_exporter` with what this host has observed. `pg_stat_archiver` shows whether `archive_command`
    /// succeeds. Declared in `backup-agent/src/metrics.rs`.
    pub(crate) struct Metrics {
        lacking_files: GaugeVec = "backup_bucket_lacking_files" ["bucket"],
            "Objects of other buckets that the bucket lacks or has with other content; a backup counts as one, \
             with its packs";
        lacking_since: GaugeVec = "backup_bucket_lacking_since_timestamp_seconds" ["bucket"],
            "Time since which the bucket has lacked objects, 0 if complete";
        last_wal_stored: GaugeVec = "backup_wal_last_stored_timestamp_seconds" ["bucket"],
            "Time at which a WAL file was last stored in the bucket";
        last_base_stored: GaugeVec = "backup_base_last_stored_timestamp_seconds" ["bucket"],
            "Time at which a base backup was last stored in the bucket";
        known_gaps: IntGauge = "backup_wal_known_gaps",
            "Segments from before a fork that are in no bucket and not on this host";
        bucket_info: GaugeVec = "backup_bucket_info" ["bucket", "bucket_region"],
            "1 for each bucket of the settings, with its region";
        reachable: GaugeVec = "backup_bucket_reachable" ["bucket"],
            "1 if the last request to the bucket was answered and allowed, 0 if it failed; no series before the first \
             request";
        repository_bytes: GaugeVec = "backup_repository_bytes" ["bucket"],
            "Stored bytes of the base backups in the bucket, and of the WAL since the oldest of all, by the last \
             `backup`, `check` or `list`; 0 before the first";
        foreign_prefix: GaugeVec = "backup_archive_foreign_prefix" ["bucket"],
            "1 if the last `wal push` was refused because the bucket has another server's file under the same name, or \
             if `check` found below the cluster's name other system identifiers and not this database's; else 0";
        missing_segments: IntGauge = "backup_wal_missing_segments",
            "Segments after the oldest base backup that are in no bucket, though a later one is, by the last `backup`, \
             `check` or `list` that every bucket answered; 0 before the first";
        oldest_recovery_point: IntGauge = "backup_pitr_oldest_timestamp_seconds",
            "End of the oldest base backup after which no archived segment is missing, by the same listing; 0 if there \
             is none. On a host without an identity each timeline is followed separately";
        base_last_failed: IntGauge = "backup_base_last_failed_timestamp_seconds",
            "Time at which a base backup last failed on this host, 0 if never";
        base_last_duration: IntGauge = "backup_base_last_duration_seconds",
            "Duration of the last successful base backup on this host, 0 if none";
        base_last_size: IntGauge = "backup_base_last_size_bytes",
            "Stored bytes of the last successful base backup on this host, in one bucket, 0 if none";
        restore_verified: IntGauge = "backup_restore_verified_timestamp_seconds",
            "Time at which `verify-restore` last found a restored database of this host answering, 0 if never";
        restore_duration: IntGauge = "backup_restore_drill_duration_seconds",
            "Time from the start of that `restore` to the database that answered, 0 if never";
    }
}

/// Returns the metrics in Prometheus's text format.
pub(crate) fn text(report: &HealthReport, buckets: &[RecordedBucket]) -> io::Result<String> {
    let failed = |error: prometheus::Error| io::Error::other(error.to_string());
    let metrics = Metrics::register(Registry::new()).map_err(failed)?;
    for (bucket, record) in &report.buckets {
        let set = |gauge: &GaugeVec, value| gauge.with_label_values(&[bucket]).set(as_f64(value));
        let lacking_files = i64::try_from(record.lacking_files).ok();
        set(&metrics.lacking_files, lacking_files);
        set(&metrics.lacking_since, record.lacking_since);
        set(&metrics.last_wal_stored, record.last_wal_stored_at);
        set(&metrics.last_base_stored, record.last_base_stored_at);
        let repository_bytes = i64::try_from(record.repository_bytes).ok();
        set(&metrics.repository_bytes, repository_bytes);
        let is_foreign = record.has_conflict || record.is_foreign;
        set(&metrics.foreign_prefix, Some(is_foreign.into()));
        if let Some(is_reachable) = record.is_reachable {
            set(&metrics.reachable, Some(is_reachable.into()));
        }
    }
    for RecordedBucket { name, region } in buckets {
        let labels = [name, region];
        metrics.bucket_info.with_label_values(&labels).set(1.0);
    }
    set_host_metrics(&metrics, report);
    let families = metrics.registry.gather();
    TextEncoder::new()
        .encode_to_string(&families)
        .map_err(failed)
}

/// Sets the metrics without a bucket.
fn set_host_metrics(metrics: &Metrics, report: &HealthReport) {
    let count =
        |gauge: &IntGauge, number: u64| gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
    let time = |gauge: &IntGauge, time: Option<i64>| gauge.set(time.unwrap_or(0));
    let known_gaps = u64::try_from(report.known_gaps.len()).unwrap_or(u64::MAX);
    count(&metrics.known_gaps, known_gaps);
    count(&metrics.missing_segments, report.missing_segments);
    time(&metrics.oldest_recovery_point, report.oldest_recovery_point);
    let (backup, restore) = (&report.backup, &report.restore);
    time(&metrics.base_last_failed, backup.last_failed_at);
    count(&metrics.base_last_duration, backup.last_duration_secs);
    count(&metrics.base_last_size, backup.last_stored_bytes);
    time(&metrics.restore_verified, restore.last_verified_at);
    count(&metrics.restore_duration, restore.last_duration_secs);
}

/// Converts a number exactly: the seconds of this century are exact in a float.
#[expect(clippy::cast_precision_loss, reason = "seconds and counts below 2^53")]
fn as_f64(number: Option<i64>) -> f64 {
    number.unwrap_or(0) as f64
}
