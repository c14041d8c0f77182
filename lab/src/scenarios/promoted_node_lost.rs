//! The node that an operator promotes is lost before it accepts writes.

use anyhow::{Context as _, ensure};
use causeway_core::NodeId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::operator::{
    ACCEPTED_LOSS, dr_node, failover_ctl, history, last_operation, operation_expectation,
    rows_stated, text_at,
};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::standby_recovery::wait_for_all_standbys;
use crate::cluster::node::Node;
use crate::cluster::topology::WRITER_NAME;
use crate::fault::{Fault, NodeSelector, RegionSelector};
use crate::network::proxies::NetworkPath;
use crate::network::proxy::NetworkState;
use crate::wait;
use crate::workload::checker::CheckResult;

/// The chosen node takes the lease and is lost before it accepts writes: another one is promoted at
/// once, although the operation has not ended. Route 53 does not respond during the first
/// promotion, which succeeds and reports it. In the end only a standby on an earlier timeline is
/// left, which is accepted by the timeline's number.
///
/// # Errors
///
/// When the scenario cannot be completed, or a command has an unexpected result.
pub async fn promoted_node_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("promoted_node_lost").await?;
    let dr = dr_node(run)?.spec.node.clone();
    let others: Vec<&Node> = run
        .lab
        .nodes()
        .iter()
        .filter(|node| node.spec.node != dr)
        .collect();
    let [chosen, last] = &others[..] else {
        anyhow::bail!("the lab has not two nodes beside `{dr}`");
    };
    let mut rows_lost = promoted_without_dns(run, &dr).await?;
    run.lab.heal().await?;
    wait_for_all_standbys(run).await?;

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
    rows_lost += kill_target_after_takeover(run, &dr, chosen).await?;

    // The node returns, accepts writes, and is lost for good: its timeline is on no other node.
    run.lab.node(chosen)?.start();
    open_paths_except(run, chosen, last);
    run.wait_for_takeover(&dr, SCENARIO_TIMEOUT).await?;
    let opened_at = run.history().now();
    run.wait_for_acknowledged_rows(opened_at, SCENARIO_TIMEOUT)
        .await?;
    run.inject(&Fault::NodeLost(NodeSelector::node(chosen)))
        .await?;
    run.lab.proxies.set(
        NetworkState::Open,
        |path| matches!(path, NetworkPath::Lease { from } if from == last),
    );
    let to_lease = |path: &NetworkPath| matches!(path, NetworkPath::Lease { from } if from == last);
    run.lab.proxies.set(NetworkState::Open, to_lease);
    rows_lost += earlier_timeline_accepted(run, last).await?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    run.lab.heal().await?;
    wait_for_all_standbys(run).await?;
    run.finish(&start, operation_expectation(rows_lost)).await
}

/// Promotes the other region while Route 53 does not respond, and returns the stated rows.
async fn promoted_without_dns(run: &ScenarioRun<'_>, dr: &NodeId) -> anyhow::Result<u64> {
    run.inject(&Fault::RegionLost(RegionSelector::default()))
        .await?;
    let route53 = run.lab.route53().process();
    route53.signal(Signal::SIGSTOP)?;
    run.announce("Route 53 does not respond");
    let promote = promote(dr);
    let promoted = failover_ctl(run, &promote).await;
    let named = wait_for_problem(run, dr, "record-not-moved").await;
    route53.signal(Signal::SIGCONT)?;
    let promoted = promoted?;
    named?;
    let journal = promoted.json()?;
    let not_moved = journal.pointer("/outcome/records_not_moved");
    ensure!(
        not_moved.is_some_and(|not_moved| not_moved.to_string().contains(WRITER_NAME))
            && promoted.err.contains("does not point at it yet"),
        "it does not say that the record was not moved: {promoted:?}"
    );
    failover_ctl(run, &["resume"])
        .await?
        .refused(23, "resume")?;
    let address = run.lab.node(dr)?.spec.postgres().ip().to_string();
    wait::until("the agent to move the record", SCENARIO_TIMEOUT, || async {
        let records = run.lab.route53().records().await;
        let records = records.map_err(|error| format!("{error:#}"))?;
        let moved = records
            .iter()
            .any(|record| record.name == WRITER_NAME && record.values == [address.clone()]);
        if moved {
            return Ok(());
        }
        Err(format!("{records:?}"))
    })
    .await?;
    rows_stated(&journal)
}

/// Makes a node take the lease, and ends its host before it accepts writes.
async fn kill_target_after_takeover(
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
                let status = run.lab.node(chosen).map_err(|error| error.to_string())?;
                let status = status
                    .status()
                    .await
                    .map_err(|error| format!("{error:#}"))?;
                match text_at(&status, "/role") {
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
        !text_at(&left, "/left").is_empty() && left.pointer("/ended_at") == Some(&Value::Null),
        "the operation is not left unfinished: {left}"
    );
    rows_stated(&left)
}

/// Promotes a standby on an earlier timeline than the last primary's, and returns the stated rows.
async fn earlier_timeline_accepted(run: &ScenarioRun<'_>, node: &NodeId) -> anyhow::Result<u64> {
    let plan = failover_ctl(run, &["plan", "promote", "--to", node.as_str()]).await?;
    plan.refused(16, "--accept-timeline ")?;
    let number: String = plan
        .err
        .split("--accept-timeline ")
        .nth(1)
        .context("the rejection names no `--accept-timeline`")?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let mut promote = promote(node).to_vec();
    promote.extend(["--accept-timeline", &number]);
    let journal = failover_ctl(run, &promote).await?.json()?;
    let known = journal.pointer("/plan/data_loss/parted/at");
    ensure!(
        known.is_some_and(Value::is_string),
        "the timelines' switch point is missing: {journal}"
    );
    let history = history(run).await?;
    let before = history.iter().rev().nth(1).context("one operation only")?;
    ensure!(
        text_at(before, "/outcome/outcome") == "replaced"
            || text_at(before, "/outcome/outcome") == "overtaken",
        "the previous operation is not closed: {before}"
    );
    rows_stated(&journal)
}

fn promote(to: &NodeId) -> [&str; 7] {
    let to = to.as_str();
    [
        "promote",
        "--to",
        to,
        "--yes",
        "--accept-loss",
        ACCEPTED_LOSS,
        "--json",
    ]
}

/// Opens the paths of one node, except those to another.
fn open_paths_except(run: &ScenarioRun<'_>, node: &NodeId, but: &NodeId) {
    run.lab.proxies.set(NetworkState::Open, |path| {
        path.involves(node) && !path.involves(but)
    });
}

/// Waits until a node's agent reports a problem.
async fn wait_for_problem(
    run: &ScenarioRun<'_>,
    node: &NodeId,
    problem: &str,
) -> anyhow::Result<()> {
    wait::until("the problem to be named", SCENARIO_TIMEOUT, || async {
        let node = run.lab.node(node).map_err(|error| error.to_string())?;
        let status = node.status().await.map_err(|error| format!("{error:#}"))?;
        let problems = status
            .pointer("/problems")
            .ok_or_else(|| "the status has no `problems`".to_owned())?
            .to_string();
        if problems.contains(problem) {
            return Ok(());
        }
        Err(problems)
    })
    .await?;
    Ok(())
}

/// Freezes replay on a node that has replayed all received WAL: the node takes the lease, and its
/// promotion does not complete.
async fn freeze_replay(run: &ScenarioRun<'_>, name: &NodeId) -> anyhow::Result<()> {
    let node = run.lab.node(name)?;
    wait::until(
        "the node to replay what it received",
        SCENARIO_TIMEOUT,
        || async {
            let status = node.status().await.map_err(|error| format!("{error:#}"))?;
            let progress = (
                text_at(&status, "/progress/received_lsn"),
                text_at(&status, "/progress/replayed_lsn"),
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

/// Returns the startup process, without which a promotion does not complete.
fn startup_process(node: &Node) -> anyhow::Result<Pid> {
    for pid in crate::cluster::process_table::processes_inside(&node.spec.data())? {
        // The process may have ended since.
        let Ok(title) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        if String::from_utf8_lossy(&title).contains("startup") {
            return Ok(Pid::from_raw(pid));
        }
    }
    anyhow::bail!("no startup process on `{}`", node.spec.node)
}
