//! Runs of random histories from their seeds, several in parallel.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::progress::ProgressReporter;

/// Outcome of a history.
#[derive(Debug)]
pub(crate) enum RunOutcome<V> {
    /// Every property held.
    Passed,
    /// These properties were violated.
    Violated(Vec<V>),
    /// The lab failed, so the properties were not checked.
    Inconclusive(String),
}

/// Runs every seed with `run_history`, which gets the index of its worker, and returns whether
/// every property held. `rerun_command` returns the command that repeats the seeds; `reports` is
/// the directory for observations.
pub(crate) async fn run_all<V>(
    seeds: &[u64],
    workers: u8,
    rerun_command: impl Fn(u64) -> String,
    reports: &Path,
    progress: &ProgressReporter,
    run_history: impl AsyncFn(u8, u64) -> RunOutcome<V>,
) -> bool {
    let started_at = Instant::now();
    if let (Some(first), Some(last)) = (seeds.first(), seeds.last()) {
        let command = rerun_command(*first);
        progress.report(format!(
            "seeds {first} to {last}: repeat them with {command}"
        ));
    }
    let mut queue: Vec<u64> = seeds.to_vec();
    queue.reverse();
    let queue = Mutex::new(queue);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let run_history = &run_history;
    let next = &next;
    let workers = (0..workers).map(|worker| async move {
        let mut outcomes = Vec::new();
        while let Some(seed) = next() {
            outcomes.push((seed, run_history(worker, seed).await));
        }
        outcomes
    });
    let outcomes = futures_util::future::join_all(workers).await;
    let mut failed: Vec<u64> = outcomes
        .iter()
        .flatten()
        .filter(|(_seed, outcome)| !matches!(outcome, RunOutcome::Passed))
        .map(|(seed, _outcome)| *seed)
        .collect();
    failed.sort_unstable();
    progress.report(format!(
        "{} histories in {:.0} s; {}",
        seeds.len(),
        started_at.elapsed().as_secs_f64(),
        if failed.is_empty() {
            "every property held".to_owned()
        } else {
            format!(
                "FAILED seeds: {failed:?}; observations: `{}`",
                reports.display()
            )
        }
    ));
    failed.is_empty()
}

/// Creates the report directory.
pub(crate) fn create_reports(reports: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(reports)
        .with_context(|| format!("could not create `{}`", reports.display()))
}
