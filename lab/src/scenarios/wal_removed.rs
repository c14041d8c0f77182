//! A standby returns after the primary has removed WAL that it needs.

use anyhow::{Context as _, ensure};

use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::standby_recovery::{standby_expectation, wait_for_all_standbys};
use super::superuser::psql;
use crate::fault::{Fault, NodeSelector};
use crate::wait;
use crate::workload::checker::CheckResult;

/// A standby is down until the primary has removed WAL that it needs: the standby reports it, and
/// is copied automatically.
///
/// # Errors
///
/// When the scenario cannot be completed.
pub async fn wal_removed(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("wal_removed").await?;
    let here = run.primary().await?;
    let away = run
        .lab
        .nodes()
        .iter()
        .find(|node| node.spec.node != here && node.spec.region == run.lab.topology().primary);
    let away = away.context("the primary region has no standby")?;
    let name = away.spec.node.clone();
    run.inject(&Fault::NodeLost(NodeSelector::node(&name)))
        .await?;
    let node = run.lab.node(&here)?;
    // A smaller `wal_keep_size` keeps fewer segments.
    let keep = "alter system set wal_keep_size = 0; select pg_reload_conf()";
    psql(run, node, &keep.split("; ").collect::<Vec<_>>()).await?;
    let needed = psql(run, node, &["select pg_walfile_name(pg_current_wal_lsn())"]);
    let needed = node.spec.data().join("pg_wal").join(needed.await?.trim());
    // PostgreSQL removes a segment at the first checkpoint after its archiving.
    wait::until("the primary to remove WAL", SCENARIO_TIMEOUT, || async {
        let switch = psql(run, node, &["select pg_switch_wal()", "checkpoint"]);
        switch.await.map_err(|error| format!("{error:#}"))?;
        if needed.exists() {
            return Err(format!("`{}` still exists", needed.display()));
        }
        Ok(())
    })
    .await?;
    run.announce("the primary has removed WAL that the standby needs");
    run.lab.heal().await?;
    wait_for_all_standbys(run).await?;
    let said = std::fs::read_to_string(away.agent.log())?;
    ensure!(
        said.contains("wal-removed"),
        "the reason is missing in the log of `{name}`: {said}"
    );

    // A rejoin of a streaming standby reports that there is nothing to do.
    let rejoin = ["rejoin", "--node", name.as_str()];
    let rejoin = run.lab.programs().failover_ctl(&rejoin);
    rejoin.run(None, SCENARIO_TIMEOUT).await?;
    // A rejoin with `--rebuild` returns once the copy streams.
    let rebuild = ["rejoin", "--node", name.as_str(), "--rebuild"];
    let rebuild = run.lab.programs().failover_ctl(&rebuild);
    rebuild.run(None, SCENARIO_TIMEOUT).await?;
    away.streams().await.map_err(anyhow::Error::msg)?;
    run.finish(&start, standby_expectation(0)).await
}
