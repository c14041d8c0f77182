//! The primary's host is lost, and another zone takes over.

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::{CheckResult, Expectation};

/// The primary's host is lost: the other zone takes over once the lease has expired, with at most
/// the stated data loss, and the old primary rejoins once it is back.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn zone_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("zone_lost").await?;
    let primary = run.primary().await?;
    let at = run
        .inject(&Fault::NodeLost(NodeSelector::node(&primary)))
        .await?;
    let rows_lost = run.planned_loss().await?;
    run.wait_for_takeover(&primary, SCENARIO_TIMEOUT).await?;
    run.wait_for_acknowledged_rows(at, SCENARIO_TIMEOUT).await?;
    run.wait_for_steady_writes(SCENARIO_TIMEOUT).await?;
    run.announce(&format!("the host of node {primary} is back"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        rows_lost,
        ..takeover_bound()
    };
    run.finish(&start, expectation).await
}
