//! The operator's process is killed during a promotion: a second operator is rejected meanwhile, and
//! `resume` completes the operation.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::bounds::{bound, promotion_bound};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, RegionSelector};
use crate::wait;
use crate::workload::checker::{CheckResult, Expectation};

const PROMOTE: [&str; 6] = [
    "promote",
    "--to",
    "eu-central-1",
    "--yes",
    "--accept-loss",
    "1GiB",
];

const RESUME: [&str; 5] = ["resume", "--yes", "--accept-loss", "1GiB", "--json"];

/// Time for which an operation lock outlives its operator.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// `failover-ctl promote` is killed after its first step: another operator is rejected before, and
/// `failover-ctl resume` completes the promotion after.
///
/// # Errors
///
/// When the scenario cannot be completed, or the second operator is not rejected.
pub async fn operator_killed(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("operator_killed").await?;
    run.inject(&Fault::RegionLost(RegionSelector::default()))
        .await?;
    let rows_lost = run.planned_loss().await?;

    let mut command = run.lab.programs().failover_ctl(&PROMOTE).command()?;
    let mut operator = command
        .spawn()
        .context("could not start the first operator's `failover-ctl promote`")?;
    let started_steps = wait::until("the first step to start", SCENARIO_TIMEOUT, || async {
        match count_steps(run).await {
            Ok(0) => Err("no step started".to_owned()),
            Ok(steps) => Ok(steps),
            Err(error) => Err(format!("{error:#}")),
        }
    });
    let started_steps = started_steps.await?;
    require_rejection(run).await?;
    operator.kill().await?;
    run.announce(&format!(
        "the operator's process is killed after {started_steps} or more steps have started"
    ));

    let resume = run.lab.programs().failover_ctl(&RESUME);
    let journal: Value = serde_json::from_str(&resume.run(None, SCENARIO_TIMEOUT).await?)?;
    if journal.pointer("/ended_at").is_none_or(Value::is_null) {
        bail!("`failover-ctl resume` did not complete the operation: {journal}");
    }
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    // Two commands, and the first operator's lock.
    let downtime = LOCK_TIMEOUT + 2 * promotion_bound().downtime;
    let expectation = Expectation {
        rows_lost,
        ..bound(downtime, Duration::ZERO)
    };
    run.finish(&start, expectation).await
}

/// Requires that a second operator is rejected while the first one works, within two heartbeats.
async fn require_rejection(run: &ScenarioRun<'_>) -> anyhow::Result<()> {
    let second = run.lab.programs().failover_ctl(&PROMOTE);
    let Err(rejection) = second.run(None, SCENARIO_TIMEOUT).await else {
        bail!("a second operator's promotion was accepted");
    };
    let rejection = format!("{rejection:#}");
    ensure!(
        rejection.contains("is at work: operation"),
        "the second operator's promotion failed for another reason: {rejection}"
    );
    Ok(())
}

/// Returns the number of started steps of the latest operation.
async fn count_steps(run: &ScenarioRun<'_>) -> anyhow::Result<usize> {
    let history = run.lab.programs().failover_ctl(&["history", "--json"]);
    let history: Value = serde_json::from_str(&history.run(None, SCENARIO_TIMEOUT).await?)?;
    let operations = history
        .as_array()
        .context("`failover-ctl history --json` printed no list")?;
    let entries = operations
        .last()
        .and_then(|operation| operation.pointer("/entries")?.as_array());
    Ok(entries.map_or(0, Vec::len))
}
