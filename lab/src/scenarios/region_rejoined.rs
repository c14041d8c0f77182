//! The lost region comes back, and its nodes rejoin as standbys.

use super::bounds::no_downtime_bound;
use super::scenario_run::ScenarioRun;
use crate::workload::checker::CheckResult;

/// The lost region returns: its nodes rejoin the new primary, and never accept a write meanwhile.
///
/// # Errors
///
/// When the nodes do not rejoin, or the scenario cannot be completed.
pub async fn region_rejoined(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("region_rejoined").await?;
    let region = run.lab.topology().primary.clone();
    let at = run.history().now();
    let before = run.serving_primary().await?;
    run.announce(&format!("{region} is back"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let after = run.serving_primary().await?;
    let mut result = run.finish(&start, no_downtime_bound()).await?;
    result.require_same_server(&before, &after);

    let writers = run.history().nodes_acknowledging_since(at);
    for node in run.lab.nodes() {
        let spec = &node.spec;
        if spec.region == region && writers.contains(&spec.node) {
            let failures = format!("node {} accepted a write while it came back", spec.node);
            result.failures.push(failures);
            result.passed = false;
        }
    }
    Ok(result)
}
