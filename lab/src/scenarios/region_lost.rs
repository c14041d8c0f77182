//! The primary region is lost, and the other one is promoted by command.

use anyhow::Context as _;
use serde_json::Value;

use super::bounds::promotion_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun, StatedLoss};
use crate::fault::{Fault, RegionSelector};
use crate::wait;
use crate::workload::checker::{CheckResult, Expectation};

/// Everything in the primary region is lost, and the other region is promoted: at most the rows
/// stated before the promotion are lost.
///
/// # Errors
///
/// When the command fails, or the scenario cannot be completed.
pub async fn region_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("region_lost").await?;
    let topology = run.lab.topology();
    let dr = topology.dr.to_string();
    run.inject(&Fault::RegionLost(RegionSelector {
        region: Some(topology.primary.clone()),
    }))
    .await?;

    // The plan that the operator decides on.
    let plan = ["plan", "promote", "--to", &dr, "--json"];
    let plan = run.lab.programs().failover_ctl(&plan);
    let stated = StatedLoss::of(&plan.run(None, SCENARIO_TIMEOUT).await?)?;
    run.announce(&format!(
        "the plan for {dr} states a data loss of at most {} rows",
        stated.rows_at_most
    ));
    // The operator accepts exactly the stated loss.
    let accepted = stated.bytes_at_most.to_string();
    lease_over(run).await?;
    run.announce(&format!(
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
    let promote = run.lab.programs().failover_ctl(&arguments);
    run.announce_wait("the promotion, step by step", SCENARIO_TIMEOUT);
    let begun_at = run.history().now();
    let journal = promote.run(None, SCENARIO_TIMEOUT).await?;
    let journal: Value = serde_json::from_str(&journal).context("the journal is not JSON")?;
    let carried_out = journal
        .pointer("/plan")
        .context("the journal has no plan")?;
    let carried_out = StatedLoss::of(&carried_out.to_string())?;
    let rows_lost = stated.rows_at_most.min(carried_out.rows_at_most);
    for step in steps(&journal) {
        run.progress.report(format!("    {step}"));
    }
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    let first = run
        .history()
        .first_acknowledged_after(begun_at)
        .unwrap_or(done_at);
    let after_command = first.saturating_sub(begun_at);
    run.announce(&format!(
        "the first row was acknowledged {:.1} s after the command",
        after_command.as_secs_f64()
    ));
    run.announce_primary().await?;
    let expectation = Expectation {
        rows_lost,
        ..promotion_bound()
    };
    run.finish(&start, expectation).await
}

/// Waits until the nodes of the other region have observed the lease for its whole duration without
/// a renewal: until then the lost region may be accepting writes. An operator takes longer to read
/// the plan.
async fn lease_over(run: &ScenarioRun<'_>) -> anyhow::Result<()> {
    let dr = &run.lab.topology().dr;
    let here = run.lab.nodes().iter().find(|node| node.spec.region == *dr);
    let node = here.context("there is no node in the other region")?;
    run.announce_wait("the lost primary's lease to expire", SCENARIO_TIMEOUT);
    wait::until("the lease to expire", SCENARIO_TIMEOUT, || async {
        let status = node.status().await.map_err(|error| format!("{error:#}"))?;
        match status.pointer("/lease/expired").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            other => Err(format!("`{}` reports expired: {other:?}", node.spec.node)),
        }
    })
    .await?;
    Ok(())
}

/// Returns the evidence of each step in the journal.
fn steps(journal: &Value) -> Vec<String> {
    let entries = journal.pointer("/entries").and_then(Value::as_array);
    let evidence = |value: &Value| {
        let evidence = value.get("evidence").and_then(Value::as_str)?;
        let number = value.get("step").and_then(Value::as_u64)? + 1;
        Some(format!("step {number}: {evidence}"))
    };
    entries.into_iter().flatten().filter_map(evidence).collect()
}
