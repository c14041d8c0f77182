//! The primary's agent is restarted, as by an upgrade.

use std::time::Duration;

use super::bounds::no_downtime_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// The primary's agent is restarted, as by an upgrade: no client notices.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn agent_restarted(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("agent_restarted").await?;
    let before = run.serving_primary().await?;
    let primary = before.node.clone();
    let node = run.lab.node(&primary)?;
    let starts = node.agent.starts();
    let at = run
        .inject(&Fault::AgentRestarted(NodeSelector::node(&primary)))
        .await?;
    node.agent.started(starts + 1, SCENARIO_TIMEOUT).await?;
    // Longer than a lease duration: a lease that was not renewed would have expired.
    run.announce_wait("more than one lease duration", Duration::from_secs(15));
    run.run_until(at + Duration::from_secs(15)).await;
    run.wait_for_acknowledged_rows(at + Duration::from_secs(14), SCENARIO_TIMEOUT)
        .await?;
    let after = run.serving_primary().await?;
    let mut result = run.finish(&start, no_downtime_bound()).await?;
    result.require_same_server(&before, &after);
    Ok(result)
}
