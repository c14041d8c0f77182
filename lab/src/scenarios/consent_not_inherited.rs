//! An operation is interrupted: another operator has to accept its risks again.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_core::NodeId;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::operator::{
    ACCEPTED_LOSS, CONFIRMATION_DELAY, dr_node, epoch, failover_ctl, history, killed_after,
    last_operation, operation_expectation, operator_without_agent, rows_stated, run_command,
    run_until_question, text_at,
};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::standby_recovery::wait_for_all_standbys;
use super::superuser::psql;
use crate::cluster::node::Node;
use crate::cluster::topology::WRITER_NAME;
use crate::fault::{Fault, NodeSelector};
use crate::wait;
use crate::workload::checker::CheckResult;

/// An operator's unfenced promotion is killed while the primary is healthy: another operator's
/// `resume` does not continue it. The data loss grows while an operator reads the plan: the
/// confirmation of the old number promotes nothing. The unfinished operation does not block a later
/// promotion.
///
/// # Errors
///
/// When the scenario cannot be completed, or a command did what it must not.
pub async fn consent_not_inherited(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("consent_not_inherited").await?;
    let old = run.primary().await?;
    let dr = dr_node(run)?.spec.node.clone();
    let here = third_node(run, &[&old, &dr])?.spec.node.clone();
    run.inject(&Fault::NodeLost(NodeSelector::node(&here)))
        .await?;

    unfenced_is_not_resumed(run, &old, &dr).await?;
    loss_grows_behind_the_question(run, &old, &dr).await?;

    // The old primary is lost now. An operator is killed during a promotion, and the next one waits
    // only until the operation lock expires.
    let promote = [
        "promote",
        "--to",
        dr.as_str(),
        "--yes",
        "--accept-loss",
        ACCEPTED_LOSS,
        "--json",
    ];
    let first = run.lab.programs().failover_ctl(&promote);
    killed_after(run, first, 1).await?;
    // Agent and command move the records at the same time once Route 53 responds again.
    let route53 = run.lab.route53().process();
    route53.signal(Signal::SIGSTOP)?;
    run.announce("Route 53 does not respond");
    let (journal, thawed) = tokio::join!(failover_ctl(run, &promote), async {
        let opened = wait_for_open(run, &dr).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        route53.signal(Signal::SIGCONT).and(opened)
    });
    thawed?;
    let journal = journal?.json()?;
    ensure!(
        text_at(&journal, "/outcome/outcome") == "promoted"
            && journal.pointer("/outcome/records_not_moved") == Some(&Value::Array(Vec::new())),
        "the records were not moved: {journal}"
    );
    let replaced = history(run).await?;
    let replaced = replaced.iter().rev().nth(1).context("one operation only")?;
    ensure!(
        text_at(replaced, "/outcome/outcome") == "replaced",
        "the first operation is not closed: {replaced}"
    );
    let rows_lost = rows_stated(&journal)?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    run.lab.heal().await?;
    wait_for_all_standbys(run).await?;
    run.finish(&start, operation_expectation(rows_lost)).await
}

/// Leaves an unfenced operation unfinished while the primary is healthy, and tries to resume it.
async fn unfenced_is_not_resumed(
    run: &ScenarioRun<'_>,
    old: &NodeId,
    dr: &NodeId,
) -> anyhow::Result<()> {
    let standby = run.lab.node(dr)?;
    psql(run, standby, &["select pg_wal_replay_pause()"]).await?;
    // It waits for the standby to catch up, which never happens.
    let promote = [
        "promote",
        "--to",
        dr.as_str(),
        "--unfenced",
        "--yes",
        "--accept-loss",
        ACCEPTED_LOSS,
    ];
    killed_after(run, operator_without_agent(run, old, &promote)?, 2).await?;
    let resume = ["resume", "--yes", "--accept-loss", ACCEPTED_LOSS];
    let unfenced = [
        "resume",
        "--yes",
        "--accept-loss",
        ACCEPTED_LOSS,
        "--unfenced",
    ];
    // An operator who reaches the primary is rejected because it is healthy. One who does not has
    // to accept the risk again.
    let (sighted, unsighted) = tokio::join!(
        failover_ctl(run, &unfenced),
        run_command(operator_without_agent(run, old, &resume)?)
    );
    sighted?.refused(17, "is primary and answers")?;
    unsighted?.refused(21, "`--unfenced`")?;
    psql(run, standby, &["select pg_wal_replay_resume()"]).await?;

    let reason = "the primary was never lost";
    let abandon = ["abandon", "--reason", reason, "--json"];
    let journal = failover_ctl(run, &abandon).await?.json()?;
    let left_behind = journal
        .pointer("/outcome/left_behind")
        .with_context(|| format!("the journal has no `left_behind`: {journal}"))?
        .to_string();
    ensure!(
        text_at(&journal, "/outcome/reason") == reason
            && left_behind.contains(&format!("held by `{old}`"))
            && left_behind.contains(WRITER_NAME),
        "the journal does not list what is left behind: {journal}"
    );
    failover_ctl(run, &["abandon"])
        .await?
        .refused(23, "abandon")?;
    failover_ctl(run, &["resume"]).await?.refused(23, "resume")
}

/// Confirms a data loss that has grown since it was stated.
async fn loss_grows_behind_the_question(
    run: &ScenarioRun<'_>,
    old: &NodeId,
    dr: &NodeId,
) -> anyhow::Result<()> {
    run.inject(&Fault::NodeIsolated(NodeSelector::node(dr)))
        .await?;
    let promote = ["promote", "--to", dr.as_str()];
    let asked = run_until_question(operator_without_agent(run, old, &promote)?).await?;
    run.announce("an operator reads the plan");
    let thinks_until = run.history().now() + CONFIRMATION_DELAY;
    run.run_until(thinks_until).await;
    run.wait_for_acknowledged_rows(thinks_until, SCENARIO_TIMEOUT)
        .await?;
    let before = epoch(run, dr).await?;
    run.inject(&Fault::NodeLost(NodeSelector::node(old)))
        .await?;
    asked.answer("yes").await?.refused(18, "may be lost")?;
    let last = last_operation(run).await?;
    ensure!(
        text_at(&last, "/outcome/outcome") == "refused" && epoch(run, dr).await? == before,
        "the operation has not ended, or the lease was taken: {last}"
    );
    Ok(())
}

fn third_node<'a>(run: &'a ScenarioRun<'_>, nodes: &[&NodeId]) -> anyhow::Result<&'a Node> {
    let other = |node: &&Node| !nodes.contains(&&node.spec.node);
    let node = run.lab.nodes().iter().find(other);
    node.context("no third node")
}

/// Waits until a node holds the lease and accepts writes.
async fn wait_for_open(run: &ScenarioRun<'_>, node: &NodeId) -> anyhow::Result<()> {
    wait::until("the node to open", SCENARIO_TIMEOUT, || async {
        let node = run.lab.node(node).map_err(|error| error.to_string())?;
        let status = node.status().await.map_err(|error| format!("{error:#}"))?;
        match text_at(&status, "/role") {
            "primary" => Ok(()),
            role => Err(format!("it is {role}")),
        }
    })
    .await?;
    Ok(())
}
