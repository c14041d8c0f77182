//! A region is lost, the other is promoted by a person's command, and the lost one comes back.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{LONG, within};
use crate::fault::{Fault, In};
use crate::stage::Stage;
use crate::verdict::{Promise, Verdict};

/// How many bytes of log the operator of the story is ready to lose: four segments, so that the
/// command goes on without asking and the loss that it states is the measure.
const ACCEPTED: &str = "64MiB";

/// How long a region may be without writes when a person must act: a lease (10 s), the command, and
/// in this story nobody who is asleep.
const PROMISED: Duration = Duration::from_secs(30);

/// Everything in the primary region is gone, and the other region is promoted: rows lost are no more
/// than what the command stated before it began.
///
/// # Errors
///
/// When the command fails or the story does not come to an end.
pub async fn region_lost(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("region_lost").await?;
    let topology = stage.lab.topology();
    let dr = topology.dr.to_string();
    stage
        .break_with(&Fault::RegionLost(In {
            region: Some(topology.primary.clone()),
        }))
        .await?;

    stage.say(&format!(
        "the operator runs `failover-ctl promote --to {dr}`"
    ));
    let arguments = [
        "promote",
        "--to",
        &dr,
        "--yes",
        "--accept-loss",
        ACCEPTED,
        "--json",
    ];
    let promote = stage.lab.programs().failover_ctl(&arguments);
    stage.waiting("the promotion and its report", LONG);
    let report = promote.run(None, LONG).await?;
    let at = stage.memory().mark("the promotion is done");
    let report: Value = serde_json::from_str(&report).context("the report is not JSON")?;
    let stated = stated_loss(&report)?;
    stage.say(&format!(
        "stated before it began: at most {stated} rows lost"
    ));

    stage.acknowledged_since(at, LONG).await?;
    stage.tell_primary().await?;
    let promise = Promise {
        without_writes: PROMISED,
        rows_lost: stated,
    };
    stage.end(&begun, promise).await
}

/// Returns the most rows that the report says may have been lost, as it was stated beforehand.
fn stated_loss(report: &Value) -> anyhow::Result<u64> {
    let rows = report.pointer("/loss/rows_at_most");
    let rows = rows.and_then(Value::as_u64);
    rows.with_context(|| format!("the report states no loss: {report}"))
}

/// The lost region comes back: its nodes follow the new primary, and never accept a write meanwhile.
///
/// # Errors
///
/// When they do not come back, or the story does not come to an end.
pub async fn old_region_rejoined(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("old_region_rejoined").await?;
    let region = stage.lab.topology().primary.clone();
    let at = stage.memory().now();
    stage.say(&format!("{region} is back"));
    stage.lab.heal().await?;
    stage.everybody_follows().await?;
    let mut verdict = stage.end(&begun, within(2)).await?;

    let writers = stage.memory().writers_since(at);
    for node in stage.lab.nodes() {
        let place = &node.place;
        if place.region == region && writers.contains(&place.node) {
            let broken = format!("node {} accepted a write while it came back", place.node);
            verdict.broken.push(broken);
            verdict.passed = false;
        }
    }
    Ok(verdict)
}
