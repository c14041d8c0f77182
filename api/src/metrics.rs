//! Every metric of this program.

use causeway_runtime::declare_metrics;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

/// Most frequent reasons of errors and retries. Their series are exported from the start, because a missing series and
/// an uncounted one look the same.
const USUAL_ERRORS: [&str; 7] = ["08", "25", "40", "53", "57", "io", "timeout"];
const USUAL_RETRIES: [&str; 3] = ["server-lost", "read-only", "passing"];

declare_metrics! {
    /// At `/metrics`, with Prometheus's own `process_*`. Declared in `api/src/metrics.rs`.
    pub struct Metrics {
        build_info: IntGaugeVec = "build_info" ["version"], "Always 1";
        http_requests: IntCounterVec = "http_requests_total" ["method", "route", "status"],
            "Responses. `route` is a template, or `unknown`; a method that HTTP does not define is `other`";
        http_request_duration: HistogramVec = "http_request_duration_seconds" ["method", "route"],
            "Time from the request to its response";
        http_requests_in_flight: IntGauge = "http_requests_in_flight", "Requests in progress, without probes";
        http_connections: IntGauge = "http_connections", "Client connections, including reserved slots";
        http_connections_rejected: IntCounter = "http_connections_rejected_total",
            "Connections above the limit, which only serve probes";
        http_connections_evicted: IntCounter = "http_connections_evicted_total",
            "Connections above the limit that were evicted";
        db_pool_connections: IntGaugeVec = "db_pool_connections" ["state"],
            "Connections to PostgreSQL: `idle`, `in_use`, also until the backend has ended, or `shared`";
        db_pool_wait: Histogram = "db_pool_wait_seconds", "Wait for a connection, also in vain";
        db_query_duration: HistogramVec = "db_query_duration_seconds" ["stmt"], "Duration of statements";
        db_errors: IntCounterVec = "db_errors_total" ["sqlstate_class"], "Failed statements and connections";
        db_retries: IntCounterVec = "db_retries_total" ["reason"],
            "Retried statements. `hedge` is a read sent again before it had failed";
        db_failovers: IntCounter = "db_failovers_total", "Changes of the primary";
        db_split_brain: IntCounter = "db_split_brain_total", "Observations of a second writable server";
        db_read_only_seconds: Counter = "db_read_only_seconds_total",
            "Time with answering servers and no writable one";
        db_commit_unknown: IntCounter = "db_commit_unknown_total",
            "Writes whose connection ended before their response";
        cache_requests: IntCounterVec = "cache_requests_total" ["result"],
            "Reads of users by `X-Cache`: `hit`, `miss` or `bypass`";
        cache_breaker_open: IntGauge = "cache_breaker_open", "1 while requests skip Redis because it failed";
    }
}

impl Metrics {
    /// Registers the metrics, all at zero.
    ///
    /// # Errors
    ///
    /// When two metrics have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self::register(Registry::new())?;
        let version = env!("CARGO_PKG_VERSION");
        metrics.build_info.with_label_values(&[version]).set(1);
        metrics
            .registry
            .register(Box::new(ProcessCollector::for_self()))?;
        for class in USUAL_ERRORS {
            metrics.db_errors.with_label_values(&[class]);
        }
        for reason in USUAL_RETRIES {
            metrics.db_retries.with_label_values(&[reason]);
        }
        Ok(metrics)
    }
}

/// Adds to a gauge until it is dropped.
pub(crate) struct GaugeGuard<'a> {
    gauge: &'a IntGauge,
    added: i64,
}

impl<'a> GaugeGuard<'a> {
    pub(crate) fn add(gauge: &'a IntGauge, added: i64) -> Self {
        gauge.add(added);
        Self { gauge, added }
    }
}

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.gauge.sub(self.added);
    }
}
