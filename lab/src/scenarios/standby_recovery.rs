//! Diverged standbys: rows that mark them, and waits for their recovery.

use std::path::Path;
use std::time::Duration;

use causeway_core::NodeId;

use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::superuser::psql;
use crate::cluster::node::Node;
use crate::fault::{Fault, NodeSelector};
use crate::wait;
use crate::workload::checker::Expectation;

/// Timeout after healing until every standby streams.
pub(super) const RECOVERY_TIMEOUT: Duration = Duration::from_mins(2);

/// Timeout until a reason is reported.
pub(super) const REASON_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum downtime: a lease duration (10 s) and a takeover, on a busy machine.
pub(super) const STANDBY_DOWNTIME: Duration = Duration::from_secs(45);

/// Row that only the old primary acknowledges.
pub(super) const MARKER: &str = "acknowledged-and-diverged";

/// Cuts every node but one off from the others.
pub(super) async fn isolate_others(run: &ScenarioRun<'_>, but: &NodeId) -> anyhow::Result<()> {
    for node in run.lab.nodes() {
        if node.spec.node != *but {
            run.inject(&Fault::NodeIsolated(NodeSelector::node(&node.spec.node)))
                .await?;
        }
    }
    Ok(())
}

/// Ends the primary's host, and returns the data loss stated for it alone, in rows.
pub(super) async fn lose_node_and_state_loss(
    run: &ScenarioRun<'_>,
    node: &NodeId,
) -> anyhow::Result<u64> {
    run.inject(&Fault::NodeLost(NodeSelector::node(node)))
        .await?;
    run.planned_loss().await
}

pub(super) async fn insert_marker(run: &ScenarioRun<'_>, node: &Node) -> anyhow::Result<()> {
    // A WAL page header may split one of the rows.
    let insert = format!("insert into marker values ('{MARKER}'), ('{MARKER}'), ('{MARKER}')");
    psql(run, node, &["create table marker (t text)", &insert]).await?;
    Ok(())
}

/// Waits until every node streams.
pub(super) async fn wait_for_all_standbys(run: &ScenarioRun<'_>) -> anyhow::Result<()> {
    run.announce_wait("every node to follow", RECOVERY_TIMEOUT);
    let primary = run.lab.wait_for_primary(SCENARIO_TIMEOUT).await?;
    let standbys = run
        .lab
        .nodes()
        .iter()
        .filter(|node| node.spec.node != primary);
    for node in standbys {
        let what = format!("`{}` to stream", node.spec.node);
        wait::until(&what, RECOVERY_TIMEOUT, || node.streams()).await?;
    }
    Ok(())
}

/// Tests whether a file below `directory` contains `text`.
pub(super) fn contains_text(directory: &Path, text: &str) -> anyhow::Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            contains_text(&path, text)?
        } else {
            let bytes = std::fs::read(&path)?;
            bytes
                .windows(text.len())
                .any(|value| value == text.as_bytes())
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) const fn standby_expectation(rows_lost: u64) -> Expectation {
    Expectation {
        downtime: STANDBY_DOWNTIME,
        rows_lost,
    }
}
