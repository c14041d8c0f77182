//! Processes of the primary's host stand still, and its supervisor does what systemd would.

use std::time::Duration;

use super::{LONG, primary};
use crate::fault::{Fault, On};
use crate::scenarios::scenario_run::Stage;
use crate::workload::checker::{Promise, Verdict};

/// Agent and guard of the primary are frozen, and PostgreSQL is not: guard's supervisor ends it before the
/// lease expires, and the other zone takes over without a row lost.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn agent_and_guard_frozen(
    stage: &mut Stage<'_>,
    frozen_for: Duration,
) -> anyhow::Result<Verdict> {
    let begun = stage.begin("agent_and_guard_frozen").await?;
    let old = primary(stage).await?;
    let fault = Fault::AgentAndGuardFrozen(On::node(&old));
    let at = stage.break_with(&fault).await?;
    stage.taken_over_from(&old, LONG).await?;
    stage.waiting("the end of the freeze", frozen_for);
    stage.reach(at + frozen_for).await;
    stage.say(&format!("the agent of node {old} goes on"));
    stage.lab.heal().await?;
    stage.everybody_follows().await?;
    stage.end(&begun, super::bounds::taken_over()).await
}

/// PostgreSQL of the primary is frozen together with what watches it: it is not left to go on later.
/// Its walsenders are frozen with it, so a row may be on its disk alone: the loss is what was stated.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn frozen_with_postgres(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("frozen_with_postgres").await?;
    let mut rows_lost = 0;
    for fault in [Fault::GuardAndPostgresFrozen, Fault::EverythingFrozen] {
        let old = primary(stage).await?;
        let at = stage.break_with(&fault(On::node(&old))).await?;
        rows_lost += stage.loss_at_risk().await?;
        stage
            .acknowledged_since(at + CERTAINLY_FROZEN, LONG)
            .await?;
        stage.lab.heal().await?;
        stage.everybody_follows().await?;
        stage.undisturbed(LONG).await?;
    }
    let promise = Promise {
        rows_lost,
        ..super::bounds::released()
    };
    stage.end(&begun, promise).await
}

/// How long an answer that was on its way may arrive after PostgreSQL was frozen.
const CERTAINLY_FROZEN: Duration = Duration::from_secs(1);
