//! The primary has moved to the other region by command, and is lost there: the region that was left does
//! not take it back automatically.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::LONG;
use super::lifecycle::{field, problem};
use crate::fault::{Fault, In, On};
use crate::scenarios::scenario_run::Stage;
use crate::workload::checker::{Promise, Verdict};

/// Plays that, and has the command take it back.
///
/// # Errors
///
/// When the story does not come to an end, or the status does not say what happens.
pub async fn left_region_by_command_only(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("left_region_by_command_only").await?;
    let topology = stage.lab.topology();
    let (primary, dr) = (topology.primary.clone(), topology.dr.clone());
    let region = Some(primary.clone());
    stage.break_with(&Fault::RegionLost(In { region })).await?;
    let first = stage.stated_loss().await?;
    promote(stage, dr.as_str()).await?;
    stage.lab.heal().await?;
    stage.everybody_follows().await?;

    // Both standbys of the old region have everything, and stand in the region of the settings.
    let status = status(stage).await?;
    let forecast = |it: &str| {
        status
            .pointer(it)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    ensure!(
        forecast("/verdict/verdict").as_deref() == Some("by-command"),
        "the verdict promises another thing: {status}"
    );
    let why = forecast("/verdict/why").context("the verdict gives no reason")?;
    ensure!(
        why.contains("is in another region"),
        "the reason is another: {why}"
    );
    let second = stage.loss_at_risk().await?;

    let lost = stage.tell_primary().await?;
    stage.break_with(&Fault::NodeLost(On::node(&lost))).await?;
    let at = stage.memory().now() + Duration::from_secs(1);
    for node in stage.lab.nodes() {
        if node.place.region == primary {
            problem(node, "operator-needed").await?;
            let decision = field(node, "/decision").await?;
            ensure!(decision.contains("is in another region"), "{decision}");
        }
    }
    let writers = stage.memory().writers_since(at);
    ensure!(
        writers.is_empty(),
        "{writers:?} took over, and nobody asked"
    );
    promote(stage, primary.as_str()).await?;
    stage.lab.heal().await?;
    stage.everybody_follows().await?;
    let promise = Promise {
        without_writes: LONG,
        rows_lost: first + second,
    };
    stage.end(&begun, promise).await
}

async fn status(stage: &Stage<'_>) -> anyhow::Result<Value> {
    let status = stage.lab.programs().failover_ctl(&["status", "--json"]);
    Ok(serde_json::from_str(&status.run(None, LONG).await?)?)
}

async fn promote(stage: &Stage<'_>, to: &str) -> anyhow::Result<()> {
    stage.say(&format!(
        "the operator runs `failover-ctl promote --to {to}`"
    ));
    let promote = ["promote", "--to", to, "--yes", "--accept-loss", "1GiB"];
    let promote = stage.lab.programs().failover_ctl(&promote);
    promote.run(None, LONG).await?;
    let done_at = stage.memory().now();
    stage.acknowledged_since(done_at, LONG).await
}
