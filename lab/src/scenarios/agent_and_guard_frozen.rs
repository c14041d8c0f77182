//! SIGSTOP of the primary's agent and guard: the supervisor ends PostgreSQL.

use std::time::Duration;

use super::bounds::takeover_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::{CheckResult, Expectation};

/// Agent and guard of the primary are frozen, and PostgreSQL is not: the guard's supervisor kills
/// it before the lease expires, and the other zone takes over without a lost row.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn agent_and_guard_frozen(
    run: &mut ScenarioRun<'_>,
    frozen_for: Duration,
) -> anyhow::Result<CheckResult> {
    let start = run.begin("agent_and_guard_frozen").await?;
    let old = run.primary().await?;
    let fault = Fault::AgentAndGuardFrozen(NodeSelector::node(&old));
    let at = run.inject(&fault).await?;
    let rows_lost = run.forecast_loss().await?;
    run.wait_for_takeover(&old, SCENARIO_TIMEOUT).await?;
    run.announce_wait("the end of the freeze", frozen_for);
    run.run_until(at + frozen_for).await;
    run.announce(&format!("agent and guard of node {old} are resumed"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        rows_lost,
        ..takeover_bound()
    };
    run.finish(&start, expectation).await
}
