//! `lab backup-faults`: histories of backups, promotions, kills and bucket outages, each on its own
//! server, and restores whose rows are compared with the committed ones.

mod bucket_contents;
pub mod bucket_outage;
pub mod checker;
mod commands;
mod damage;
mod postgres_server;
mod promotion;
mod restore;
mod runner;
mod sandbox;
pub mod schedule;
mod template;
mod timeline_model;
mod writer;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::time::Instant;

use self::checker::BackupViolation;
use self::runner::{ScheduleRunner, StopMode};
use self::schedule::BackupSchedule;
use self::template::ServerTemplates;
use crate::progress::ProgressReporter;
use crate::seeded_runs::{self, RunOutcome};

/// Options of `lab backup-faults`.
#[derive(Clone, Debug)]
pub struct BackupFaultsOptions {
    /// Seeds, one per history.
    pub seeds: Vec<u64>,
    /// Number of histories that run in parallel.
    pub parallel: u8,
    /// Directory for the observations of histories.
    pub reports: PathBuf,
}

/// Runs every history, reports each outcome, and returns whether every property held in all of them.
///
/// # Errors
///
/// When no template server can be created, or the report directory cannot be written.
pub async fn run(
    options: &BackupFaultsOptions,
    progress: &ProgressReporter,
) -> anyhow::Result<bool> {
    let reports = &options.reports;
    seeded_runs::create_reports(reports)?;
    let templates = ServerTemplates::create().await?;
    let count = options.seeds.len();
    let rerun_command = |first| format!("`lab backup-faults --seed {first} --histories {count}`");
    let run_history = async |_worker, seed| run_history(seed, &templates, reports, progress).await;
    let passed = seeded_runs::run_all(
        &options.seeds,
        options.parallel,
        rerun_command,
        reports,
        progress,
        run_history,
    );
    Ok(passed.await)
}

/// Runs one history, and reports its outcome.
async fn run_history(
    seed: u64,
    templates: &ServerTemplates,
    reports: &Path,
    progress: &ProgressReporter,
) -> RunOutcome<BackupViolation> {
    let schedule = BackupSchedule::of(seed);
    let started_at = Instant::now();
    let template = templates.path(schedule.ballast);
    let outcome = match ScheduleRunner::start(&schedule, template).await {
        Ok(runner) => run_schedule(runner, &schedule, reports).await,
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
                "FAILED, {secs:.0} s{}\n{schedule}",
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

async fn run_schedule(
    mut runner: ScheduleRunner,
    schedule: &BackupSchedule,
    reports: &Path,
) -> RunOutcome<BackupViolation> {
    let mut result = run_steps(&mut runner, schedule).await;
    if let Err(error) = runner.stop_server(StopMode::Kill).await {
        result = result.and(Err(error));
    }
    runner.sandbox.stop().await;
    let outcome = match result {
        _ if !runner.violations.is_empty() => RunOutcome::Violated(runner.violations.clone()),
        Ok(()) => RunOutcome::Passed,
        Err(error) => RunOutcome::Inconclusive(format!("{error:#}")),
    };
    if !matches!(outcome, RunOutcome::Passed) {
        runner.sandbox.keep_directory();
        if let Err(error) = write_report(&runner, schedule, reports) {
            return RunOutcome::Inconclusive(format!("{error:#}"));
        }
    }
    outcome
}

async fn run_steps(runner: &mut ScheduleRunner, schedule: &BackupSchedule) -> anyhow::Result<()> {
    for step in &schedule.steps {
        runner.run_step(step).await?;
    }
    runner.stop_server(StopMode::Kill).await?;
    for (number, planned) in schedule.restores.iter().enumerate() {
        runner.run_restore(number, planned).await?;
    }
    Ok(())
}

/// Writes the observations of a history to a directory of its own.
fn write_report(
    runner: &ScheduleRunner,
    schedule: &BackupSchedule,
    reports: &Path,
) -> anyhow::Result<()> {
    let report = reports.join(schedule.seed.to_string());
    if report.exists() {
        std::fs::remove_dir_all(&report)?;
    }
    std::fs::create_dir_all(&report)
        .with_context(|| format!("could not create `{}`", report.display()))?;
    let directory = runner.sandbox.directory.display();
    let mut text = format!("{schedule}\n\nevents in `{directory}`:\n");
    for event in &runner.events {
        writeln!(text, "{event}")?;
    }
    std::fs::write(report.join("history.txt"), text)?;
    for bucket in &runner.sandbox.buckets {
        let name = format!("requests-{}.txt", bucket.which);
        std::fs::write(report.join(name), bucket.faults.log())?;
    }
    for entry in std::fs::read_dir(runner.sandbox.directory.join("log"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), report.join(entry.file_name()))?;
    }
    Ok(())
}
