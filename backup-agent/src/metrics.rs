//! Metrics in the file `[metrics] textfile`, for the textfile collector of `node_exporter`. Each
//! describes this host's view; `docs/reference/metrics.md` lists them.

use std::io;

use prometheus::{GaugeVec, IntGauge, Opts, Registry, TextEncoder};

use crate::storage::health_report::BucketRecord;
use crate::storage::health_report::HealthReport;

/// Value of a metric for a bucket.
type Shown = fn(&BucketRecord) -> f64;

const OF_BUCKETS: [(&str, &str, Shown); 4] = [
    (
        "backup_bucket_lacking_files",
        "Objects stored elsewhere that the bucket lacks",
        |record| as_f64(i64::try_from(record.lacking_files).ok()),
    ),
    (
        "backup_bucket_lacking_since_timestamp_seconds",
        "Time since which the bucket lacks an object, 0 if it lacks none",
        |record| as_f64(record.lacking_since),
    ),
    (
        "backup_wal_last_stored_timestamp_seconds",
        "Time at which a WAL file was last stored in the bucket",
        |record| as_f64(record.last_wal_stored_at),
    ),
    (
        "backup_base_last_stored_timestamp_seconds",
        "Time at which a base backup was last stored in the bucket",
        |record| as_f64(record.last_base_stored_at),
    ),
];

/// Returns the metrics in Prometheus's text format.
pub(crate) fn text(report: &HealthReport) -> io::Result<String> {
    let failed = |error: prometheus::Error| io::Error::other(error.to_string());
    let registry = Registry::new();
    for (name, help, shown) in OF_BUCKETS {
        let series = GaugeVec::new(Opts::new(name, help), &["bucket"]).map_err(failed)?;
        for (bucket, record) in &report.buckets {
            series.with_label_values(&[bucket]).set(shown(record));
        }
        registry.register(Box::new(series)).map_err(failed)?;
    }
    let help = "Segments from before a fork that are in no bucket and not on this host";
    let gaps = IntGauge::new("backup_wal_known_gaps", help).map_err(failed)?;
    gaps.set(i64::try_from(report.known_gaps.len()).unwrap_or(i64::MAX));
    registry.register(Box::new(gaps)).map_err(failed)?;
    let encoder = TextEncoder::new();
    encoder.encode_to_string(&registry.gather()).map_err(failed)
}

/// Converts a number exactly: the seconds of this century are exact in a float.
#[expect(clippy::cast_precision_loss, reason = "seconds and counts below 2^53")]
fn as_f64(number: Option<i64>) -> f64 {
    number.unwrap_or(0) as f64
}
