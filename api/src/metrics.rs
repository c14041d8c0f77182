//! Every metric of this program.

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// From 1 ms, about what a prepared read takes, to 10 s, beyond which no request lives.
const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The most frequent reasons of errors and retries. Their series are exported from the start: a missing
/// series cannot be told from one that is not counted.
const USUAL_ERRORS: [&str; 7] = ["08", "25", "40", "53", "57", "io", "timeout"];
const USUAL_RETRIES: [&str; 3] = ["server-lost", "read-only", "passing"];

/// Makes the metrics from their list: field, type, help text and constructor.
macro_rules! metrics {
    ($($field:ident: $kind:ty, $help:literal, $made:expr;)*) => {
        /// The metrics, and the registry that exports them.
        #[derive(Clone, Debug)]
        pub struct Metrics {
            /// All metrics, for `/metrics`.
            pub registry: Registry,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Metrics {
            fn registered() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let make: fn(&str) -> prometheus::Result<$kind> = $made;
                    let $field = make($help)?;
                    registry.register(Box::new($field.clone()))?;
                )*
                Ok(Self { registry, $($field,)* })
            }
        }
    };
}

metrics! {
    http_requests: IntCounterVec, "Requests answered",
        |help| IntCounterVec::new(Opts::new("http_requests_total", help), &["method", "route", "status"]);
    http_request_duration: HistogramVec, "Time to answer a request",
        |help| HistogramVec::new(seconds("http_request_duration_seconds", help), &["method", "route"]);
    http_requests_in_flight: IntGauge, "Requests in progress, without probes",
        |help| IntGauge::new("http_requests_in_flight", help);
    http_connections: IntGauge, "Connections from clients",
        |help| IntGauge::new("http_connections", help);
    http_connections_rejected: IntCounter, "Connections above the limit, which only serve probes",
        |help| IntCounter::new("http_connections_rejected_total", help);
    http_connections_evicted: IntCounter, "Connections above the limit that were closed for newer ones",
        |help| IntCounter::new("http_connections_evicted_total", help);
    db_pool_connections: IntGaugeVec, "Connections to PostgreSQL",
        |help| IntGaugeVec::new(Opts::new("db_pool_connections", help), &["state"]);
    db_pool_wait: Histogram, "Wait for a connection",
        |help| Histogram::with_opts(seconds("db_pool_wait_seconds", help));
    db_query_duration: HistogramVec, "Duration of statements",
        |help| HistogramVec::new(seconds("db_query_duration_seconds", help), &["stmt"]);
    db_errors: IntCounterVec, "Statements and connections that failed",
        |help| IntCounterVec::new(Opts::new("db_errors_total", help), &["sqlstate_class"]);
    db_retries: IntCounterVec, "Statements retried",
        |help| IntCounterVec::new(Opts::new("db_retries_total", help), &["reason"]);
    db_failovers: IntCounter, "Changes of the primary",
        |help| IntCounter::new("db_failovers_total", help);
    db_split_brain: IntCounter, "Writable servers seen beside the primary",
        |help| IntCounter::new("db_split_brain_total", help);
    db_read_only_seconds: Counter, "Time in which servers answered, but none was writable",
        |help| Counter::new("db_read_only_seconds_total", help);
    db_commit_unknown: IntCounter, "Writes whose connection ended before their answer",
        |help| IntCounter::new("db_commit_unknown_total", help);
    cache_requests: IntCounterVec, "Reads of users",
        |help| IntCounterVec::new(Opts::new("cache_requests_total", help), &["result"]);
    cache_breaker_open: IntGauge, "1 while the circuit breaker keeps requests from Redis",
        |help| IntGauge::new("cache_breaker_open", help);
}

fn seconds(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(SECONDS.to_vec())
}

impl Metrics {
    /// Registers the metrics, all at zero.
    ///
    /// # Errors
    ///
    /// When two metrics have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self::registered()?;
        let build = Gauge::with_opts(
            Opts::new("build_info", "Always 1; the version is in the label")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1.0);
        metrics.registry.register(Box::new(build))?;
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
