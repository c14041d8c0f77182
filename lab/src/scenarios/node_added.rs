//! The lists of nodes differ between hosts, as while a node is added.

use anyhow::{Context as _, ensure};

use super::lifecycle::{no_problem, problem};
use super::{LONG, primary};
use crate::cluster::postgres::write;
use crate::cluster::settings;
use crate::cluster::topology::Place;
use crate::fault::{Fault, On};
use crate::scenarios::scenario_run::Stage;
use crate::workload::checker::{Promise, Verdict};

/// A host's list lacks a node, which becomes primary: the host says what it lacks before that, and whom it
/// does not know after, and follows once the lists are the same.
///
/// # Errors
///
/// When it does not, or the story does not come to an end.
pub async fn lists_of_nodes_differ(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let old = primary(stage).await?;
    let topology = stage.lab.topology();
    let behind = stage
        .lab
        .nodes()
        .iter()
        .find(|it| it.place.region == topology.dr);
    let behind = behind.context("the other region has no node")?;
    let new = topology
        .nodes
        .iter()
        .find(|it| it.region == topology.primary && it.node != old);
    let new = new.context("the primary region has one node")?;
    let begun = stage.begin("lists_of_nodes_differ").await?;
    let name = behind.place.node.clone();

    let path = settings::failover_ctl(&behind.place);
    let whole = std::fs::read_to_string(&path)?;
    write(&path, &without(&whole, new)?)?;
    stage.say(&format!("node {name} does not know of node {}", new.node));
    stage
        .break_with(&Fault::AgentRestarted(On::node(&name)))
        .await?;
    let named = problem(behind, "nodes-differ").await?;
    ensure!(named.contains(&format!("lacks `{}`", new.node)), "{named}");

    let rows_lost = stage.loss_at_risk().await?;
    stage.break_with(&Fault::NodeLost(On::node(&old))).await?;
    stage.taken_over_from(&old, LONG).await?;
    let named = problem(behind, "unknown-primary").await?;
    ensure!(named.contains(&format!("`{}`", new.node)), "{named}");
    stage.say("the primary that it does not know is named");

    write(&path, &whole)?;
    stage
        .break_with(&Fault::AgentRestarted(On::node(&name)))
        .await?;
    no_problem(behind, "unknown-primary").await?;
    no_problem(behind, "nodes-differ").await?;
    stage.lab.heal().await?;
    stage.everybody_follows().await?;
    let promise = Promise {
        without_writes: LONG,
        rows_lost,
    };
    stage.end(&begun, promise).await
}

/// Returns settings without one node's entry in `[[nodes]]`.
fn without(text: &str, node: &Place) -> anyhow::Result<String> {
    let name = format!("name = \"{}\"\n", node.node);
    let at = text
        .find(&name)
        .context("the node is not in the settings")?;
    let before = text.get(..at).and_then(|it| it.rfind("[[nodes]]"));
    let start = before.context("there is no `[[nodes]]`")?;
    let rest = text.get(at..).and_then(|it| it.find("\n["));
    let end = at + rest.context("nothing follows the node")? + 1;
    let (before, after) = (text.get(..start), text.get(end..));
    Ok([before.unwrap_or_default(), after.unwrap_or_default()].concat())
}
