//! Metrics in the file `[metrics] textfile`, for the textfile collector of `node_exporter`. Each describes
//! this host's view.

use std::io;

use causeway_runtime::declare_metrics;
use prometheus::{GaugeVec, IntGauge, Registry, TextEncoder};

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
    }
}

/// Returns the metrics in Prometheus's text format.
pub(crate) fn text(report: &HealthReport) -> io::Result<String> {
    let failed = |error: prometheus::Error| io::Error::other(error.to_string());
    let metrics = Metrics::register(Registry::new()).map_err(failed)?;
    for (bucket, record) in &report.buckets {
        let set = |gauge: &GaugeVec, value| gauge.with_label_values(&[bucket]).set(as_f64(value));
        let lacking_files = i64::try_from(record.lacking_files).ok();
        set(&metrics.lacking_files, lacking_files);
        set(&metrics.lacking_since, record.lacking_since);
        set(&metrics.last_wal_stored, record.last_wal_stored_at);
        set(&metrics.last_base_stored, record.last_base_stored_at);
    }
    let known_gaps = i64::try_from(report.known_gaps.len()).unwrap_or(i64::MAX);
    metrics.known_gaps.set(known_gaps);
    let families = metrics.registry.gather();
    TextEncoder::new()
        .encode_to_string(&families)
        .map_err(failed)
}

/// Converts a number exactly: the seconds of this century are exact in a float.
#[expect(clippy::cast_precision_loss, reason = "seconds and counts below 2^53")]
fn as_f64(number: Option<i64>) -> f64 {
    number.unwrap_or(0) as f64
}
