//! Samples of an agent's metrics, and the declarations that they follow.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use causeway_core::NodeId;

use crate::cluster::node::Node;

/// Reference of the metrics, generated from their declarations.
const REFERENCE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/reference/metrics.md"
));

/// Metric without series in the lab, whose servers have no TLS.
const WITHOUT_SERIES: &str = "failover_certificate_expiry_timestamp_seconds";

/// Labels of every series.
const CONSTANT_LABELS: [&str; 4] = ["cluster", "node", "region", "zone"];

/// Returns `found` as the error unless the condition holds.
pub(super) fn require(holds: bool, found: String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(found) }
}

/// Samples of one scrape.
#[derive(Debug)]
pub(super) struct Samples {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Samples {
    /// Scrapes a node's agent.
    pub(super) async fn of(node: &Node) -> anyhow::Result<Self> {
        let text = String::from_utf8(node.get("/metrics").await?.into())?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples =
            lines.map(|line| parse(line).with_context(|| format!("not a sample: {line}")));
        Ok(Self {
            samples: samples.collect::<Result<_, _>>()?,
        })
    }

    /// Checks that every declared metric has series with its labels.
    pub(super) fn check_declarations(&self) -> anyhow::Result<()> {
        let declared = declarations()?;
        ensure!(declared.len() > 20, "too few declarations: {declared:?}");
        for (name, own_labels) in declared {
            let mut found = self
                .samples
                .iter()
                .filter(|sample| sample.name == name)
                .peekable();
            ensure!(
                found.peek().is_some() != (name == WITHOUT_SERIES),
                "unexpected number of series of `{name}`"
            );
            for sample in found {
                let mut expected: Vec<&str> = CONSTANT_LABELS.to_vec();
                expected.extend(own_labels.iter().map(String::as_str));
                expected.sort_unstable();
                let labels: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
                ensure!(labels == expected, "`{name}` has the labels {labels:?}");
            }
        }
        Ok(())
    }

    pub(super) fn value(&self, name: &str) -> Result<f64, String> {
        let found = self.samples.iter().find(|sample| sample.name == name);
        found
            .map(|sample| sample.value)
            .ok_or_else(|| format!("no `{name}`"))
    }

    pub(super) fn is(&self, name: &str, expected: f64) -> Result<(), String> {
        let value = self.value(name)?;
        let equal = (value - expected).abs() < f64::EPSILON;
        require(equal, format!("`{name}` is {value}, not {expected}"))
    }

    pub(super) fn at_most(&self, name: &str, bound: f64) -> Result<(), String> {
        let value = self.value(name)?;
        require(
            value <= bound,
            format!("`{name}` is {value}, above {bound}"),
        )
    }

    pub(super) fn more_than(&self, name: &str, bound: f64) -> Result<(), String> {
        let value = self.value(name)?;
        require(
            value > bound,
            format!("`{name}` is {value}, not above {bound}"),
        )
    }

    /// Checks that the one obstacle, if any, is `expected`.
    pub(super) fn obstacle(&self, expected: Option<&str>) -> Result<(), String> {
        let present = self.present("failover_takeover_obstacle", "reason");
        let expected = expected.into_iter().collect::<Vec<_>>();
        require(present == expected, format!("obstacles: {present:?}"))
    }

    /// Checks that the one holder is `expected`.
    pub(super) fn holder(&self, expected: &NodeId) -> Result<(), String> {
        let present = self.present("failover_holder_info", "holder");
        require(
            present == [expected.as_str()],
            format!("holders: {present:?}"),
        )
    }

    /// Returns the values of a label whose series is 1.
    fn present(&self, name: &str, label: &str) -> Vec<&str> {
        let found = self.samples.iter();
        found
            .filter(|sample| sample.name == name && sample.value > 0.0)
            .filter_map(|sample| sample.labels.get(label).map(String::as_str))
            .collect()
    }
}

/// Parses a line of the text format whose label values have no quotation marks.
fn parse(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.strip_suffix('}')?.split_once('{')?;
    let labels = labels.split(',').map(|label| {
        let (label, value) = label.split_once("=\"")?;
        Some((label.to_owned(), value.strip_suffix('"')?.to_owned()))
    });
    Some(Sample {
        name: name.to_owned(),
        labels: labels.collect::<Option<_>>()?,
        value: value.parse().ok()?,
    })
}

/// Returns the declared metrics of `failover-ctl` and their own labels.
fn declarations() -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let section = REFERENCE.split_once("\n## failover-ctl\n");
    let (_, section) = section.context("the reference has no section of failover-ctl")?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let declared = rows.map(|row| {
        let mut cells = row.split(" | ");
        let name = cells.next()?.strip_prefix("| `")?.strip_suffix('`')?;
        let labels = cells.nth(1)?.split(", ");
        let labels =
            labels.filter_map(|label| Some(label.strip_prefix('`')?.strip_suffix('`')?.to_owned()));
        Some((name.to_owned(), labels.collect()))
    });
    let declared = declared.collect::<Option<_>>();
    declared.context("the reference has an unknown form")
}
