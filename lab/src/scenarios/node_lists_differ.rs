//! The node lists of two hosts differ, as while a node is added.

use anyhow::{Context as _, ensure};

use super::node_status::{wait_for_no_problem, wait_for_problem};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::cluster::files::write;
use crate::cluster::settings;
use crate::cluster::topology::NodeSpec;
use crate::fault::{Fault, NodeSelector};
use crate::workload::checker::{CheckResult, Expectation};

/// A node is missing in one host's list, and becomes primary: the host reports the difference
/// before and the unknown primary after, and rejoins once the lists are equal.
///
/// # Errors
///
/// When the expectation is not met, or the scenario cannot be completed.
pub async fn node_lists_differ(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let old = run.primary().await?;
    let topology = run.lab.topology();
    let behind = run
        .lab
        .nodes()
        .iter()
        .find(|node| node.spec.region == topology.dr);
    let behind = behind.context("the other region has no node")?;
    let new = topology
        .nodes
        .iter()
        .find(|node| node.region == topology.primary && node.node != old);
    let new = new.context("the primary region has one node")?;
    let start = run.begin("node_lists_differ").await?;
    let name = behind.spec.node.clone();

    let path = settings::failover_ctl(&behind.spec);
    let whole = std::fs::read_to_string(&path)?;
    write(&path, &without(&whole, new)?)?;
    run.announce(&format!("the node list of {name} lacks node {}", new.node));
    run.inject(&Fault::AgentRestarted(NodeSelector::node(&name)))
        .await?;
    let named = wait_for_problem(behind, "nodes-differ").await?;
    ensure!(named.contains(&format!("lacks `{}`", new.node)), "{named}");

    let rows_lost = run.forecast_loss().await?;
    run.inject(&Fault::NodeLost(NodeSelector::node(&old)))
        .await?;
    run.wait_for_takeover(&old, SCENARIO_TIMEOUT).await?;
    let named = wait_for_problem(behind, "unknown-primary").await?;
    ensure!(named.contains(&format!("`{}`", new.node)), "{named}");
    run.announce("the unknown primary is reported");

    write(&path, &whole)?;
    run.inject(&Fault::AgentRestarted(NodeSelector::node(&name)))
        .await?;
    wait_for_no_problem(behind, "unknown-primary").await?;
    wait_for_no_problem(behind, "nodes-differ").await?;
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        downtime: SCENARIO_TIMEOUT,
        rows_lost,
    };
    run.finish(&start, expectation).await
}

/// Returns settings without one node's entry in `[[nodes]]`.
fn without(text: &str, node: &NodeSpec) -> anyhow::Result<String> {
    let name = format!("name = \"{}\"\n", node.node);
    let at = text
        .find(&name)
        .context("the node is not in the settings")?;
    let before = text.get(..at).and_then(|text| text.rfind("[[nodes]]"));
    let start = before.context("there is no `[[nodes]]`")?;
    let rest = text.get(at..).and_then(|text| text.find("\n["));
    let end = at + rest.context("nothing follows the node")? + 1;
    let before = text.get(..start).context("no text before the node")?;
    let after = text.get(end..).context("no text after the node")?;
    Ok([before, after].concat())
}
