//! Processes of the primary's host stand still, and its supervisor does what systemd would.

use std::time::Duration;

use super::{SCENARIO_TIMEOUT, primary};
use crate::fault::{Fault, NodeSelector};
use crate::scenarios::scenario_run::ScenarioRun;
use crate::workload::checker::{CheckResult, Expectation};

/// Agent and guard of the primary are frozen, and PostgreSQL is not: guard's supervisor ends it before the
/// lease expires, and the other zone takes over without a row lost.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn agent_and_guard_frozen(
    run: &mut ScenarioRun<'_>,
    frozen_for: Duration,
) -> anyhow::Result<CheckResult> {
    let start = run.begin("agent_and_guard_frozen").await?;
    let old = primary(run).await?;
    let fault = Fault::AgentAndGuardFrozen(NodeSelector::node(&old));
    let at = run.inject(&fault).await?;
    run.wait_for_takeover(&old, SCENARIO_TIMEOUT).await?;
    run.announce_wait("the end of the freeze", frozen_for);
    run.run_until(at + frozen_for).await;
    run.announce(&format!("the agent of node {old} goes on"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    run.finish(&start, super::bounds::taken_over()).await
}

/// PostgreSQL of the primary is frozen together with what watches it: it is not left to go on later.
/// Its walsenders are frozen with it, so a row may be on its disk alone: the loss is what was stated.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn frozen_with_postgres(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("frozen_with_postgres").await?;
    let mut rows_lost = 0;
    for fault in [Fault::GuardAndPostgresFrozen, Fault::EverythingFrozen] {
        let old = primary(run).await?;
        let at = run.inject(&fault(NodeSelector::node(&old))).await?;
        rows_lost += run.forecast_loss().await?;
        run.wait_for_acknowledged_rows(at + CERTAINLY_FROZEN, SCENARIO_TIMEOUT)
            .await?;
        run.lab.heal().await?;
        run.wait_for_standbys().await?;
        run.wait_for_steady_writes(SCENARIO_TIMEOUT).await?;
    }
    let expectation = Expectation {
        rows_lost,
        ..super::bounds::released()
    };
    run.finish(&start, expectation).await
}

/// How long an answer that was on its way may arrive after PostgreSQL was frozen.
const CERTAINLY_FROZEN: Duration = Duration::from_secs(1);
