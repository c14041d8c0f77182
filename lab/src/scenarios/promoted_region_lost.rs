//! The region that was promoted is lost: failback needs a command.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::node_status::{status_text, wait_for_problem};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::fault::{Fault, NodeSelector, RegionSelector};
use crate::workload::checker::{CheckResult, Expectation};

/// The promoted region is lost, and the first one is promoted by command.
///
/// # Errors
///
/// When the scenario cannot be completed, or the status lacks the reason.
pub async fn promoted_region_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("promoted_region_lost").await?;
    let topology = run.lab.topology();
    let (primary, dr) = (topology.primary.clone(), topology.dr.clone());
    let region = Some(primary.clone());
    run.inject(&Fault::RegionLost(RegionSelector { region }))
        .await?;
    let first = run.planned_loss().await?;
    promote(run, dr.as_str()).await?;
    run.lab.heal().await?;
    run.wait_for_standbys().await?;

    // Both standbys of the old region have all WAL, and are in the settings' primary region.
    let status = status(run).await?;
    let forecast = |text: &str| {
        status
            .pointer(text)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    ensure!(
        forecast("/failover_forecast/outcome").as_deref() == Some("manual"),
        "the forecast is not a manual failover: {status}"
    );
    let why = forecast("/failover_forecast/why").context("the forecast gives no reason")?;
    ensure!(
        why.contains("is in another region"),
        "the reason is another: {why}"
    );
    let second = run.forecast_loss().await?;

    let lost = run.announce_primary().await?;
    run.inject(&Fault::NodeLost(NodeSelector::node(&lost)))
        .await?;
    let at = run.history().now() + Duration::from_secs(1);
    for node in run.lab.nodes() {
        if node.spec.region == primary {
            wait_for_problem(node, "operator-needed").await?;
            let decision = status_text(node, "/decision").await?;
            ensure!(decision.contains("is in another region"), "{decision}");
        }
    }
    let writers = run.history().nodes_acknowledging_since(at);
    ensure!(
        writers.is_empty(),
        "{writers:?} took over without a command"
    );
    promote(run, primary.as_str()).await?;
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        downtime: SCENARIO_TIMEOUT,
        rows_lost: first + second,
    };
    run.finish(&start, expectation).await
}

async fn status(run: &ScenarioRun<'_>) -> anyhow::Result<Value> {
    let status = run.lab.programs().failover_ctl(&["status", "--json"]);
    Ok(serde_json::from_str(
        &status.run(None, SCENARIO_TIMEOUT).await?,
    )?)
}

async fn promote(run: &ScenarioRun<'_>, to: &str) -> anyhow::Result<()> {
    run.announce(&format!(
        "the operator runs `failover-ctl promote --to {to}`"
    ));
    let promote = ["promote", "--to", to, "--yes", "--accept-loss", "1GiB"];
    let promote = run.lab.programs().failover_ctl(&promote);
    promote.run(None, SCENARIO_TIMEOUT).await?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await
}
