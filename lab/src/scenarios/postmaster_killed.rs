//! kill -9 of the primary's postmaster, with its agent alive.

use super::bounds::restart_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// The postmaster is killed, and its agent runs: PostgreSQL restarts on the same node, or another
/// node takes over.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn postmaster_killed(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("postmaster_killed").await?;
    let primary = run.primary().await?;
    let at = run
        .inject(&Fault::PostmasterKilled(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_acknowledged_rows(at, SCENARIO_TIMEOUT).await?;
    run.wait_for_standbys().await?;
    run.finish(&start, restart_bound()).await
}
