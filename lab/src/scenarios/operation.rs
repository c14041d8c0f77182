//! Operations that do not go as they were planned: each ends, and loses no more than was stated.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_core::NodeId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::operator::{
    THINKS, blind, epoch, failover_ctl, history, killed_after, last_operation, rows_stated,
    run_command, text, until_asked,
};
use super::standby::{superuser, whole};
use super::{SCENARIO_TIMEOUT, primary};
use crate::cluster::node::Node;
use crate::cluster::topology::WRITER_NAME;
use crate::fault::{Fault, NodeSelector, RegionSelector};
use crate::network::proxies::NetworkPath;
use crate::network::proxy::NetworkState;
use crate::scenarios::scenario_run::ScenarioRun;
use crate::wait;
use crate::workload::checker::{CheckResult, Expectation};

/// How long writes may stop: operators wait for one another, and for nodes that are gone.
const WITHOUT_WRITES: Duration = Duration::from_mins(3);

/// How much is accepted where the amount is not what is tried.
const ACCEPT: &str = "1GiB";

/// An operator is cut off with an unfenced plan, and the primary is healthy: nobody else's `resume` carries
/// it out. An operator thinks, and the loss grows: a `yes` to the old number promotes nothing. What is left
/// unfinished keeps nobody from promoting in the end.
///
/// # Errors
///
/// When the story does not come to an end, or a command did what it should not.
pub async fn consent_not_inherited(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("consent_not_inherited").await?;
    let old = primary(run).await?;
    let dr = dr(run)?.spec.node.clone();
    let here = other_than(run, &[&old, &dr])?.spec.node.clone();
    run.inject(&Fault::NodeLost(NodeSelector::node(&here)))
        .await?;

    unfenced_is_not_resumed(run, &old, &dr).await?;
    loss_grows_behind_the_question(run, &old, &dr).await?;

    // The old primary is gone now. An operator begins and is cut off, and the next one is not kept waiting
    // for longer than it takes to see that.
    let promote = [
        "promote",
        "--to",
        dr.as_str(),
        "--yes",
        "--accept-loss",
        ACCEPT,
        "--json",
    ];
    let first = run.lab.programs().failover_ctl(&promote);
    killed_after(run, first, 1).await?;
    // Agent and command move the records at the same moment once Route 53 answers again.
    let route53 = run.lab.route53().process();
    route53.signal(Signal::SIGSTOP)?;
    run.announce("Route 53 does not answer");
    let (journal, thawed) = tokio::join!(failover_ctl(run, &promote), async {
        let opened = wait_for_open(run, &dr).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        route53.signal(Signal::SIGCONT).and(opened)
    });
    thawed?;
    let journal = journal?.json()?;
    ensure!(
        text(&journal, "/outcome/outcome") == "promoted"
            && journal.pointer("/outcome/records_not_moved") == Some(&Value::Array(Vec::new())),
        "the records were not moved: {journal}"
    );
    let replaced = history(run).await?;
    let replaced = replaced.iter().rev().nth(1).context("one operation only")?;
    ensure!(
        text(replaced, "/outcome/outcome") == "replaced",
        "the first operation is not closed: {replaced}"
    );
    let rows_lost = rows_stated(&journal)?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    run.lab.heal().await?;
    whole(run).await?;
    run.finish(&start, expectation(rows_lost)).await
}

/// Leaves an unfenced operation unfinished while the primary lives, and tries to have it carried out.
async fn unfenced_is_not_resumed(
    run: &ScenarioRun<'_>,
    old: &NodeId,
    dr: &NodeId,
) -> anyhow::Result<()> {
    let standby = run.lab.node(dr)?;
    superuser(run, standby, &["select pg_wal_replay_pause()"]).await?;
    // It waits for the standby to catch up, which it does not.
    let promote = [
        "promote",
        "--to",
        dr.as_str(),
        "--unfenced",
        "--yes",
        "--accept-loss",
        ACCEPT,
    ];
    killed_after(run, blind(run, old, &promote)?, 2).await?;
    let resume = ["resume", "--yes", "--accept-loss", ACCEPT];
    let unfenced = ["resume", "--yes", "--accept-loss", ACCEPT, "--unfenced"];
    // Whoever sees the primary is told that it is healthy, and whoever does not has to accept it anew.
    let (sighted, unsighted) = tokio::join!(
        failover_ctl(run, &unfenced),
        run_command(blind(run, old, &resume)?)
    );
    sighted?.refused(17, "is primary and answers")?;
    unsighted?.refused(21, "`--unfenced`")?;
    superuser(run, standby, &["select pg_wal_replay_resume()"]).await?;

    let reason = "the primary was never lost";
    let abandon = ["abandon", "--reason", reason, "--json"];
    let journal = failover_ctl(run, &abandon).await?.json()?;
    let left_behind = journal
        .pointer("/outcome/left_behind")
        .map(Value::to_string);
    let left_behind = left_behind.unwrap_or_default();
    ensure!(
        text(&journal, "/outcome/reason") == reason
            && left_behind.contains(&format!("held by `{old}`"))
            && left_behind.contains(WRITER_NAME),
        "it does not say what it leaves: {journal}"
    );
    failover_ctl(run, &["abandon"])
        .await?
        .refused(23, "abandon")?;
    failover_ctl(run, &["resume"]).await?.refused(23, "resume")
}

/// Has an operator say yes to a loss that has grown while they thought.
async fn loss_grows_behind_the_question(
    run: &ScenarioRun<'_>,
    old: &NodeId,
    dr: &NodeId,
) -> anyhow::Result<()> {
    run.inject(&Fault::NodeIsolated(NodeSelector::node(dr)))
        .await?;
    let promote = ["promote", "--to", dr.as_str()];
    let asked = until_asked(blind(run, old, &promote)?).await?;
    run.announce("an operator is shown the plan, and thinks");
    let thinks_until = run.history().now() + THINKS;
    run.run_until(thinks_until).await;
    run.wait_for_acknowledged_rows(thinks_until, SCENARIO_TIMEOUT)
        .await?;
    let before = epoch(run, dr).await?;
    run.inject(&Fault::NodeLost(NodeSelector::node(old)))
        .await?;
    asked.answer("yes").await?.refused(18, "may be lost")?;
    let last = last_operation(run).await?;
    ensure!(
        text(&last, "/outcome/outcome") == "refused" && epoch(run, dr).await? == before,
        "the operation is not over, or the lease was taken: {last}"
    );
    Ok(())
}

/// The chosen node takes the lease and dies before it opens: another one is promoted at once, although the
/// operation has not ended. Route 53 is away during the first promotion, which succeeds and says so. In the
/// end only a standby is left that never saw the last timeline: it is accepted by its number.
///
/// # Errors
///
/// When the story does not come to an end, or a command did what it should not.
pub async fn chosen_node_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("chosen_node_lost").await?;
    let dr = dr(run)?.spec.node.clone();
    let others: Vec<&Node> = run
        .lab
        .nodes()
        .iter()
        .filter(|it| it.spec.node != dr)
        .collect();
    let [chosen, last] = &others[..] else {
        anyhow::bail!("the lab has not two nodes beside `{dr}`");
    };
    let mut rows_lost = promoted_without_dns(run, &dr).await?;
    run.lab.heal().await?;
    whole(run).await?;

    let (chosen, last) = (&chosen.spec.node, &last.spec.node);
    run.inject(&Fault::NodeIsolated(NodeSelector::node(last)))
        .await?;
    // Without the lease it does not take over automatically either.
    run.inject(&Fault::LeaseCut(NodeSelector::node(last)))
        .await?;
    // Rows that the isolated standby never receives.
    let isolated_at = run.history().now();
    run.wait_for_acknowledged_rows(isolated_at, SCENARIO_TIMEOUT)
        .await?;
    rows_lost += chosen_dies_promoting(run, &dr, chosen).await?;

    // It comes back, opens after all, and is lost for good: its timeline is on no other node.
    run.lab.node(chosen)?.start();
    only_from_here(run, chosen, last);
    run.wait_for_takeover(&dr, SCENARIO_TIMEOUT).await?;
    let opened_at = run.history().now();
    run.wait_for_acknowledged_rows(opened_at, SCENARIO_TIMEOUT)
        .await?;
    run.inject(&Fault::NodeLost(NodeSelector::node(chosen)))
        .await?;
    run.lab.proxies.set(
        NetworkState::Open,
        |it| matches!(it, NetworkPath::Lease { from } if from == last),
    );
    let to_lease = |it: &NetworkPath| matches!(it, NetworkPath::Lease { from } if from == last);
    run.lab.proxies.set(NetworkState::Open, to_lease);
    rows_lost += earlier_timeline_accepted(run, last).await?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    run.lab.heal().await?;
    whole(run).await?;
    run.finish(&start, expectation(rows_lost)).await
}

/// Promotes the other region while Route 53 does not answer, and returns the rows stated.
async fn promoted_without_dns(run: &ScenarioRun<'_>, dr: &NodeId) -> anyhow::Result<u64> {
    run.inject(&Fault::RegionLost(RegionSelector::default()))
        .await?;
    let route53 = run.lab.route53().process();
    route53.signal(Signal::SIGSTOP)?;
    run.announce("Route 53 does not answer");
    let promote = promote(dr);
    let promoted = failover_ctl(run, &promote).await;
    let named = named(run, dr, "record-not-moved").await;
    route53.signal(Signal::SIGCONT)?;
    let promoted = promoted?;
    named?;
    let journal = promoted.json()?;
    let not_moved = journal.pointer("/outcome/records_not_moved");
    ensure!(
        not_moved.is_some_and(|it| it.to_string().contains(WRITER_NAME))
            && promoted.err.contains("does not point at it yet"),
        "it does not say that the record was not moved: {promoted:?}"
    );
    failover_ctl(run, &["resume"])
        .await?
        .refused(23, "resume")?;
    let address = run.lab.node(dr)?.spec.postgres().ip().to_string();
    wait::until("the agent to move the record", SCENARIO_TIMEOUT, || async {
        let records = run.lab.route53().records().await;
        let records = records.map_err(|it| format!("{it:#}"))?;
        let moved = records
            .iter()
            .any(|it| it.name == WRITER_NAME && it.values == [address.clone()]);
        if moved {
            return Ok(());
        }
        Err(format!("{records:?}"))
    })
    .await?;
    rows_stated(&journal)
}

/// Has a node take the lease, and die before it opens.
async fn chosen_dies_promoting(
    run: &ScenarioRun<'_>,
    dr: &NodeId,
    chosen: &NodeId,
) -> anyhow::Result<u64> {
    run.inject(&Fault::NodeLost(NodeSelector::node(dr))).await?;
    freeze_replay(run, chosen).await?;
    let promote = promote(chosen);
    let (promoted, lost) = tokio::join!(failover_ctl(run, &promote), async {
        wait::until(
            "the chosen node to take the lease",
            SCENARIO_TIMEOUT,
            || async {
                let status = run.lab.node(chosen).map_err(|it| it.to_string())?;
                let status = status.status().await.map_err(|it| format!("{it:#}"))?;
                match text(&status, "/role") {
                    "promoting" => Ok(()),
                    role => Err(format!("it is {role}")),
                }
            },
        )
        .await?;
        run.inject(&Fault::NodeLost(NodeSelector::node(chosen)))
            .await
    });
    lost?;
    promoted?.refused(22, "has not answered")?;
    let left = last_operation(run).await?;
    ensure!(
        !text(&left, "/left").is_empty() && left.pointer("/ended_at") == Some(&Value::Null),
        "the operation is not left for whoever comes next: {left}"
    );
    rows_stated(&left)
}

/// Promotes a standby on an earlier timeline than the last primary's, and returns the rows stated.
async fn earlier_timeline_accepted(run: &ScenarioRun<'_>, node: &NodeId) -> anyhow::Result<u64> {
    let plan = failover_ctl(run, &["plan", "promote", "--to", node.as_str()]).await?;
    plan.refused(16, "--accept-timeline ")?;
    let number = plan
        .err
        .split("--accept-timeline ")
        .nth(1)
        .map(|it| {
            it.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        })
        .unwrap_or_default();
    let mut promote = promote(node).to_vec();
    promote.extend(["--accept-timeline", &number]);
    let journal = failover_ctl(run, &promote).await?.json()?;
    let known = journal.pointer("/plan/loss/parted/at");
    ensure!(
        known.is_some_and(Value::is_string),
        "where the timelines parted is not known: {journal}"
    );
    let history = history(run).await?;
    let before = history.iter().rev().nth(1).context("one operation only")?;
    ensure!(
        text(before, "/outcome/outcome") == "replaced"
            || text(before, "/outcome/outcome") == "overtaken",
        "the operation before is not closed: {before}"
    );
    rows_stated(&journal)
}

const fn expectation(rows_lost: u64) -> Expectation {
    Expectation {
        downtime: WITHOUT_WRITES,
        rows_lost,
    }
}

fn promote(to: &NodeId) -> [&str; 7] {
    let to = to.as_str();
    [
        "promote",
        "--to",
        to,
        "--yes",
        "--accept-loss",
        ACCEPT,
        "--json",
    ]
}

/// Returns the node of the other region.
fn dr<'a>(run: &'a ScenarioRun<'_>) -> anyhow::Result<&'a Node> {
    let dr = &run.lab.topology().dr;
    let node = run.lab.nodes().iter().find(|it| it.spec.region == *dr);
    node.context("the other region has no node")
}

fn other_than<'a>(run: &'a ScenarioRun<'_>, nodes: &[&NodeId]) -> anyhow::Result<&'a Node> {
    let other = |it: &&Node| !nodes.contains(&&it.spec.node);
    let node = run.lab.nodes().iter().find(other);
    node.context("there is no third node")
}

/// Opens the paths of one node, but those to another.
fn only_from_here(run: &ScenarioRun<'_>, node: &NodeId, but: &NodeId) {
    run.lab.proxies.set(NetworkState::Open, |it| {
        it.touches(node) && !it.touches(but)
    });
}

/// Waits until a node holds the lease and accepts writes.
async fn wait_for_open(run: &ScenarioRun<'_>, node: &NodeId) -> anyhow::Result<()> {
    wait::until("the node to open", SCENARIO_TIMEOUT, || async {
        let node = run.lab.node(node).map_err(|it| it.to_string())?;
        let status = node.status().await.map_err(|it| format!("{it:#}"))?;
        match text(&status, "/role") {
            "primary" => Ok(()),
            role => Err(format!("it is {role}")),
        }
    })
    .await?;
    Ok(())
}

/// Waits until a node's agent names a problem.
async fn named(run: &ScenarioRun<'_>, node: &NodeId, problem: &str) -> anyhow::Result<()> {
    wait::until("the problem to be named", SCENARIO_TIMEOUT, || async {
        let node = run.lab.node(node).map_err(|it| it.to_string())?;
        let status = node.status().await.map_err(|it| format!("{it:#}"))?;
        let problems = status.pointer("/problems").map(Value::to_string);
        let problems = problems.unwrap_or_default();
        if problems.contains(problem) {
            return Ok(());
        }
        Err(problems)
    })
    .await?;
    Ok(())
}

/// Freezes the replay of a node that has replayed all that it received: it takes the lease, and is never
/// promoted.
async fn freeze_replay(run: &ScenarioRun<'_>, name: &NodeId) -> anyhow::Result<()> {
    let node = run.lab.node(name)?;
    wait::until(
        "the node to replay what it received",
        SCENARIO_TIMEOUT,
        || async {
            let status = node.status().await.map_err(|it| format!("{it:#}"))?;
            let progress = (
                text(&status, "/progress/received_lsn"),
                text(&status, "/progress/replayed_lsn"),
            );
            if progress.0 == progress.1
                && !progress.0.is_empty()
                && status.get("streaming") == Some(&Value::Bool(false))
            {
                return Ok(());
            }
            Err(format!("{progress:?}"))
        },
    )
    .await?;
    kill(startup_process(node)?, Signal::SIGSTOP)?;
    run.announce(&format!("replay on node {name} is frozen"));
    Ok(())
}

/// Returns the process that replays: without it a promotion does not come to its end.
fn startup_process(node: &Node) -> anyhow::Result<Pid> {
    for pid in crate::cluster::process::inside(&node.spec.data())? {
        let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&title).contains("startup") {
            return Ok(Pid::from_raw(pid));
        }
    }
    anyhow::bail!("no process replays on `{}`", node.spec.node)
}
