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
    seeded_runs::create_reports(reports)?;
    let count = options.seeds.len();
    let rerun_command = |first| format!("`lab chaos --seed {first} --seeds {count}`");
    let run_history = async |worker, seed| {
        let number = options.number.map(|number| number + worker);
        run_history(number, seed, reports, progress).await
    };
    let passed = seeded_runs::run_all(
        &options.seeds,
        options.labs,
        rerun_command,
        reports,
        progress,
        run_history,
    );
    Ok(passed.await)
}

/// Runs one history on a lab of its own, and reports its outcome.
async fn run_history(
    number: Option<u8>,
    seed: u64,
    reports: &Path,
    progress: &ProgressReporter,
) -> RunOutcome<ChaosViolation> {
    let schedule = FaultSchedule::of(seed);
    let started_at = Instant::now();
    let outcome = match run_on_lab(number, &schedule, reports).await {
        Ok(outcome) => outcome,
        Err(error) => RunOutcome::Inconclusive(format!("{error:#}")),
    };
    let secs = started_at.elapsed().as_secs_f64();
    let report = match &outcome {
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
        RunOutcome::Inconclusive(reason) => {
            format!("NOT CHECKED, {secs:.0} s: {reason}\n{schedule}")
        }
    };
    progress.report(format!("seed {seed}: {report}"));
    outcome
}

async fn run_on_lab(
    number: Option<u8>,
    schedule: &FaultSchedule,
    reports: &Path,
) -> anyhow::Result<RunOutcome<ChaosViolation>> {
    let lock = match number {
        Some(number) => LabLock::acquire(Topology::new(number, None)?)?,
        None => LabLock::acquire_any()?,
    };
    // A shared disk allows no disk faults: the history records them as not possible.
    let disks = if disks::can_attach(&lock.topology).await {
        DiskMode::Own
    } else {
        DiskMode::Shared
    };
    let silent = ProgressReporter::silent();
    let lab = Arc::new(Lab::start_on(disks, lock, &silent).await?);
    let run = runner::run_schedule(&lab, schedule).await;
    let report = reports.join(schedule.seed.to_string());
    let outcome = match run {
        Ok(run) => {
            let violations = checker::check(&run.observed);
            write_report(&lab, schedule, &run, &violations, &report)?;
            if violations.is_empty() {
                Ok(RunOutcome::Passed)
            } else {
                copy_logs(&lab, &report)?;
                Ok(RunOutcome::Violated(violations))
            }
        }
        Err(error) => {
            copy_logs(&lab, &report)?;
            Err(error)
        }
    };
    lab.stop().await?;
    outcome
}

/// Writes the observations of a history to a directory.
fn write_report(
    lab: &Lab,
    schedule: &FaultSchedule,
    run: &ChaosRun,
    violations: &[ChaosViolation],
    report: &Path,
) -> anyhow::Result<()> {
    if report.exists() {
        std::fs::remove_dir_all(report)?;
    }
    std::fs::create_dir_all(report)
        .with_context(|| format!("could not create `{}`", report.display()))?;
    let mut text = format!("{schedule}\n\nevents on lab {}:\n", lab.topology().number());
    for event in &run.events {
        writeln!(text, "{:6.1} s  {}", event.at.as_secs_f64(), event.what)?;
    }
    writeln!(text, "\nwritable nodes:")?;
    for (node, at) in &run.observed.accepted {
        for span in writable_spans(at) {
            let from = span.from.as_secs_f64();
            let to = span.to.as_secs_f64();
            writeln!(text, "{from:6.1} s to {to:6.1} s  {node}")?;
        }
    }
    let lost = run.observed.rows_lost;
    let stated = checker::max_stated_loss(&run.observed);
    let unsaved = run.observed.rows_unsaved;
    writeln!(
        text,
        "\nrows lost: {lost:?}, not saved: {unsaved}, stated at most: {stated}"
    )?;
    for command in &run.observed.commands {
        writeln!(
            text,
            "\n{:.1} s to {:.1} s: `{}` exited with {:?}\n{}",
            command.from.as_secs_f64(),
            command.to.as_secs_f64(),
            command.command_line,
            command.code,
            command.output.trim()
        )?;
    }
    writeln!(text, "\nviolations: {}", violations.len())?;
    for violation in violations {
        writeln!(text, "{violation}")?;
    }
    std::fs::write(report.join("history.txt"), text)?;
    let observed = serde_json::to_vec(&run.observed)?;
    std::fs::write(report.join("observed.json"), observed)?;
    Ok(())
}

/// Returns the spans in which a node accepted writes, without gaps under a second.
fn writable_spans(at: &[Duration]) -> Vec<crate::workload::checker::TimeSpan> {
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

fn copy_logs(lab: &Lab, report: &Path) -> anyhow::Result<()> {
    let to = report.join("log");
    std::fs::create_dir_all(&to).with_context(|| format!("could not create `{}`", to.display()))?;
    for entry in std::fs::read_dir(lab.topology().logs())? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
