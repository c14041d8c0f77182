//! SIGSTOP of PostgreSQL on the primary: its agent releases the lease, and another node takes over.

use super::bounds::release_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::{CheckResult, Expectation};

/// The primary's PostgreSQL accepts connections and does not respond: the agent releases the lease.
///
/// The walsenders are frozen too. A row acknowledged at that time may be on the primary's disk alone,
/// so the data loss is the one that `failover-ctl` states beforehand.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn postgres_frozen(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("postgres_frozen").await?;
    let primary = run.announce_primary().await?;
    let at = run
        .inject(&Fault::PostgresFrozen(NodeSelector::node(&primary)))
        .await?;
    let rows_lost = run.forecast_loss().await?;
    run.wait_for_acknowledged_rows(at, SCENARIO_TIMEOUT).await?;
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        rows_lost,
        ..release_bound()
    };
    run.finish(&start, expectation).await
}
