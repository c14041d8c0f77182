//! The primary loses its path to the lease store: it stops before another node takes over.

use std::time::Duration;

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// Minimum time from the fault to the next acknowledged row: the stop deadline comes first.
const OUTAGE_BEGINS_AFTER: Duration = Duration::from_secs(9);

/// The primary cannot reach the lease store, and the other nodes can: it stops before the lease
/// expires, and another node takes over.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn lease_store_unreachable(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("lease_store_unreachable").await?;
    let primary = run.announce_primary().await?;
    let at = run
        .inject(&Fault::LeaseCut(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_takeover(&primary, SCENARIO_TIMEOUT).await?;
    run.wait_for_acknowledged_rows(at + OUTAGE_BEGINS_AFTER, SCENARIO_TIMEOUT)
        .await?;
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    run.finish(&start, takeover_bound()).await
}
