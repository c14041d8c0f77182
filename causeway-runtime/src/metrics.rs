//! Declarations of metrics: one table per program registers the series and is their reference.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::markdown::table;

/// Buckets of durations in seconds: from 1 ms, about what a prepared statement takes, to 10 s, beyond which
/// no request lives.
const DURATION_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Declaration of a metric.
#[derive(Debug)]
pub struct MetricDeclaration {
    /// Name of the series.
    pub name: &'static str,
    /// Prometheus's name of the type.
    pub kind: &'static str,
    /// Names of its own labels.
    pub labels: &'static [&'static str],
    /// Meaning.
    pub help: &'static str,
}

/// Declarations of a program's metrics.
#[derive(Debug)]
pub struct DeclaredMetrics {
    /// Text above the table.
    pub introduction: &'static str,
    /// The metrics.
    pub metrics: &'static [MetricDeclaration],
}

impl DeclaredMetrics {
    pub(crate) fn table(&self) -> String {
        let code = |label: &&str| format!("`{label}`");
        let rows = self.metrics.iter().map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(code).collect();
            [
                format!("`{}`", metric.name),
                metric.kind.to_owned(),
                labels.join(", "),
                metric.help.to_owned(),
            ]
        });
        table(["series", "type", "labels", "meaning"], rows)
    }
}

/// Type of a metric.
pub trait MetricKind: Collector + Clone + 'static {
    /// Prometheus's name of the type.
    const NAME: &'static str;

    /// Creates a metric, all of whose series are at zero.
    ///
    /// # Errors
    ///
    /// If the name or a label is invalid, or the type has no labels.
    fn create(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self>;
}

macro_rules! metric_kinds {
    ($($kind:ident, $vec:ident, $name:literal;)*) => {
        $(
            impl MetricKind for $kind {
                const NAME: &'static str = $name;

                fn create(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
                    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
                    Self::with_opts(Opts::new(name, help).variable_labels(labels))
                }
            }

            impl MetricKind for $vec {
                const NAME: &'static str = $name;

                fn create(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
                    Self::new(Opts::new(name, help), labels)
                }
            }
        )*
    };
}

metric_kinds! {
    IntCounter, IntCounterVec, "counter";
    IntGauge, IntGaugeVec, "gauge";
    Gauge, GaugeVec, "gauge";
}

impl MetricKind for Counter {
    const NAME: &'static str = "counter";

    fn create(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Self::with_opts(Opts::new(name, help).variable_labels(labels))
    }
}

impl MetricKind for Histogram {
    const NAME: &'static str = "histogram";

    fn create(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Self::with_opts(duration_buckets(name, help).variable_labels(labels))
    }
}

impl MetricKind for HistogramVec {
    const NAME: &'static str = "histogram";

    fn create(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(duration_buckets(name, help), labels)
    }
}

fn duration_buckets(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec())
}

/// Creates and registers a declared metric.
///
/// # Errors
///
/// If the declaration is invalid, or the registry has a metric of this name.
pub fn register<T: MetricKind>(
    declaration: &MetricDeclaration,
    registry: &Registry,
) -> prometheus::Result<T> {
    let metric = T::create(declaration.name, declaration.help, declaration.labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Declares a program's metrics: `field: Type = "series" ["label"], "meaning";`. The fields of the struct
/// are registered with [`register`] and described by `DECLARED`, which the reference is generated from.
#[macro_export]
macro_rules! declare_metrics {
    (
        $(#[doc = $introduction:literal])*
        $visibility:vis struct $metrics:ident {
            $($field:ident: $kind:ty = $series:literal $([$($label:literal),+])?, $help:literal;)*
        }
    ) => {
        $(#[doc = $introduction])*
        #[derive(Clone, Debug)]
        $visibility struct $metrics {
            /// Registry of the metrics.
            $visibility registry: ::prometheus::Registry,
            $(#[doc = $help] $visibility $field: $kind,)*
        }

        impl $metrics {
            /// Declarations, for the reference.
            $visibility const DECLARED: $crate::metrics::DeclaredMetrics =
                $crate::metrics::DeclaredMetrics {
                    introduction: concat!($($introduction, "\n"),*),
                    metrics: &[$($crate::metrics::MetricDeclaration {
                        name: $series,
                        kind: <$kind as $crate::metrics::MetricKind>::NAME,
                        labels: &[$($($label),+)?],
                        help: $help,
                    }),*],
                };

            /// Registers every metric.
            ///
            /// # Errors
            ///
            /// If two metrics have the same name.
            $visibility fn register(registry: ::prometheus::Registry) -> ::prometheus::Result<Self> {
                let mut declared = Self::DECLARED.metrics.iter();
                $(let $field = $crate::metrics::register(
                    declared.next().expect(concat!("the declaration of ", $series)),
                    &registry,
                )?;)*
                Ok(Self { registry, $($field,)* })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use prometheus::proto::MetricFamily;

    use super::*;

    crate::declare_metrics! {
        /// Introduction.
        pub(crate) struct PlantedMetrics {
            requests: IntCounterVec = "requests_total" ["route", "status"], "Requests";
            duration: Histogram = "duration_seconds", "Duration";
        }
    }

    #[test]
    fn declared_metrics_then_registered_and_described() {
        let metrics = PlantedMetrics::register(Registry::new()).unwrap();
        metrics.requests.with_label_values(&["/", "200"]).inc();
        metrics.duration.observe(0.1);

        let families = metrics.registry.gather();
        let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(names, ["duration_seconds", "requests_total"]);
        assert_eq!(
            PlantedMetrics::DECLARED.table(),
            "| series | type | labels | meaning |\n|---|---|---|---|\n\
             | `requests_total` | counter | `route`, `status` | Requests |\n\
             | `duration_seconds` | histogram |  | Duration |\n"
        );
    }

    #[test]
    fn labels_without_vector_then_error() {
        assert!(IntCounter::create("a_total", "A", &["label"]).is_err());
        assert!(Histogram::create("a_seconds", "A", &["label"]).is_err());
    }
}
