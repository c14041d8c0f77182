//! Commands that an operator runs on a node's host, and edits of its settings.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::node_status::status_text;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::cluster::files::{give_to_postgres, restrict, write};
use crate::cluster::settings;
use crate::cluster::topology::NodeSpec;
use crate::fault::{Fault, NodeSelector};
use crate::wait;
use crate::workload::checker::Expectation;

/// Bucket that the lease is moved to.
pub(super) const NEW_BUCKET: &str = "causeway-lease-2";

/// Timeout of a clean shutdown of PostgreSQL.
pub(super) const GRACE: Duration = Duration::from_mins(1);

pub(super) fn downtime_of_two_timeouts(rows_lost: u64) -> Expectation {
    Expectation {
        downtime: 2 * SCENARIO_TIMEOUT,
        rows_lost,
    }
}

/// Runs a command on a node's host.
pub(super) async fn run_on_node(
    run: &ScenarioRun<'_>,
    spec: &NodeSpec,
    arguments: &[&str],
) -> anyhow::Result<String> {
    run.announce(&format!(
        "on {}: `failover-ctl {}`",
        spec.node,
        arguments.join(" ")
    ));
    let command = run.lab.programs().failover_ctl_on(spec, arguments);
    command.run(None, SCENARIO_TIMEOUT).await
}

/// Runs a command that must be rejected, for this reason.
pub(super) async fn expect_refusal(
    run: &ScenarioRun<'_>,
    spec: &NodeSpec,
    arguments: &[&str],
    why: &str,
) -> anyhow::Result<()> {
    match run_on_node(run, spec, arguments).await {
        Ok(said) => anyhow::bail!("`{}` was carried out: {said}", arguments.join(" ")),
        Err(error) => {
            let error = format!("{error:#}");
            ensure!(
                error.contains(why),
                "the command was rejected for another reason: {error}"
            );
            Ok(())
        }
    }
}

pub(super) async fn restart_agents(
    run: &ScenarioRun<'_>,
    but: &[&causeway_core::NodeId],
) -> anyhow::Result<()> {
    for node in run.lab.nodes() {
        if !but.contains(&&node.spec.node) {
            let restarted = Fault::AgentRestarted(NodeSelector::node(&node.spec.node));
            run.inject(&restarted).await?;
        }
    }
    for node in run.lab.nodes() {
        if but.contains(&&node.spec.node) {
            continue;
        }
        let what = format!("the agent of `{}` to use the new bucket", node.spec.node);
        wait::until(&what, SCENARIO_TIMEOUT, || async {
            let bucket = status_text(node, "/lease_store/bucket").await;
            match bucket.map_err(|error| format!("{error:#}"))? {
                bucket if bucket == NEW_BUCKET => Ok(()),
                bucket => Err(bucket),
            }
        })
        .await?;
    }
    Ok(())
}

/// Replaces a quoted value in a node's settings.
pub(super) fn replace_setting(spec: &NodeSpec, from: &str, to: &str) -> anyhow::Result<()> {
    let path = settings::failover_ctl(spec);
    let text = std::fs::read_to_string(&path)?;
    let changed = text.replace(&format!("\"{from}\""), &format!("\"{to}\""));
    ensure!(changed != text, "`{from}` is not in `{}`", path.display());
    write(&path, &changed)
}

/// Replaces a text in the `[lease]` table of a node's settings.
pub(super) fn replace_lease_setting(spec: &NodeSpec, from: &str, to: &str) -> anyhow::Result<()> {
    let path = settings::failover_ctl(spec);
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once("[lease]\n").context("no `[lease]`")?;
    let (lease, after) = rest.split_once("\n[").context("nothing after `[lease]`")?;
    let changed = lease.replace(from, to);
    ensure!(
        changed != lease,
        "`{from}` is not in `[lease]` of `{}`",
        path.display()
    );
    write(&path, &format!("{before}[lease]\n{changed}\n[{after}"))
}

/// Creates an empty data directory.
pub(super) fn clear_data_directory(spec: &NodeSpec) -> anyhow::Result<()> {
    std::fs::remove_dir_all(spec.data())?;
    std::fs::create_dir(spec.data())?;
    give_to_postgres(&spec.data())?;
    restrict(&spec.data(), 0o700)
}
