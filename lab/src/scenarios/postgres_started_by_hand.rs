//! PostgreSQL is started by hand on a node whose guard runs: the unmanaged server never accepts a write.

use std::time::Duration;

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// A server is started by hand on the data directory of a guarded node, first beside the primary and
/// then after a takeover: it does not start, or the guard kills it, and it never accepts a write.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn postgres_started_by_hand(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("postgres_started_by_hand").await?;
    let primary = run.announce_primary().await?;
    let at = run
        .inject(&Fault::PostgresStartedByHand(NodeSelector::node(&primary)))
        .await?;
    run.run_until(at + Duration::from_secs(2)).await;
    run.lab.heal().await?;

    // After a takeover the old primary would be a second writable server.
    run.inject(&Fault::AgentFrozen(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_takeover(&primary, SCENARIO_TIMEOUT).await?;
    let at = run.history().now();
    run.inject(&Fault::PostgresStartedByHand(NodeSelector::node(&primary)))
        .await?;
    run.run_until(at + Duration::from_secs(3)).await;
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    run.finish(&start, takeover_bound()).await
}
