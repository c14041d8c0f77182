//! Report of a run: downtime and data loss of each scenario, and when each node was writable.

mod chart;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::cluster::topology::Topology;
use crate::workload::checker::{CheckResult, TimeSpan, per_second, writable};
use crate::workload::history::{HistoryEvent, HistorySnapshot, WritePath};

/// Report of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of the report's format. Fields may be added; none changes its meaning.
    pub format: u32,
    /// Whether every expectation was met.
    pub passed: bool,
    /// Results of the scenarios, in order.
    pub scenarios: Vec<CheckResult>,
    /// Duration of the run, from the first command to the last result.
    pub seconds: f64,
    /// Nodes, with the spans in which each acknowledged writes.
    pub nodes: Vec<NodeTimeline>,
    /// Acknowledged rows per second, through the API and by SQL.
    pub acknowledged_per_second: AcknowledgedPerSecond,
    /// Events.
    pub events: Vec<HistoryEvent>,
}

/// Node on the timeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeTimeline {
    /// Node.
    pub node: String,
    /// Availability zone.
    pub zone: String,
    /// Spans in which it was writable.
    pub writable: Vec<TimeSpan>,
}

/// Acknowledged rows per second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcknowledgedPerSecond {
    /// Through the API.
    pub api: Vec<u32>,
    /// By SQL.
    pub sql: Vec<u32>,
}

impl Report {
    /// Creates the report from the results and the history.
    pub fn new(
        topology: &Topology,
        scenarios: Vec<CheckResult>,
        snapshot: &HistorySnapshot,
        to: Duration,
        took: Duration,
    ) -> Self {
        let span = TimeSpan {
            from: Duration::ZERO,
            to,
        };
        let through = |path: WritePath| {
            let rows = snapshot.acknowledged.iter().filter(|row| row.path == path);
            per_second(&rows.map(|row| row.at).collect::<Vec<_>>(), span)
        };
        let lane = |spec: &crate::cluster::topology::NodeSpec| NodeTimeline {
            node: spec.node.to_string(),
            zone: spec.zone.clone(),
            writable: writable(snapshot.accepted.get(&spec.node).map_or(&[], Vec::as_slice)),
        };
        Self {
            format: 1,
            passed: scenarios.iter().all(|scenario| scenario.passed),
            scenarios,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
            nodes: topology.nodes.iter().map(lane).collect(),
            acknowledged_per_second: AcknowledgedPerSecond {
                api: through(WritePath::Api),
                sql: through(WritePath::Sql),
            },
            events: snapshot.events.clone(),
        }
    }

    /// Writes `report.json` and `report.html`.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory)
            .with_context(|| format!("could not create `{}`", directory.display()))?;
        let json = serde_json::to_string_pretty(self)?;
        for (name, text) in [("report.json", json), ("report.html", self.page()?)] {
            let path = directory.join(name);
            fs::write(&path, text)
                .with_context(|| format!("could not write `{}`", path.display()))?;
        }
        Ok(())
    }

    /// Returns the results as a table for a terminal.
    ///
    /// # Errors
    ///
    /// Never: formatting into a string does not fail.
    pub fn table(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        writeln!(
            text,
            "{:<22} {:>6}  {:>14}  {:>12}  {:>9}  {:>15}  {:>11}",
            "scenario",
            "passed",
            "downtime",
            "acknowledged",
            "rows lost",
            "stated loss",
            "split-brain"
        )?;
        for scenario in &self.scenarios {
            writeln!(
                text,
                "{:<22} {:>6}  {:>12.1} s  {:>12}  {:>9}  {:>15}  {:>9.1} s",
                scenario.name,
                if scenario.passed { "yes" } else { "NO" },
                scenario.downtime_seconds,
                scenario.rows_acknowledged,
                scenario.rows_lost,
                scenario.rows_lost_stated_at_most,
                scenario.split_brain_seconds
            )?;
            for failures in &scenario.failures {
                writeln!(text, "    {failures}")?;
            }
        }
        Ok(text)
    }

    fn page(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        let result = if self.passed {
            "<p class=\"result passed\">Every expectation was met.</p>"
        } else {
            "<p class=\"result failed\">An expectation was not met.</p>"
        };
        write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>Causeway: failover demo</title>\n<style>{STYLE}</style>\n<main>\n\
             <h1>Failover demo, {:.0} seconds</h1>\n\
             <p>Three PostgreSQL servers, a and b in two zones of one region and c in another, with \
             clients that wrote all the time and recorded every acknowledged row. \
             A node counts as writable while it acknowledges writes, and at no other time.</p>\n{result}\n",
            self.seconds
        )?;
        self.rows(&mut page)?;
        page.push_str("<h2>Writable nodes</h2>\n<div class=\"chart\">\n");
        chart::draw(&mut page, self)?;
        page.push_str("</div>\n<h2>Events</h2>\n<ol class=\"events\">\n");
        for (number, mark) in chart::numbered_events(&self.events) {
            writeln!(
                page,
                "<li value=\"{number}\"><time>{}</time> {}</li>",
                chart::clock(mark.at),
                escape(&mark.what)
            )?;
        }
        page.push_str("</ol>\n</main>\n</html>\n");
        Ok(page)
    }

    fn rows(&self, page: &mut String) -> std::fmt::Result {
        page.push_str(
            "<table>\n<tr><th>scenario<th>passed<th>downtime<th>rows acknowledged\
             <th>rows lost<th>stated data loss<th>split-brain</tr>\n",
        );
        for scenario in &self.scenarios {
            let (class, kept) = if scenario.passed {
                ("passed", "yes")
            } else {
                ("failed", "no")
            };
            writeln!(
                page,
                "<tr class=\"{class}\"><td>{}<td>{kept}<td>{:.1} s<td>{}<td>{}<td>at most {}<td>{:.1} s</tr>",
                escape(&scenario.name.replace('_', " ")),
                scenario.downtime_seconds,
                scenario.rows_acknowledged,
                scenario.rows_lost,
                scenario.rows_lost_stated_at_most,
                scenario.split_brain_seconds
            )?;
            for failures in &scenario.failures {
                writeln!(
                    page,
                    "<tr class=\"why\"><td colspan=\"7\">{}</tr>",
                    escape(failures)
                )?;
            }
        }
        page.push_str("</table>\n");
        Ok(())
    }
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = include_str!("report/style.css");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::workload::checker::{Expectation, Measurements, check_scenario};
    use crate::workload::history::AcknowledgedRow;

    #[test]
    fn json_then_every_documented_field() {
        let json = serde_json::to_value(report()).unwrap();

        assert_eq!(json["passed"], true);
        let scenario = json["scenarios"][0].as_object().unwrap();
        for field in [
            "name",
            "passed",
            "downtime_seconds",
            "rows_acknowledged",
            "rows_lost",
            "rows_lost_stated_at_most",
            "split_brain_seconds",
        ] {
            assert!(scenario.contains_key(field), "{field} in {scenario:?}");
        }
    }

    #[test]
    fn page_then_self_contained_and_escaped() {
        let mut report = report();
        report.events[0].what = "a <b> & \"c\"".to_owned();
        let page = report.page().unwrap();

        assert!(page.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
        assert!(!page.contains("src=") && !page.contains("href="));
        assert!(page.contains("<svg") && page.contains("prefers-color-scheme"));
    }

    #[test]
    fn failed_expectation_then_named_in_table() {
        let mut report = report();
        report.scenarios[0].passed = false;
        report.scenarios[0].failures = vec!["a row is lost".to_owned()];

        assert_eq!(
            report.table().unwrap(),
            "scenario               passed        downtime  acknowledged  rows lost      stated loss  split-brain\n\
             zone_lost                  NO           1.5 s             3          0                0        0.0 s\n    \
             a row is lost\n"
        );
    }

    fn report() -> Report {
        let topology = Topology::new(7, None).unwrap();
        let at = [500, 1_000, 2_500].map(Duration::from_millis);
        let acknowledged = at.map(|at| (at, WritePath::Sql)).to_vec();
        let accepted = BTreeMap::from([("a".parse().unwrap(), at.to_vec())]);
        let span = TimeSpan {
            from: Duration::ZERO,
            to: Duration::from_secs(3),
        };
        let measured = Measurements {
            span,
            acknowledged,
            accepted: accepted.clone(),
            rows_lost: 0,
        };
        let expectation = Expectation {
            downtime: Duration::from_secs(2),
            rows_lost: 0,
        };
        let row = |at| AcknowledgedRow {
            at,
            path: WritePath::Sql,
            row: 1,
        };
        let snapshot = HistorySnapshot {
            acknowledged: at.map(row).to_vec(),
            accepted,
            events: vec![HistoryEvent {
                at: Duration::from_secs(1),
                what: "node a is gone".to_owned(),
            }],
        };
        let scenarios = vec![check_scenario("zone_lost", expectation, &measured)];
        Report::new(&topology, scenarios, &snapshot, span.to, span.to)
    }
}
