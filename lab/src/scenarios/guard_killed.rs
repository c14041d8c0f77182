//! kill -9 of the primary's guard: PostgreSQL ends with it.

use std::time::Duration;

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// The primary's guard is killed: PostgreSQL ends with it, and both come back.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn guard_killed(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("guard_killed").await?;
    let primary = run.primary().await?;
    let at = run
        .inject(&Fault::GuardKilled(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_acknowledged_rows(at + Duration::from_secs(2), SCENARIO_TIMEOUT)
        .await?;
    run.wait_for_standbys().await?;
    run.finish(&start, takeover_bound()).await
}
