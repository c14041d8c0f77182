//! `lab chaos`: histories of random faults, each on its own lab, and the check of the observations.

mod agent_log;
pub mod checker;
pub mod observations;
mod observer;
mod operator_command;
mod runner;
mod saved_wal;
pub mod schedule;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use self::checker::ChaosViolation;
use self::runner::ChaosRun;
use self::schedule::FaultSchedule;
use crate::cluster::disks::{self, DiskMode};
use crate::cluster::lab_lock::LabLock;
use crate::cluster::topology::Topology;
use crate::lab::Lab;
use crate::progress::ProgressReporter;
use crate::seeded_runs::{self, RunOutcome};

/// Options of `lab chaos`.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// Seeds, one per history.
    pub seeds: Vec<u64>,
    /// Number of labs that run in parallel.
    pub labs: u8,
    /// Number of the first lab; any free ones if `None`.
    pub number: Option<u8>,
    /// Directory for the observations of histories.
    pub reports: PathBuf,
}

/// Runs every history, reports each outcome, and returns whether every property held in all of them.
///
/// # Errors
///
/// When the report directory cannot be written.
pub async fn run(options: &ChaosOptions, progress: &ProgressReporter) -> anyhow::Result<bool> {
    let reports = &options.reports;
    seeded_runs::make_reports(reports)?;
    let count = options.seeds.len();
    let again = |first| format!("`lab chaos --seed {first} --seeds {count}`");
    let play = async |worker, seed| {
        let number = options.number.map(|number| number + worker);
        one(number, seed, reports, progress).await
    };
    let held = seeded_runs::play_all(&options.seeds, options.labs, again, reports, progress, play);
    Ok(held.await)
}

/// Runs one history on a lab of its own, and reports its outcome.
async fn one(
    number: Option<u8>,
    seed: u64,
    reports: &Path,
    progress: &ProgressReporter,
) -> RunOutcome<ChaosViolation> {
    let schedule = FaultSchedule::of(seed);
    let began = Instant::now();
    let ended = match on_a_lab(number, &schedule, reports).await {
        Ok(ended) => ended,
        Err(error) => RunOutcome::Inconclusive(format!("{error:#}")),
    };
    let secs = began.elapsed().as_secs_f64();
    let report = match &ended {
        RunOutcome::Passed => format!("passed, {secs:.0} s"),
        RunOutcome::Violated(violations) => {
            let lines = violations
                .iter()
                .map(|violation| format!("\n  {violation}"));
            format!(
                "FAILED, {secs:.0} s\n{schedule}{}",
                lines.collect::<String>()
            )
        }
        RunOutcome::Inconclusive(why) => format!("NOT CHECKED, {secs:.0} s: {why}\n{schedule}"),
    };
    let report = format!("seed {seed}: {report}");
    progress.report(report);
    ended
}

async fn on_a_lab(
    number: Option<u8>,
    schedule: &FaultSchedule,
    reports: &Path,
) -> anyhow::Result<RunOutcome<ChaosViolation>> {
    let claim = match number {
        Some(number) => LabLock::take(Topology::new(number, None)?)?,
        None => LabLock::any()?,
    };
    // A shared disk allows no disk faults: the history records them as not possible.
    let disks = if disks::can_attach(&claim.topology).await {
        DiskMode::Own
    } else {
        DiskMode::Shared
    };
    let silent = ProgressReporter::silent();
    let lab = Arc::new(Lab::start_on(disks, claim, &silent).await?);
    let played = runner::play(&lab, schedule).await;
    let kept = reports.join(schedule.seed.to_string());
    let ended = match played {
        Ok(played) => {
            let violations = checker::check(&played.observed);
            keep(&lab, schedule, &played, &violations, &kept)?;
            if violations.is_empty() {
                Ok(RunOutcome::Passed)
            } else {
                keep_logs(&lab, &kept)?;
                Ok(RunOutcome::Violated(violations))
            }
        }
        Err(error) => {
            keep_logs(&lab, &kept)?;
            Err(error)
        }
    };
    lab.stop().await?;
    ended
}

/// Writes the observations of a history to a directory.
fn keep(
    lab: &Lab,
    schedule: &FaultSchedule,
    played: &ChaosRun,
    violations: &[ChaosViolation],
    kept: &Path,
) -> anyhow::Result<()> {
    if kept.exists() {
        std::fs::remove_dir_all(kept)?;
    }
    std::fs::create_dir_all(kept)
        .with_context(|| format!("could not create `{}`", kept.display()))?;
    let mut text = format!("{schedule}\n\nevents on lab {}:\n", lab.topology().number());
    for event in &played.events {
        writeln!(text, "{:6.1} s  {}", event.at.as_secs_f64(), event.what)?;
    }
    writeln!(text, "\nwritable nodes:")?;
    for (node, at) in &played.observed.accepted {
        for span in writable(at) {
            let (from, to) = (span.from.as_secs_f64(), span.to.as_secs_f64());
            writeln!(text, "{from:6.1} s to {to:6.1} s  {node}")?;
        }
    }
    let (lost, stated) = (played.observed.rows_lost, checker::stated(&played.observed));
    let unsaved = played.observed.rows_unsaved;
    writeln!(
        text,
        "\nrows lost: {lost:?}, not saved: {unsaved}, stated at most: {stated}"
    )?;
    for command in &played.observed.commands {
        writeln!(
            text,
            "\n{:.1} s to {:.1} s: `{}` exited with {:?}\n{}",
            command.from.as_secs_f64(),
            command.to.as_secs_f64(),
            command.typed,
            command.code,
            command.printed.trim()
        )?;
    }
    writeln!(text, "\nviolations: {}", violations.len())?;
    for violation in violations {
        writeln!(text, "{violation}")?;
    }
    std::fs::write(kept.join("history.txt"), text)?;
    let observed = serde_json::to_vec(&played.observed)?;
    std::fs::write(kept.join("observed.json"), observed)?;
    Ok(())
}

/// Returns the spans in which a node accepted writes, without gaps under a second.
fn writable(at: &[Duration]) -> Vec<crate::workload::checker::TimeSpan> {
    let mut spans: Vec<crate::workload::checker::TimeSpan> = Vec::new();
    for span in crate::workload::checker::writable(at) {
        match spans.last_mut() {
            Some(last) if span.from.saturating_sub(last.to) < Duration::from_secs(1) => {
                last.to = span.to;
            }
            _ => spans.push(span),
        }
    }
    spans
}

fn keep_logs(lab: &Lab, kept: &Path) -> anyhow::Result<()> {
    let to = kept.join("log");
    std::fs::create_dir_all(&to).with_context(|| format!("could not create `{}`", to.display()))?;
    for entry in std::fs::read_dir(lab.topology().logs())? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
