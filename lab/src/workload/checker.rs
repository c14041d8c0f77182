//! Checker of the clients' history: downtime, lost rows, split-brain.
//!
//! The checker never reads the platform's own status. A node was writable when it acknowledged a write, and
//! at no other time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use causeway_core::NodeId;
use serde::{Deserialize, Serialize};

use crate::workload::history::WritePath;

/// Span of time since the start of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSpan {
    /// Start.
    #[serde(with = "crate::workload::history::seconds")]
    pub from: Duration,
    /// End.
    #[serde(with = "crate::workload::history::seconds")]
    pub to: Duration,
}

/// Maximum gap between two acknowledgements in one writable span: four write probes (75 ms). A node
/// cannot lose its lease, see another take it and win it back in less.
pub const MAX_ACKNOWLEDGEMENT_GAP: Duration = Duration::from_millis(300);

/// Duration that one acknowledgement within another node's writable span counts: one sample of the
/// expectation "no two writable nodes in any 100 ms".
const SAMPLE_DURATION: Duration = Duration::from_millis(100);

/// Result of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Name of the scenario.
    pub name: String,
    /// Whether the expectation was met.
    pub passed: bool,
    /// Violated expectations, one sentence each.
    pub failures: Vec<String>,
    /// Downtime: the longest time without an acknowledged write.
    pub downtime_seconds: f64,
    /// Downtime per write path.
    pub downtime_seconds_by_path: BTreeMap<WritePath, f64>,
    /// Number of rows acknowledged during the scenario.
    pub rows_acknowledged: usize,
    /// Number of acknowledged rows that the primary lacks at the end.
    pub rows_lost: usize,
    /// Data loss stated before it was accepted; 0 if none was stated.
    pub rows_lost_stated_at_most: u64,
    /// Duration of split-brain: more than one node acknowledged writes.
    pub split_brain_seconds: f64,
    /// Time of the scenario.
    pub span: TimeSpan,
}

/// Primary at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingPrimary {
    /// Its node.
    pub node: NodeId,
    /// Start time of its postmaster.
    pub started: String,
}

/// Expectation of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Maximum downtime.
    pub downtime: Duration,
    /// Maximum number of lost rows, as stated before the loss.
    pub rows_lost: u64,
}

/// Measurements of a scenario.
#[derive(Clone, Debug)]
pub struct Measurements {
    /// Time of the scenario.
    pub span: TimeSpan,
    /// Times and write paths of acknowledged writes, in order.
    pub acknowledged: Vec<(Duration, WritePath)>,
    /// Times at which each node acknowledged a write, in order.
    pub accepted: BTreeMap<NodeId, Vec<Duration>>,
    /// Number of acknowledged rows that the primary lacks.
    pub rows_lost: usize,
}

impl CheckResult {
    /// Requires that one server was primary from the first time to the second. This proves that PostgreSQL was
    /// not interrupted, however slow the machine was.
    pub fn require_same_server(&mut self, before: &ServingPrimary, after: &ServingPrimary) {
        if before != after {
            self.failures.push(format!(
                "the primary changed: node {}, started {}, at the end; node {}, started {}, at the beginning",
                after.node, after.started, before.node, before.started
            ));
            self.passed = false;
        }
    }
}

/// Compares the measurements of a scenario with its expectation.
pub fn check_scenario(
    name: &str,
    expectation: Expectation,
    measured: &Measurements,
) -> CheckResult {
    let moments = |through: Option<WritePath>| {
        let rows = measured.acknowledged.iter();
        rows.filter(|(_, path)| through.is_none_or(|through| through == *path))
            .map(|(at, _)| *at)
            .collect::<Vec<_>>()
    };
    let downtime = longest_gap(&moments(None), measured.span);
    let through = [WritePath::Api, WritePath::Sql].map(|path| {
        let gap = longest_gap(&moments(Some(path)), measured.span);
        (path, to_millis(gap))
    });
    let split_brain_duration = split_brain_duration(&measured.accepted);
    let mut failures = Vec::new();
    if downtime > expectation.downtime {
        failures.push(format!(
            "downtime of {downtime:.1?}, expected at most {:?}",
            expectation.downtime
        ));
    }
    if measured.rows_lost as u64 > expectation.rows_lost {
        failures.push(format!(
            "{} acknowledged rows lost, at most {} were stated",
            measured.rows_lost, expectation.rows_lost
        ));
    }
    if !split_brain_duration.is_zero() {
        failures.push(format!("split-brain for {split_brain_duration:.1?}"));
    }
    if measured.acknowledged.is_empty() {
        failures.push("no write was acknowledged".to_owned());
    }
    CheckResult {
        name: name.to_owned(),
        passed: failures.is_empty(),
        failures,
        downtime_seconds: to_millis(downtime),
        downtime_seconds_by_path: BTreeMap::from(through),
        rows_acknowledged: measured.acknowledged.len(),
        rows_lost: measured.rows_lost,
        rows_lost_stated_at_most: expectation.rows_lost,
        split_brain_seconds: to_millis(split_brain_duration),
        span: measured.span,
    }
}

/// Returns the longest time within `span` without one of `moments`, which are in order.
pub fn longest_gap(moments: &[Duration], span: TimeSpan) -> Duration {
    let inside = moments
        .iter()
        .copied()
        .filter(|moment| span.from < *moment && *moment < span.to);
    let mut last = span.from;
    let mut longest = Duration::ZERO;
    for moment in inside.chain([span.to]) {
        longest = longest.max(moment.saturating_sub(last));
        last = moment;
    }
    longest
}

/// Returns the writable spans of a node: consecutive acknowledgements with small gaps.
pub fn writable(acknowledgements: &[Duration]) -> Vec<TimeSpan> {
    let mut spans: Vec<TimeSpan> = Vec::new();
    for at in acknowledgements.iter().copied() {
        match spans.last_mut() {
            Some(last) if at.saturating_sub(last.to) <= MAX_ACKNOWLEDGEMENT_GAP => last.to = at,
            _ => spans.push(TimeSpan { from: at, to: at }),
        }
    }
    spans
}

/// Returns the duration for which more than one node was writable.
pub fn split_brain_duration(accepted: &BTreeMap<NodeId, Vec<Duration>>) -> Duration {
    let nodes: Vec<_> = accepted.values().map(|times| writable(times)).collect();
    let mut together = Duration::ZERO;
    for (index, one) in nodes.iter().enumerate() {
        for other in nodes.iter().skip(index + 1) {
            together += overlap(one, other);
        }
    }
    together
}

/// Returns the acknowledged rows that are missing.
pub fn lost(acknowledged: &BTreeSet<u64>, present: &BTreeSet<u64>) -> BTreeSet<u64> {
    acknowledged.difference(present).copied().collect()
}

/// Returns the number of `moments` in each second of `span`.
pub fn per_second(moments: &[Duration], span: TimeSpan) -> Vec<u32> {
    let seconds = usize::try_from(span.to.saturating_sub(span.from).as_secs()).unwrap_or(0) + 1;
    let mut counts = vec![0; seconds];
    for moment in moments {
        let second = moment.checked_sub(span.from).map(|since| since.as_secs());
        let second = second.and_then(|index| usize::try_from(index).ok());
        if let Some(count) = second.and_then(|index| counts.get_mut(index)) {
            *count += 1;
        }
    }
    counts
}

fn overlap(one: &[TimeSpan], other: &[TimeSpan]) -> Duration {
    let mut total = Duration::ZERO;
    for a in one {
        for b in other {
            let (from, to) = (a.from.max(b.from), a.to.min(b.to));
            if from <= to {
                total += to.saturating_sub(from).max(SAMPLE_DURATION);
            }
        }
    }
    total
}

fn to_millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_at_the_ends_then_counted() {
        let moments = [millis(500), millis(600), millis(2_600), millis(2_700)];

        assert_eq!(longest_gap(&moments, span(0, 3_000)), secs(2));
        assert_eq!(longest_gap(&moments, span(0, 9_000)), millis(6_300));
        assert_eq!(longest_gap(&[], span(1_000, 4_000)), secs(3));
    }

    #[test]
    fn close_acknowledgements_then_one_writable_span() {
        let spans = writable(&[0, 75, 150, 5_000, 5_100].map(millis));

        assert_eq!(spans, [span(0, 150), span(5_000, 5_100)]);
    }

    #[test]
    fn change_of_primary_then_no_split_brain() {
        let accepted = accepted(&[
            ("a", &[0, 75, 150, 225]),
            ("b", &[9_000, 9_075]),
            ("c", &[]),
        ]);

        assert_eq!(split_brain_duration(&accepted), Duration::ZERO);
    }

    #[test]
    fn acknowledgement_within_another_nodes_span_then_split_brain() {
        let accepted = accepted(&[("a", &[0, 75, 150, 225]), ("b", &[100])]);

        assert_eq!(split_brain_duration(&accepted), millis(100));
    }

    #[test]
    fn two_writable_nodes_then_duration_counted() {
        let a: Vec<u64> = (0..40).map(|number| number * 75).collect();
        let b: Vec<u64> = (20..60).map(|number| number * 75).collect();

        assert_eq!(
            split_brain_duration(&accepted(&[("a", &a), ("b", &b)])),
            millis(1_425)
        );
    }

    #[test]
    fn acknowledged_row_missing_then_lost() {
        let acknowledged = BTreeSet::from([1, 2, 3]);
        let present = BTreeSet::from([1, 3, 4]);

        assert_eq!(lost(&acknowledged, &present), BTreeSet::from([2]));
    }

    #[test]
    fn measurements_at_the_limit_then_passed() {
        let measured = measured();
        let expectation = Expectation {
            downtime: secs(2),
            rows_lost: 3,
        };

        let result = check_scenario("zone_lost", expectation, &measured);
        assert!(result.passed, "{result:?}");
        assert!((result.downtime_seconds - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn expectation_not_met_then_each_failure_named() {
        let mut measured = measured();
        measured.accepted = accepted(&[("a", &[0, 100, 200]), ("b", &[150])]);
        let expectation = Expectation {
            downtime: secs(1),
            rows_lost: 2,
        };

        let result = check_scenario("zone_lost", expectation, &measured);
        assert!(!result.passed);
        assert_eq!(
            result.failures,
            [
                "downtime of 2.0s, expected at most 1s",
                "3 acknowledged rows lost, at most 2 were stated",
                "split-brain for 100.0ms",
            ]
        );
    }

    #[test]
    fn acknowledgements_then_counted_per_second() {
        let moments = [0, 10, 999, 1_000, 2_500].map(millis);

        assert_eq!(per_second(&moments, span(0, 2_600)), [3, 1, 1]);
    }

    #[test]
    fn other_server_then_failed() {
        let serving = |node: &str, started: &str| ServingPrimary {
            node: node.parse().unwrap(),
            started: started.to_owned(),
        };
        let start = serving("a", "09:00");
        for (after, failures) in [
            (start.clone(), 0),
            (serving("b", "09:00"), 1),
            (serving("a", "09:01"), 1),
        ] {
            let expectation = Expectation {
                downtime: secs(2),
                rows_lost: 3,
            };
            let mut result = check_scenario("agent_restarted", expectation, &measured());
            result.require_same_server(&start, &after);
            assert_eq!(result.failures.len(), failures, "{after:?}");
            assert_eq!(result.passed, failures == 0, "{after:?}");
        }
    }

    fn measured() -> Measurements {
        Measurements {
            span: span(0, 3_000),
            acknowledged: [500, 1_000, 3_000]
                .map(|row| (millis(row), WritePath::Sql))
                .to_vec(),
            accepted: accepted(&[("a", &[500, 1_000]), ("b", &[3_000])]),
            rows_lost: 3,
        }
    }

    fn accepted(of: &[(&str, &[u64])]) -> BTreeMap<NodeId, Vec<Duration>> {
        let moments = |moment: &[u64]| moment.iter().copied().map(millis).collect();
        of.iter()
            .map(|(node, at)| (node.parse().unwrap(), moments(at)))
            .collect()
    }

    fn span(from: u64, to: u64) -> TimeSpan {
        TimeSpan {
            from: millis(from),
            to: millis(to),
        }
    }

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }
}
