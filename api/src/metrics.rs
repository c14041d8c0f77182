//! Every series this program exports, named once.

use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// From 1 ms, about what a prepared read takes, to 10 s, beyond which no request lives.
const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Why statements fail and are tried again most often. These are exported from the start: a series
/// that is not there cannot be told from one that nobody counts.
const USUAL_ERRORS: [&str; 7] = ["08", "25", "40", "53", "57", "io", "timeout"];
const USUAL_RETRIES: [&str; 3] = ["server-lost", "read-only", "passing"];

/// The series, and the registry that lists them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Everything below, for `/metrics`.
    pub registry: Registry,
    /// Requests that were answered, by method, route template and status.
    pub http_requests: IntCounterVec,
    /// How long they took, by method and route template.
    pub http_request_duration: HistogramVec,
    /// Requests that are being worked on.
    pub http_requests_in_flight: IntGauge,
    /// Connections from clients.
    pub http_connections: IntGauge,
    /// Connections that were refused before they asked for anything.
    pub http_connections_refused: IntCounter,
    /// Silent connections that were ended because others needed their place.
    pub http_connections_displaced: IntCounter,
    /// Spans that ended, by what became of them.
    pub trace_spans: IntCounterVec,
    /// Connections of the pool, idle or lent.
    pub db_pool_connections: IntGaugeVec,
    /// How long requests waited for a connection.
    pub db_pool_wait: Histogram,
    /// How long statements took, by name.
    pub db_query_duration: HistogramVec,
    /// Statements and connections that failed, by the class of their SQLSTATE.
    pub db_errors: IntCounterVec,
    /// Statements that were tried again, by reason.
    pub db_retries: IntCounterVec,
    /// How often another server was found to be the primary.
    pub db_failovers: IntCounter,
    /// How often a second server was seen to accept writes.
    pub db_split_brain: IntCounter,
    /// For how long servers answered, but none accepted writes.
    pub db_read_only_seconds: Counter,
    /// Writes of which nobody knows whether they were committed: the connection ended first.
    pub db_commit_unknown: IntCounter,
    /// Reads of users, by whether the cache answered.
    pub cache_requests: IntCounterVec,
    /// Whether the cache is left alone for a while.
    pub cache_breaker_open: IntGauge,
}

impl Metrics {
    /// Returns the series, all at zero.
    ///
    /// # Errors
    ///
    /// When two of them have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            http_requests: IntCounterVec::new(
                Opts::new("http_requests_total", "Requests answered"),
                &["method", "route", "status"],
            )?,
            http_request_duration: HistogramVec::new(
                HistogramOpts::new("http_request_duration_seconds", "Time to answer a request")
                    .buckets(SECONDS.to_vec()),
                &["method", "route"],
            )?,
            http_requests_in_flight: IntGauge::new(
                "http_requests_in_flight",
                "Requests being worked on",
            )?,
            http_connections: IntGauge::new("http_connections", "Connections from clients")?,
            http_connections_refused: IntCounter::new(
                "http_connections_refused_total",
                "Connections refused before they asked for anything",
            )?,
            http_connections_displaced: IntCounter::new(
                "http_connections_displaced_total",
                "Silent connections ended because others needed their place",
            )?,
            trace_spans: IntCounterVec::new(
                Opts::new("trace_spans_total", "Spans that ended"),
                &["result"],
            )?,
            db_pool_connections: IntGaugeVec::new(
                Opts::new("db_pool_connections", "Connections to PostgreSQL"),
                &["state"],
            )?,
            db_pool_wait: Histogram::with_opts(
                HistogramOpts::new("db_pool_wait_seconds", "Wait for a connection")
                    .buckets(SECONDS.to_vec()),
            )?,
            db_query_duration: HistogramVec::new(
                HistogramOpts::new("db_query_duration_seconds", "Time that statements took")
                    .buckets(SECONDS.to_vec()),
                &["stmt"],
            )?,
            db_errors: IntCounterVec::new(
                Opts::new("db_errors_total", "Statements and connections that failed"),
                &["sqlstate_class"],
            )?,
            db_retries: IntCounterVec::new(
                Opts::new("db_retries_total", "Statements tried again"),
                &["reason"],
            )?,
            db_failovers: IntCounter::new(
                "db_failovers_total",
                "Times that another server was found to be the primary",
            )?,
            db_split_brain: IntCounter::new(
                "db_split_brain_total",
                "Servers seen to accept writes beside the primary",
            )?,
            db_read_only_seconds: Counter::new(
                "db_read_only_seconds_total",
                "Time in which servers answered and none accepted writes",
            )?,
            db_commit_unknown: IntCounter::new(
                "db_commit_unknown_total",
                "Writes whose connection ended before their answer",
            )?,
            cache_requests: IntCounterVec::new(
                Opts::new("cache_requests_total", "Reads of users"),
                &["result"],
            )?,
            cache_breaker_open: IntGauge::new(
                "cache_breaker_open",
                "1 while Redis is not asked because it failed",
            )?,
            registry,
        };
        metrics.register()?;
        for class in USUAL_ERRORS {
            metrics.db_errors.with_label_values(&[class]);
        }
        for reason in USUAL_RETRIES {
            metrics.db_retries.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let build = Gauge::with_opts(
            Opts::new("build_info", "Always 1; the version is in the label")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1.0);
        let all: [Box<dyn prometheus::core::Collector>; 19] = [
            Box::new(build),
            Box::new(self.http_requests.clone()),
            Box::new(self.http_request_duration.clone()),
            Box::new(self.http_requests_in_flight.clone()),
            Box::new(self.http_connections.clone()),
            Box::new(self.http_connections_refused.clone()),
            Box::new(self.http_connections_displaced.clone()),
            Box::new(self.trace_spans.clone()),
            Box::new(self.db_pool_connections.clone()),
            Box::new(self.db_pool_wait.clone()),
            Box::new(self.db_query_duration.clone()),
            Box::new(self.db_errors.clone()),
            Box::new(self.db_retries.clone()),
            Box::new(self.db_failovers.clone()),
            Box::new(self.db_split_brain.clone()),
            Box::new(self.db_read_only_seconds.clone()),
            Box::new(self.db_commit_unknown.clone()),
            Box::new(self.cache_requests.clone()),
            Box::new(self.cache_breaker_open.clone()),
        ];
        for collector in all {
            self.registry.register(collector)?;
        }
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process))
    }
}
