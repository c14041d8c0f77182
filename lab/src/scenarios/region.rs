//! A region is lost, the other is promoted by a person's command, and the lost one comes back.

use anyhow::Context as _;
use serde_json::Value;

use super::LONG;
use super::bounds::{commanded, uninterrupted};
use crate::fault::{Fault, In};
use crate::scenarios::scenario_run::{Stage, Stated};
use crate::wait;
use crate::workload::checker::{Promise, Verdict};

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

    // What the operator sees, and decides upon, before anything is done.
    let plan = ["plan", "promote", "--to", &dr, "--json"];
    let plan = stage.lab.programs().failover_ctl(&plan);
    let stated = Stated::of(&plan.run(None, LONG).await?)?;
    stage.say(&format!(
        "the plan for {dr} states: at most {} rows lost",
        stated.rows_at_most
    ));
    // Whoever goes on accepts what was stated, by name, and not a byte more.
    let accepted = stated.bytes_at_most.to_string();
    lease_over(stage).await?;
    stage.say(&format!(
        "the operator runs `failover-ctl promote --to {dr}`"
    ));
    let arguments = [
        "promote",
        "--to",
        &dr,
        "--yes",
        "--accept-loss",
        &accepted,
        "--json",
    ];
    let promote = stage.lab.programs().failover_ctl(&arguments);
    stage.waiting("the promotion, step by step", LONG);
    let begun_at = stage.memory().now();
    let journal = promote.run(None, LONG).await?;
    let journal: Value = serde_json::from_str(&journal).context("the journal is not JSON")?;
    let carried_out = journal
        .pointer("/plan")
        .context("the journal has no plan")?;
    let carried_out = Stated::of(&carried_out.to_string())?;
    let rows_lost = stated.rows_at_most.min(carried_out.rows_at_most);
    for step in steps(&journal) {
        stage.voice.say(format!("    {step}"));
    }
    let done_at = stage.memory().now();
    stage.acknowledged_since(done_at, LONG).await?;
    let first = stage.memory().first_since(begun_at).unwrap_or(done_at);
    let after_command = first.saturating_sub(begun_at);
    stage.say(&format!(
        "the first row was acknowledged {:.1} s after the command",
        after_command.as_secs_f64()
    ));
    stage.tell_primary().await?;
    let promise = Promise {
        rows_lost,
        ..commanded()
    };
    stage.end(&begun, promise).await
}

/// Waits until the nodes of the other region have seen the lease stand for its whole term: until
/// then the lost region may be writing for all that anybody knows. A person takes longer than that
/// to read the plan.
async fn lease_over(stage: &Stage<'_>) -> anyhow::Result<()> {
    let dr = &stage.lab.topology().dr;
    let here = stage.lab.nodes().iter().find(|it| it.place.region == *dr);
    let node = here.context("there is no node in the other region")?;
    stage.waiting("the lost primary's lease to be over", LONG);
    wait::until("the lease to be over", LONG, || async {
        let status = node.status().await.map_err(|it| format!("{it:#}"))?;
        match status.pointer("/lease/over").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            other => Err(format!("`{}` says over: {other:?}", node.place.node)),
        }
    })
    .await?;
    Ok(())
}

/// Returns what the journal says of each step: the evidence that it is done.
fn steps(journal: &Value) -> Vec<String> {
    let entries = journal.pointer("/entries").and_then(Value::as_array);
    let evidence = |it: &Value| {
        let evidence = it.get("evidence").and_then(Value::as_str)?;
        let number = it.get("step").and_then(Value::as_u64)? + 1;
        Some(format!("step {number}: {evidence}"))
    };
    entries.into_iter().flatten().filter_map(evidence).collect()
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
    let before = stage.serving().await?;
    stage.say(&format!("{region} is back"));
    stage.lab.heal().await?;
    stage.everybody_follows().await?;
    let after = stage.serving().await?;
    let mut verdict = stage.end(&begun, uninterrupted()).await?;
    verdict.require_same_server(&before, &after);

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
