//! The primary region is cut off, and its EC2 instance is stopped: the promotion does not wait for the
//! lease to expire.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::bounds::promotion_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, RegionSelector};
use crate::workload::checker::{CheckResult, Expectation};

const PROMOTE: [&str; 8] = [
    "promote",
    "--to",
    "c",
    "--stop-instance",
    "--yes",
    "--accept-loss",
    "1GiB",
    "--json",
];

/// The nodes of the primary region are cut off, and EC2 still stops their instances: the stopped
/// instance is the fencing proof of the promotion.
///
/// # Errors
///
/// When the scenario cannot be completed, or the fencing proof is another.
pub async fn instance_stopped(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("instance_stopped").await?;
    let primary = run.announce_primary().await?;
    run.inject(&Fault::RegionLost(RegionSelector::default()))
        .await?;
    let rows_lost = run.planned_loss().await?;
    let promote = run.lab.programs().failover_ctl(&PROMOTE);
    let journal: Value = serde_json::from_str(&promote.run(None, SCENARIO_TIMEOUT).await?)?;
    let evidence = journal
        .pointer("/entries/0/evidence")
        .and_then(Value::as_str)
        .context("the journal has no fencing evidence")?;
    ensure!(
        evidence.contains("as stopped"),
        "the fencing evidence is not a stopped instance: {evidence}"
    );
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;

    run.announce(&format!("the instance of node {primary} is started"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        rows_lost,
        ..promotion_bound()
    };
    run.finish(&start, expectation).await
}
