//! Every series this program exports, named once.

use prometheus::process_collector::ProcessCollector;
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

/// Makes the series from their list: each one's field and type, what it says, and how it is made.
macro_rules! metrics {
    ($($field:ident: $kind:ty, $help:literal, $made:expr;)*) => {
        /// The series, and the registry that lists them.
        #[derive(Clone, Debug)]
        pub struct Metrics {
            /// Everything below, for `/metrics`.
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
        |it| IntCounterVec::new(Opts::new("http_requests_total", it), &["method", "route", "status"]);
    http_request_duration: HistogramVec, "Time to answer a request",
        |it| HistogramVec::new(seconds("http_request_duration_seconds", it), &["method", "route"]);
    http_requests_in_flight: IntGauge, "Requests being worked on",
        |it| IntGauge::new("http_requests_in_flight", it);
    http_connections: IntGauge, "Connections from clients",
        |it| IntGauge::new("http_connections", it);
    http_connections_refused: IntCounter, "Connections above the limit, which only probes may use",
        |it| IntCounter::new("http_connections_refused_total", it);
    http_connections_displaced: IntCounter, "Connections above the limit that were ended for others",
        |it| IntCounter::new("http_connections_displaced_total", it);
    db_pool_connections: IntGaugeVec, "Connections to PostgreSQL",
        |it| IntGaugeVec::new(Opts::new("db_pool_connections", it), &["state"]);
    db_pool_wait: Histogram, "Wait for a connection",
        |it| Histogram::with_opts(seconds("db_pool_wait_seconds", it));
    db_query_duration: HistogramVec, "Time that statements took",
        |it| HistogramVec::new(seconds("db_query_duration_seconds", it), &["stmt"]);
    db_errors: IntCounterVec, "Statements and connections that failed",
        |it| IntCounterVec::new(Opts::new("db_errors_total", it), &["sqlstate_class"]);
    db_retries: IntCounterVec, "Statements tried again",
        |it| IntCounterVec::new(Opts::new("db_retries_total", it), &["reason"]);
    db_failovers: IntCounter, "Times that another server was found to be the primary",
        |it| IntCounter::new("db_failovers_total", it);
    db_split_brain: IntCounter, "Servers seen to accept writes beside the primary",
        |it| IntCounter::new("db_split_brain_total", it);
    db_read_only_seconds: Counter, "Time in which servers answered and none accepted writes",
        |it| Counter::new("db_read_only_seconds_total", it);
    db_commit_unknown: IntCounter, "Writes whose connection ended before their answer",
        |it| IntCounter::new("db_commit_unknown_total", it);
    cache_requests: IntCounterVec, "Reads of users",
        |it| IntCounterVec::new(Opts::new("cache_requests_total", it), &["result"]);
    cache_breaker_open: IntGauge, "1 while Redis is not asked because it failed",
        |it| IntGauge::new("cache_breaker_open", it);
}

fn seconds(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(SECONDS.to_vec())
}

impl Metrics {
    /// Returns the series, all at zero.
    ///
    /// # Errors
    ///
    /// When two of them have one name.
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
