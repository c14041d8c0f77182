//! The story of a bad day, told while it happens.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::lab_lock::LabLock;
use crate::lab::Lab;
use crate::progress::ProgressReporter;
use crate::report::Report;
use crate::scenarios;
use crate::scenarios::scenario_run::ScenarioRun;
use crate::workload::checker::CheckResult;

/// For how long the agent is frozen: twice the lease's term.
const FROZEN_FOR: Duration = Duration::from_secs(20);

const PROLOGUE: &str = "\
Causeway keeps one PostgreSQL server writable, whatever happens to the others.

This is the whole platform on one machine: nodes a and b in two zones of eu-west-1, node c in
eu-central-1, S3 in three regions, Route 53, and an API in both regions. Clients write all the time,
by SQL and through the API, and remember every row that was acknowledged to them. What they remember
at the end of each story is compared with what the primary then has.
";

/// Tells the whole story on a lab of its own, writes the report, and says whether every promise was
/// kept.
///
/// # Errors
///
/// When the lab does not start, or the report cannot be written. A story that does not come to an
/// end is told as one that broke its promise.
pub async fn tell(
    claim: LabLock,
    reports: &Path,
    progress: &ProgressReporter,
) -> anyhow::Result<bool> {
    let began = Instant::now();
    progress.report(PROLOGUE);
    let lab = Lab::start(claim, progress).await?;
    progress.report(format!(
        "everything is up after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    let mut run = ScenarioRun::start(&lab, progress.clone()).await?;
    let mut verdicts = Vec::new();
    let cut_short = play(&mut run, &mut verdicts).await.err();
    run.stop().await;

    let (history, topology) = (run.history(), lab.topology());
    let snapshot = history.snapshot();
    let mut report = Report::new(
        topology,
        verdicts,
        &snapshot,
        history.now(),
        began.elapsed(),
    );
    report.passed &= cut_short.is_none();
    report.write(reports)?;
    progress.report(format!("\n{}", report.table()?));
    if let Some(error) = &cut_short {
        progress.report(format!("the story was cut short: {error:#}"));
        progress.report(format!("the logs stay in `{}`", topology.logs().display()));
        return Ok(false);
    }
    lab.stop().await?;
    progress.report(format!(
        "{} in {:.0} s; the timeline is drawn in `{}`",
        if report.passed {
            "every promise was kept"
        } else {
            "a promise was BROKEN"
        },
        began.elapsed().as_secs_f64(),
        reports.join("report.html").display()
    ));
    Ok(report.passed)
}

/// Plays every story, one after another, on the same platform.
async fn play(run: &mut ScenarioRun<'_>, verdicts: &mut Vec<CheckResult>) -> anyhow::Result<()> {
    let progress = run.progress.clone();
    let chapter = |title: &str| progress.report(format!("\n── {title}"));
    chapter("Before anything breaks: a base backup, sealed for a key that no database host has");
    scenarios::base_backup(run).await?;

    chapter("1. A zone is lost: the primary's host is gone. The other zone takes over by itself.");
    verdicts.push(scenarios::zone_lost(run).await?);
    chapter(
        "2. The primary's agent freezes. Its guard ends PostgreSQL before another node may take over.",
    );
    verdicts.push(scenarios::agent_frozen(run, FROZEN_FOR).await?);
    chapter("3. A whole region is lost. Somebody decides to promote the other one.");
    verdicts.push(scenarios::region_lost(run).await?);
    chapter("4. The lost region comes back. Its nodes follow, and never accept a write.");
    verdicts.push(scenarios::region_rejoined(run).await?);
    chapter("5. A table is dropped by mistake. A copy of the database is restored to just before.");
    verdicts.push(scenarios::point_in_time_recovery(run).await?);
    Ok(())
}
