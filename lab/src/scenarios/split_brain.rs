//! Split-brain that only a watchdog device prevents: the checker must detect it.

use std::time::Duration;

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// Duration of the split-brain, in which each primary writes between two writes of the other.
const SPLIT_BRAIN_DURATION: Duration = Duration::from_secs(2);

/// Agent, guard and supervisor of the primary are frozen together, which only a watchdog device can
/// fence: two nodes accept writes. The result does not pass; a checker that passes it is broken.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn split_brain(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("split_brain").await?;
    let primary = run.announce_primary().await?;
    let on_primary = || NodeSelector::node(&primary);
    run.inject(&Fault::SupervisorAsleep(on_primary())).await?;
    let at = run
        .inject(&Fault::AgentAndGuardFrozen(on_primary()))
        .await?;
    run.wait_for_split_brain(&primary, SCENARIO_TIMEOUT).await?;
    run.run_until(run.history().now() + SPLIT_BRAIN_DURATION)
        .await;
    run.lab.heal().await?;
    run.wait_for_takeover(&primary, SCENARIO_TIMEOUT).await?;
    run.wait_for_acknowledged_rows(at, SCENARIO_TIMEOUT).await?;
    run.wait_for_standbys().await?;
    run.finish(&start, takeover_bound()).await
}
