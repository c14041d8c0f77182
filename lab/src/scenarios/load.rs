//! What is lost while the API is under load: its clients hear nothing wrong.

use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::shutdown::Tasks;

use super::{LONG, primary, region_lost, zone_lost};
use crate::scenarios::scenario_run::Stage;
use crate::workload::api_checker::{Judgement, Promise, Stored, judge};
use crate::workload::api_load::Load;
use crate::workload::checker::Verdict;

/// How many right answers there have to be once all is well again: ten seconds of them.
const AFTERWARDS: usize = 2_000;

/// The primary's host is gone while the API serves 200 requests a second.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn primary_lost_under_load(
    stage: &mut Stage<'_>,
) -> anyhow::Result<(Verdict, Judgement)> {
    under_load(stage, Instances::AllStay, zone_lost).await
}

/// The primary's region is gone, and with it the instance of the API there, while the API serves 200
/// requests a second.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn region_lost_under_load(stage: &mut Stage<'_>) -> anyhow::Result<(Verdict, Judgement)> {
    under_load(stage, Instances::OneIsLost, region_lost).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instances {
    AllStay,
    OneIsLost,
}

/// Plays a story that ends with another primary, under load.
async fn under_load(
    stage: &mut Stage<'_>,
    instances: Instances,
    story: impl AsyncFnOnce(&mut Stage<'_>) -> anyhow::Result<Verdict>,
) -> anyhow::Result<(Verdict, Judgement)> {
    let old = primary(stage).await?;
    let began = stage.memory().now();
    stage.say("200 requests a second are sent to the API");
    let load = Load::start(stage.lab.topology().dns(), stage.memory());
    let verdict = story(stage).await?;
    load.answered(AFTERWARDS, stage.memory().now(), LONG)
        .await?;
    let outcomes = load.end().await;
    let new = primary(stage).await?;
    anyhow::ensure!(new != old, "node {old} is primary as before");

    let accepted = stage.memory().recall().accepted;
    let mut accepted = accepted.get(&new).into_iter().flatten().copied();
    let writable = accepted
        .find(|it| *it > began)
        .with_context(|| format!("node {new} never accepted a write"))?;
    let tasks = Tasks::new();
    let (_, client) = stage.primary(&tasks).await?;
    let stored = Stored::read(&client).await?;
    tasks.stop(Duration::from_secs(1)).await;
    let promise = Promise {
        an_instance_is_lost: instances == Instances::OneIsLost,
        writable_again: Some(writable),
    };
    let mut judgement = judge(&outcomes, &stored, promise);
    let lost = u64::try_from(judgement.lost + verdict.rows_lost)?;
    if lost > verdict.rows_lost_stated_at_most {
        judgement.broken.push(format!(
            "{lost} acknowledged rows are lost, and at most {} were stated",
            verdict.rows_lost_stated_at_most
        ));
    }
    Ok((verdict, judgement))
}
