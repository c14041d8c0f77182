//! SIGSTOP of the primary's agent and guard: the supervisor ends PostgreSQL.

use std::time::Duration;

use super::bounds::taken_over;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::{CheckResult, Expectation};

/// Agent and guard of the primary are frozen, and PostgreSQL is not: guard's supervisor ends it before the
/// lease expires, and the other zone takes over. The supervisor kills the walsenders with it, so a row
/// may be on its disk alone: the loss is what was stated.
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
    run.announce(&format!("the agent of node {old} goes on"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        rows_lost,
        ..taken_over()
    };
    run.finish(&start, expectation).await
}
