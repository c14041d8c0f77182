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
pub(crate) async fn play_all<V>(
    seeds: &[u64],
    workers: u8,
    again: impl Fn(u64) -> String,
    reports: &Path,
    progress: &ProgressReporter,
    play: impl AsyncFn(u8, u64) -> RunOutcome<V>,
) -> bool {
    let began = Instant::now();
    if let (Some(first), Some(last)) = (seeds.first(), seeds.last()) {
        let again = again(*first);
        progress.report(format!("seeds {first} to {last}: repeat them with {command}"));
    }
    let mut left: Vec<u64> = seeds.to_vec();
    left.reverse();
    let left = Mutex::new(left);
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let (play, next) = (&play, &next);
    let workers = (0..workers).map(|worker| async move {
        let mut ended = Vec::new();
        while let Some(seed) = next() {
            ended.push((seed, play(worker, seed).await));
        }
        ended
    });
    let ended = futures_util::future::join_all(workers).await;
    let mut failed: Vec<u64> = ended
        .iter()
        .flatten()
        .filter(|(_, it)| !matches!(it, RunOutcome::Passed))
        .map(|(seed, _)| *seed)
        .collect();
    failed.sort_unstable();
    progress.report(format!(
        "{} histories in {:.0} s; {}",
        seeds.len(),
        began.elapsed().as_secs_f64(),
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
pub(crate) fn make_reports(reports: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(reports)
        .with_context(|| format!("could not create `{}`", reports.display()))
}
