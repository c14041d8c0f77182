//! `lab demo`: the demo scenarios, one after another on one platform, and a report.

use std::path::Path;

use tokio::time::Instant;

use crate::cluster::lab_lock::LabLock;
use crate::lab::Lab;
use crate::progress::ProgressReporter;
use crate::report::Report;
use crate::scenarios;
use crate::scenarios::scenario_run::ScenarioRun;
use crate::workload::checker::CheckResult;

const INTRODUCTION: &str = "\
Causeway keeps exactly one PostgreSQL server writable, whichever part fails.

This is the whole platform on one machine: nodes a and b in two zones of eu-west-1, node c in
eu-central-1, S3 in three regions, Route 53, and an API instance in both regions. Clients write all
the time, by SQL and through the API, and record every acknowledged row. After each scenario, this
history is compared with the rows on the primary.
";

/// Runs the demo on a lab of its own, writes the report, and returns whether every expectation was met.
///
/// # Errors
///
/// When the lab does not start, or the report cannot be written. A scenario that cannot be completed
/// is reported as failed.
pub async fn run(
    lock: LabLock,
    reports: &Path,
    progress: &ProgressReporter,
) -> anyhow::Result<bool> {
    let started = Instant::now();
    progress.report(INTRODUCTION);
    let lab = Lab::start(lock, progress).await?;
    progress.report(format!(
        "the platform is up after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    let mut run = ScenarioRun::start(&lab, progress.clone()).await?;
    let mut results = Vec::new();
    let stopped = run_scenarios(&mut run, &mut results).await.err();
    run.stop().await;

    let history = run.history();
    let topology = lab.topology();
    let snapshot = history.snapshot();
    let mut report = Report::new(
        topology,
        results,
        &snapshot,
        history.now(),
        started.elapsed(),
    );
    report.passed &= stopped.is_none();
    report.write(reports)?;
    progress.report(format!("\n{}", report.table()?));
    if let Some(error) = &stopped {
        progress.report(format!("the demo stopped: {error:#}"));
        progress.report(format!("logs: `{}`", topology.logs().display()));
        return Ok(false);
    }
    lab.stop().await?;
    progress.report(format!(
        "{} in {:.0} s; timeline: `{}`",
        if report.passed {
            "every expectation was met"
        } else {
            "an expectation was NOT met"
        },
        started.elapsed().as_secs_f64(),
        reports.join("report.html").display()
    ));
    Ok(report.passed)
}

/// Runs every scenario of the demo, one after another on the same platform.
async fn run_scenarios(
    run: &mut ScenarioRun<'_>,
    results: &mut Vec<CheckResult>,
) -> anyhow::Result<()> {
    let progress = run.progress.clone();
    let chapter = |title: &str| progress.report(format!("\n── {title}"));
    chapter("Before any fault: a base backup, encrypted for a key that no database host has");
    scenarios::base_backup(run).await?;

    chapter("1. A zone is lost, with the primary's host. The other zone takes over automatically.");
    results.push(scenarios::zone_lost(run).await?);
    chapter(
        "2. The primary's agent freezes. Its guard stops PostgreSQL before another node may take over.",
    );
    results.push(scenarios::agent_frozen(run, scenarios::FREEZE_DURATION).await?);
    chapter("3. A region is lost. An operator promotes the other one by command.");
    results.push(scenarios::region_lost(run).await?);
    chapter(
        "4. The lost region comes back. Its nodes rejoin as standbys and never accept a write.",
    );
    results.push(scenarios::region_rejoined(run).await?);
    chapter("5. A table is dropped. A copy of the database is recovered to the time just before.");
    results.push(scenarios::point_in_time_recovery(run).await?);
    Ok(())
}
