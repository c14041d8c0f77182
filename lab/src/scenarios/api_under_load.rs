//! Faults under API load: no client gets a wrong response.

use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::shutdown::Tasks;

use super::region_lost::region_lost;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::zone_lost::zone_lost;
use crate::workload::api_checker::{ApiCheckResult, ApiExpectation, StoredRows, check_api};
use crate::workload::api_load::ApiLoad;
use crate::workload::checker::CheckResult;

/// Number of expected responses after recovery: ten seconds of them.
const MIN_RESPONSES_AFTER_RECOVERY: usize = 2_000;

/// The primary's host is lost while the API serves 200 requests a second.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn primary_lost_under_load(
    run: &mut ScenarioRun<'_>,
) -> anyhow::Result<(CheckResult, ApiCheckResult)> {
    under_load(run, Instances::AllStay, zone_lost).await
}

/// The primary's region is lost with its API instance, while the API serves 200 requests a second.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn region_lost_under_load(
    run: &mut ScenarioRun<'_>,
) -> anyhow::Result<(CheckResult, ApiCheckResult)> {
    under_load(run, Instances::OneIsLost, region_lost).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instances {
    AllStay,
    OneIsLost,
}

/// Runs a scenario that ends with another primary, under load.
async fn under_load(
    run: &mut ScenarioRun<'_>,
    instances: Instances,
    scenario: impl AsyncFnOnce(&mut ScenarioRun<'_>) -> anyhow::Result<CheckResult>,
) -> anyhow::Result<(CheckResult, ApiCheckResult)> {
    let old = run.primary().await?;
    let began = run.history().now();
    run.announce("200 requests a second are sent to the API");
    let load = ApiLoad::start(run.lab.topology().dns(), run.history());
    let result = scenario(run).await?;
    load.answered(
        MIN_RESPONSES_AFTER_RECOVERY,
        run.history().now(),
        SCENARIO_TIMEOUT,
    )
    .await?;
    let outcomes = load.end().await;
    let new = run.primary().await?;
    anyhow::ensure!(new != old, "node {old} is primary as before");

    let accepted = run.history().snapshot().accepted;
    let mut accepted = accepted.get(&new).into_iter().flatten().copied();
    let writable = accepted
        .find(|times| *times > began)
        .with_context(|| format!("node {new} never accepted a write"))?;
    let tasks = Tasks::new();
    let (_, client) = run.connect_to_primary(&tasks).await?;
    let stored = StoredRows::read(&client).await?;
    tasks.stop(Duration::from_secs(1)).await;
    let expectation = ApiExpectation {
        an_instance_is_lost: instances == Instances::OneIsLost,
        writable_again: Some(writable),
    };
    let mut judgement = check_api(&outcomes, &stored, expectation);
    let lost = u64::try_from(judgement.lost + result.rows_lost)?;
    if lost > result.rows_lost_stated_at_most {
        judgement.failures.push(format!(
            "{lost} acknowledged rows are lost, and at most {} were stated",
            result.rows_lost_stated_at_most
        ));
    }
    Ok((result, judgement))
}
