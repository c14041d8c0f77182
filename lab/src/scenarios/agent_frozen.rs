//! SIGSTOP of the primary's agent: the guard stops PostgreSQL in time.

use std::time::Duration;

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// Duration of the freeze in the demo: twice the lease duration.
pub(crate) const FREEZE_DURATION: Duration = Duration::from_secs(20);

/// The primary's agent is frozen: the guard stops PostgreSQL before the lease expires, the other
/// zone takes over, and the resumed agent finds another holder.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn agent_frozen(
    run: &mut ScenarioRun<'_>,
    frozen_for: Duration,
) -> anyhow::Result<CheckResult> {
    let start = run.begin("agent_frozen").await?;
    let primary = run.primary().await?;
    let at = run
        .inject(&Fault::AgentFrozen(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_takeover(&primary, SCENARIO_TIMEOUT).await?;
    run.announce_wait("the end of the freeze", frozen_for);
    run.run_until(at + frozen_for).await;
    run.announce(&format!("the agent of node {primary} is resumed"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    run.finish(&start, takeover_bound()).await
}
