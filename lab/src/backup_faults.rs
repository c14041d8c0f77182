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
use self::runner::ScheduleRunner;
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
    seeded_runs::make_reports(reports)?;
    let templates = ServerTemplates::make().await?;
    let count = options.seeds.len();
    let again = |first| format!("`lab backup-faults --seed {first} --histories {count}`");
    let play = async |_, seed| one(seed, &templates, reports, progress).await;
    let held = seeded_runs::play_all(
        &options.seeds,
        options.parallel,
        again,
        reports,
        progress,
        play,
    );
    Ok(held.await)
}

/// Runs one history, and reports its outcome.
async fn one(
    seed: u64,
    templates: &ServerTemplates,
    reports: &Path,
    progress: &ProgressReporter,
) -> RunOutcome<BackupViolation> {
    let schedule = BackupSchedule::of(seed);
    let began = Instant::now();
    let template = templates.path(schedule.ballast);
    let ended = match ScheduleRunner::begin(&schedule, template).await {
        Ok(runner) => play(runner, &schedule, reports).await,
        Err(error) => RunOutcome::Inconclusive(format!("{error:#}")),
    };
    let secs = began.elapsed().as_secs_f64();
    let told = match &ended {
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
        RunOutcome::Inconclusive(why) => format!("NOT CHECKED, {secs:.0} s: {why}\n{schedule}"),
    };
    progress.report(format!("seed {seed}: {told}"));
    ended
}

async fn play(
    mut runner: ScheduleRunner,
    schedule: &BackupSchedule,
    reports: &Path,
) -> RunOutcome<BackupViolation> {
    let mut whole = all(&mut runner, schedule).await;
    if let Err(error) = runner.stop(true).await {
        whole = whole.and(Err(error));
    }
    runner.site.stop().await;
    let ended = match whole {
        _ if !runner.violations.is_empty() => RunOutcome::Violated(runner.violations.clone()),
        Ok(()) => RunOutcome::Passed,
        Err(error) => RunOutcome::Inconclusive(format!("{error:#}")),
    };
    if !matches!(ended, RunOutcome::Passed) {
        runner.site.keep();
        if let Err(error) = keep(&runner, schedule, reports) {
            return RunOutcome::Inconclusive(format!("{error:#}"));
        }
    }
    ended
}

async fn all(runner: &mut ScheduleRunner, schedule: &BackupSchedule) -> anyhow::Result<()> {
    for step in &schedule.steps {
        runner.step(step).await?;
    }
    runner.stop(true).await?;
    for (number, order) in schedule.restores.iter().enumerate() {
        runner.restore(number, order).await?;
    }
    Ok(())
}

/// Writes the observations of a history to a directory of its own.
fn keep(runner: &ScheduleRunner, schedule: &BackupSchedule, reports: &Path) -> anyhow::Result<()> {
    let kept = reports.join(schedule.seed.to_string());
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    std::fs::create_dir_all(&kept)
        .with_context(|| format!("could not create `{}`", kept.display()))?;
    let directory = runner.site.directory.display();
    let mut text = format!("{schedule}\n\nevents in `{directory}`:\n");
    for line in &runner.told {
        writeln!(text, "{line}")?;
    }
    std::fs::write(kept.join("history.txt"), text)?;
    for bucket in &runner.site.buckets {
        let name = format!("requests-{}.txt", bucket.which);
        std::fs::write(kept.join(name), bucket.faults.log())?;
    }
    for entry in std::fs::read_dir(runner.site.directory.join("log"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
    }
    Ok(())
}
