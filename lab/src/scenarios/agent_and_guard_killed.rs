//! SIGKILL of the primary's agent and guard at once: PostgreSQL ends with them.

use std::time::Duration;

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// The primary's agent and guard are killed at once: the kernel ends PostgreSQL with the guard, and
/// all three come back.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn agent_and_guard_killed(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("agent_and_guard_killed").await?;
    let primary = run.announce_primary().await?;
    let at = run
        .inject(&Fault::AgentAndGuardKilled(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_acknowledged_rows(at + Duration::from_secs(2), SCENARIO_TIMEOUT)
        .await?;
    run.wait_for_standbys().await?;
    run.finish(&start, takeover_bound()).await
}
