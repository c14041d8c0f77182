//! SIGSTOP of PostgreSQL together with the processes that supervise it.

use std::time::Duration;

use super::bounds::release_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::{CheckResult, Expectation};

/// Maximum delay of a response in flight after PostgreSQL was frozen.
const MAX_RESPONSE_DELAY: Duration = Duration::from_secs(1);

/// PostgreSQL of the primary is frozen together with its supervising processes: it never resumes as
/// a second primary. Its walsenders are frozen too, so a row may be on its disk alone: the data
/// loss is the stated one.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn guard_and_postgres_frozen(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("guard_and_postgres_frozen").await?;
    let mut rows_lost = 0;
    for fault in [Fault::GuardAndPostgresFrozen, Fault::EverythingFrozen] {
        let old = run.primary().await?;
        let at = run.inject(&fault(NodeSelector::node(&old))).await?;
        rows_lost += run.forecast_loss().await?;
        run.wait_for_acknowledged_rows(at + MAX_RESPONSE_DELAY, SCENARIO_TIMEOUT)
            .await?;
        run.lab.heal().await?;
        run.wait_for_standbys().await?;
        run.wait_for_steady_writes(SCENARIO_TIMEOUT).await?;
    }
    let expectation = Expectation {
        rows_lost,
        ..release_bound()
    };
    run.finish(&start, expectation).await
}
