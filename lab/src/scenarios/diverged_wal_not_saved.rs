//! The old primary has diverged and cannot save its WAL.

use anyhow::ensure;

use super::node_status::wait_for_problem;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::standby_recovery::{
    MARKER, contains_text, insert_marker, isolate_others, lose_node_and_state_loss,
    standby_expectation, wait_for_all_standbys,
};
use crate::workload::checker::CheckResult;

/// The old primary has diverged rows, and cannot save them when it returns: it waits, reports the
/// problem, and keeps its data directory. Once it can, it saves them and rejoins.
///
/// # Errors
///
/// When the scenario cannot be completed, or the rows are lost.
pub async fn diverged_wal_not_saved(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("diverged_wal_not_saved").await?;
    let old = run.primary().await?;
    isolate_others(run, &old).await?;
    let node = run.lab.node(&old)?;
    insert_marker(run, node).await?;
    let rows_lost = lose_node_and_state_loss(run, &old).await?;
    run.wait_for_takeover(&old, SCENARIO_TIMEOUT).await?;

    let in_the_way = node.spec.state().join("diverged");
    std::fs::write(&in_the_way, "a file where a directory should be")?;
    run.announce("the state directory cannot take a copy");
    run.lab.heal().await?;
    wait_for_problem(node, "diverged-wal-not-saved").await?;
    ensure!(
        contains_text(&node.spec.data().join("pg_wal"), MARKER)?,
        "the row is gone from the directory although it was not saved"
    );
    std::fs::remove_file(&in_the_way)?;
    run.announce("the state directory can take a copy");
    wait_for_all_standbys(run).await?;
    ensure!(
        contains_text(&in_the_way, MARKER)?,
        "the row is not in what was saved"
    );
    run.finish(&start, standby_expectation(rows_lost)).await
}
