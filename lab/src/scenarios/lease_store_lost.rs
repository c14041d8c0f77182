//! The lease store is lost, and the lease is created in another.

use anyhow::ensure;
use serde_json::Value;

use super::node_commands::{
    NEW_BUCKET, downtime_of_two_timeouts, expect_refusal, replace_lease_setting, replace_setting,
    restart_agents, run_on_node,
};
use super::node_status::{wait_for_no_problem, wait_for_problem};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::cluster::topology::{CLUSTER, LEASE_BUCKET};
use crate::fault::Fault;
use crate::wait;
use crate::workload::checker::CheckResult;

/// The lease store is lost, and the lease is created in another. Once the old store is back, its
/// lease is retired before any node uses it.
///
/// # Errors
///
/// When the scenario cannot be completed, or a command did what it must not.
pub async fn lease_store_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("lease_store_lost").await?;
    let holder = run.primary().await?;
    let topology = run.lab.topology();
    run.inject(&Fault::LeaseStoreDown).await?;
    // S3 of another region, which no node uses otherwise.
    let other = topology.directory().join("s3").join(topology.dr.as_str());
    std::fs::create_dir_all(other.join(NEW_BUCKET))?;
    for node in run.lab.nodes() {
        let spec = &node.spec;
        let (from, to) = (
            spec.lease_store(),
            spec.backup_store(topology, &topology.dr),
        );
        replace_setting(spec, LEASE_BUCKET, NEW_BUCKET)?;
        replace_lease_setting(spec, &topology.third.to_string(), "eu-south-2")?;
        replace_lease_setting(spec, &from.to_string(), &to.to_string())?;
    }
    run.announce("every node is configured with a bucket in another region");
    restart_agents(run, &[]).await?;
    let spec = topology.node_spec(&holder)?;
    let replace = ["replace-lease", "--holder", holder.as_str(), "--yes"];
    expect_refusal(run, spec, &replace, "so its lease cannot be retired").await?;
    let lost = [&replace[..], &["--old-store-lost"]].concat();
    wait::until("every deadline to be over", SCENARIO_TIMEOUT, || async {
        run_on_node(run, spec, &lost)
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    let new_holder = run.lab.node(&holder)?;
    wait_for_problem(new_holder, "old-lease-not-retired").await?;
    run.announce("the old store is back");
    run.lab.heal().await?;
    for node in run.lab.nodes() {
        wait_for_no_problem(node, "old-lease-not-retired").await?;
    }
    let old = topology
        .directory()
        .join("s3")
        .join(topology.third.as_str());
    let old = old
        .join(LEASE_BUCKET)
        .join("clusters")
        .join(CLUSTER)
        .join("lease");
    let old: Value = serde_json::from_str(&std::fs::read_to_string(old)?)?;
    let now = old.get("state").and_then(Value::as_str);
    ensure!(
        now == Some("retired"),
        "the old lease is not retired: {old}"
    );
    run.wait_for_standbys().await?;
    run.finish(&start, downtime_of_two_timeouts(0)).await
}
