//! Spans of reported problems, read from an agent's log.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::workload::checker::TimeSpan;

/// Returns the spans of reported problems, on a clock whose zero is the wall-clock time `zero`.
pub(super) fn problem_spans(log: &str, zero: Duration, end: Duration) -> Vec<TimeSpan> {
    let mut found = Vec::new();
    let mut open_problems: BTreeMap<&str, Duration> = BTreeMap::new();
    for line in log.lines() {
        let Some(at) = log_time(line, zero) else {
            continue;
        };
        let problem = field(line, "problem").unwrap_or("unnamed");
        if line.contains("msg=\"problem found\"") {
            open_problems.entry(problem).or_insert(at);
        } else if line.contains("msg=\"problem ended\"") {
            let from = open_problems.remove(problem);
            found.extend(from.map(|from| TimeSpan { from, to: at }));
        } else if line.contains("msg=\"agent started\"") {
            // A restart ends the problems of the previous process.
            let before = std::mem::take(&mut open_problems).into_values();
            found.extend(before.map(|from| TimeSpan { from, to: at }));
        }
    }
    found.extend(
        open_problems
            .into_values()
            .map(|from| TimeSpan { from, to: end }),
    );
    found
}

fn log_time(line: &str, zero: Duration) -> Option<Duration> {
    let at: Timestamp = field(line, "ts")?.parse().ok()?;
    let since_epoch = Duration::try_from(at.as_duration()).ok()?;
    Some(since_epoch.saturating_sub(zero))
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split(' ');
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_found_then_lasts_until_it_or_the_agent_ends() {
        let log = "\
ts=1970-01-01T00:01:40.500Z level=warn msg=\"problem found\" problem=no-holder detail=\"x y\"\n\
ts=1970-01-01T00:01:50.000Z level=info msg=\"problem ended\" problem=no-holder stood_secs=9\n\
LOG:  a line of another program\n\
ts=1970-01-01T00:02:00.000Z level=warn msg=\"problem found\" problem=diverged\n\
ts=1970-01-01T00:02:10.000Z level=info msg=\"agent started\" node=a\n\
ts=1970-01-01T00:02:20.000Z level=warn msg=\"problem found\" problem=diverged\n";
        let spans = problem_spans(log, Duration::from_secs(90), Duration::from_secs(70));
        let secs: Vec<_> = spans
            .iter()
            .map(|span| (span.from.as_secs_f64(), span.to.as_secs_f64()))
            .collect();
        assert_eq!(secs, [(10.5, 20.0), (30.0, 40.0), (50.0, 70.0)]);
    }
}
