//! The lease is moved to another bucket while one node is stopped.

use anyhow::{Context as _, ensure};

use super::node_commands::{
    NEW_BUCKET, downtime_of_two_timeouts, expect_refusal, replace_setting, restart_agents,
    run_on_node,
};
use super::node_status::{wait_for_no_problem, wait_for_problem};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::cluster::topology::{LEASE_BUCKET, Topology};
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::CheckResult;

/// The lease is moved to another bucket while a node is stopped whose settings name the old one.
/// The node returns, and does nothing under the old lease.
///
/// # Errors
///
/// When the scenario cannot be completed, or a command did what it must not.
pub async fn lease_moved(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("lease_moved").await?;
    let holder = run.primary().await?;
    let topology = run.lab.topology();
    let left = run.lab.nodes().iter().find(|node| node.spec.node != holder);
    let left = left.context("no standby")?;
    let name = left.spec.node.clone();
    run.inject(&Fault::NodeLost(NodeSelector::node(&name)))
        .await?;
    make_bucket(topology)?;
    for node in run.lab.nodes().iter().filter(|node| node.spec.node != name) {
        replace_setting(&node.spec, LEASE_BUCKET, NEW_BUCKET)?;
    }
    run.announce("every running node is configured with another lease bucket");
    restart_agents(run, &[&name]).await?;

    let spec = topology.node_spec(&holder)?;
    expect_refusal(
        run,
        spec,
        &["init", "--holder", holder.as_str()],
        "or had one",
    )
    .await?;
    let replace = ["replace-lease", "--holder", holder.as_str(), "--yes"];
    let silent = format!("`{name}` does not answer");
    expect_refusal(run, spec, &replace, &silent).await?;
    let without = [&replace[..], &["--without", name.as_str()]].concat();
    run_on_node(run, spec, &without).await?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    let serving = run.serving_primary().await?;
    ensure!(
        serving.node == holder,
        "`{}` took the new lease",
        serving.node
    );

    run.announce(&format!("node {name} starts with the old bucket"));
    run.lab.heal().await?;
    wait_for_problem(left, "lease-retired").await?;
    run.announce("it reports the retired lease, and waits");
    replace_setting(&left.spec, LEASE_BUCKET, NEW_BUCKET)?;
    run.inject(&Fault::AgentRestarted(NodeSelector::node(&name)))
        .await?;
    wait_for_no_problem(left, "lease-retired").await?;
    run.wait_for_standbys().await?;
    run.finish(&start, downtime_of_two_timeouts(0)).await
}

fn make_bucket(topology: &Topology) -> anyhow::Result<()> {
    let third = topology
        .directory()
        .join("s3")
        .join(topology.third.as_str());
    Ok(std::fs::create_dir_all(third.join(NEW_BUCKET))?)
}
