//! The series of the requests of each route, looked up once: a request then adds to three numbers,
//! and compares no labels.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter};

use crate::metrics::Metrics;

/// Anyone may invent a method, but not a series: any other is the last.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "other",
];
/// From 100 to 599.
const STATUSES: usize = 500;

/// The series of one route.
#[derive(Debug)]
pub(crate) struct Route {
    template: &'static str,
    of_methods: [OnceLock<Series>; METHODS.len()],
}

#[derive(Debug)]
struct Series {
    duration: Histogram,
    of_statuses: Box<[OnceLock<IntCounter>]>,
}

impl Route {
    pub(crate) fn new(template: &'static str) -> Self {
        Self {
            template,
            of_methods: Default::default(),
        }
    }

    /// Returns the route as metrics and logs name it.
    pub(crate) fn template(&self) -> &'static str {
        self.template
    }

    /// Counts one answer.
    pub(crate) fn count(
        &self,
        metrics: &Metrics,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let (place, label) = known(method);
        let Some(series) = self.of_methods.get(place) else {
            return;
        };
        let series = series.get_or_init(|| Series {
            duration: metrics
                .http_request_duration
                .with_label_values(&[label, self.template]),
            of_statuses: (0..STATUSES).map(|_| OnceLock::new()).collect(),
        });
        series.duration.observe(took.as_secs_f64());
        let place = usize::from(status.as_u16().saturating_sub(100));
        if let Some(counter) = series.of_statuses.get(place) {
            let labels = [label, self.template, status.as_str()];
            let counter = counter.get_or_init(|| metrics.http_requests.with_label_values(&labels));
            counter.inc();
        }
    }
}

/// Returns the method's place in the list, and its label.
pub(crate) fn known(method: &Method) -> (usize, &'static str) {
    let last = METHODS.len() - 1;
    METHODS
        .into_iter()
        .enumerate()
        .find(|(_, it)| *it == method.as_str())
        .unwrap_or((last, "other"))
}
