//! Every host is lost, and the cluster is restored from its backup.

use anyhow::Context as _;

use super::node_commands::{
    GRACE, clear_data_directory, downtime_of_two_timeouts, expect_refusal, run_on_node,
};
use super::point_in_time_recovery::base_backup;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::cluster::files::write;
use crate::cluster::settings;
use crate::cluster::topology::NodeSpec;
use crate::workload::checker::CheckResult;

/// Every host is lost, and the cluster is restored from its backup on new hosts with the same
/// names. It is shut down cleanly before, so that the archive is complete.
///
/// # Errors
///
/// When a step fails, or the scenario cannot be completed.
pub async fn cluster_restored(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    base_backup(run).await?;
    let start = run.begin("cluster_restored").await?;
    let holder = run.primary().await?;
    let restored = run.lab.node(&holder)?;
    let others = || {
        run.lab
            .nodes()
            .iter()
            .filter(|node| node.spec.node != holder)
    };
    for node in others().chain([restored]) {
        node.agent.stop(GRACE).await?;
        node.guard.stop(GRACE).await?;
    }
    run.announce("every node is shut down cleanly, and then every disk is lost");
    for node in run.lab.nodes() {
        clear_data_directory(&node.spec)?;
        write(&node.spec.host_id(), &format!("i-new-{}", node.spec.node))?;
    }
    // One host still has its agent's state.
    let mut hosts = others();
    let forgetful = hosts.next().context("no standby")?;
    std::fs::remove_file(forgetful.spec.state().join("highest.json"))?;

    restore(run, &restored.spec).await?;
    let spec = &restored.spec;
    let mut replace = vec!["replace-lease", "--holder", holder.as_str(), "--yes"];
    for node in others() {
        replace.extend(["--without", node.spec.node.as_str()]);
    }
    expect_refusal(run, spec, &replace, "--restored").await?;
    replace.push("--restored");
    run_on_node(run, spec, &replace).await?;
    let started_at = run.history().now();
    restored.start();
    run.wait_for_acknowledged_rows(started_at, SCENARIO_TIMEOUT)
        .await?;
    for node in others() {
        node.start();
    }
    run.wait_for_standbys().await?;
    run.finish(&start, downtime_of_two_timeouts(0)).await
}

async fn restore(run: &ScenarioRun<'_>, spec: &NodeSpec) -> anyhow::Result<()> {
    let topology = run.lab.topology();
    let path = topology.directory().join("restore-all.toml");
    write(
        &path,
        &settings::for_restore(topology, spec, run.lab.backup_keys())?,
    )?;
    let target = spec.data().display().to_string();
    let arguments = [
        "restore",
        "--standby",
        "--archive-mode",
        "preserve",
        "--target-directory",
        &target,
    ];
    run.announce(&format!("the newest backup is restored on {}", spec.node));
    let restore = run.lab.programs().backup_agent(&path, &arguments);
    restore.run(None, SCENARIO_TIMEOUT).await?;
    Ok(())
}
