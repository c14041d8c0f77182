//! A diverged standby cannot start, and is rewound.

use anyhow::Context as _;

use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::standby_recovery::{
    MARKER, REASON_TIMEOUT, contains_text, insert_marker, lose_node_and_state_loss,
    standby_expectation, wait_for_all_standbys,
};
use super::superuser::psql;
use crate::fault::{Fault, NodeSelector};
use crate::wait;
use crate::workload::checker::CheckResult;

/// A standby has more WAL than the new primary, and its server ends before the two are compared and
/// cannot start: it is rewound automatically, and its WAL is saved.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn diverged_standby_cannot_start(
    run: &mut ScenarioRun<'_>,
) -> anyhow::Result<CheckResult> {
    let start = run.begin("diverged_standby_cannot_start").await?;
    let old = run.primary().await?;
    let topology = run.lab.topology();
    let others = || run.lab.nodes().iter().filter(|node| node.spec.node != old);
    let behind = others().find(|other| other.spec.region == topology.primary);
    let ahead = others().find(|other| other.spec.region == topology.dr);
    let behind = behind.context("the primary region has no standby")?;
    let ahead = ahead.context("the other region has no standby")?;
    let name = behind.spec.node.clone();
    run.inject(&Fault::NodeIsolated(NodeSelector::node(&name)))
        .await?;
    let node = run.lab.node(&old)?;
    insert_marker(run, node).await?;
    wait::until(
        "the row to arrive at the other standby",
        SCENARIO_TIMEOUT,
        || async {
            let rows = psql(run, ahead, &["select count(*) from marker"]).await;
            match rows.as_deref().map(str::trim) {
                Ok("3") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    )
    .await?;
    let rows_lost = lose_node_and_state_loss(run, &old).await?;
    ahead.guard.signal(nix::sys::signal::Signal::SIGTERM)?;
    run.announce("the guard of the standby that has more is restarted");
    run.wait_for_takeover(&old, SCENARIO_TIMEOUT).await?;
    run.lab.heal().await?;
    wait_for_all_standbys(run).await?;
    // A standby that finds the new timeline in the archive before the comparison streams at once,
    // and its diverged WAL is saved shortly after.
    let saves = ahead.spec.state().join("diverged");
    wait::until(
        "what only the standby had to be saved",
        REASON_TIMEOUT,
        || async {
            match contains_text(&saves, MARKER) {
                Ok(true) => Ok(()),
                found => Err(format!("{found:?}")),
            }
        },
    )
    .await?;
    let rejoin = ["rejoin", "--node", ahead.spec.node.as_str()];
    let rejoin = run.lab.programs().failover_ctl(&rejoin);
    rejoin.run(None, SCENARIO_TIMEOUT).await?;
    run.finish(&start, standby_expectation(rows_lost)).await
}
