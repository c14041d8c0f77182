//! Runner of a history on a lab.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use causeway_core::NodeId;
use causeway_runtime::clock;
use causeway_runtime::shutdown::Tasks;
use tokio::sync::watch;
use tokio::time;

use super::agent_log;
use super::checker::{RECOVERY_TIMEOUT, unrecovered_reason};
use super::observations::Observations;
use super::observer::Observer;
use super::operator_command;
use super::saved_wal::{self, LostRows};
use super::schedule::{FaultKind, FaultSchedule, ScheduledAction, ScheduledNode};
use crate::fault::NodeSelector;
use crate::lab::Lab;
use crate::wait;
use crate::workload::history::{History, HistoryEvent};
use crate::workload::rows::missing_rows;
use crate::workload::writers::Writers;

/// Connections per writer: a quarter of a scenario's, since two labs share two cores.
const CONNECTIONS: u64 = 1;

/// Timeout until the clients' first acknowledged row.
const FIRST_WRITE_TIMEOUT: Duration = Duration::from_mins(2);

/// Number of consecutive rounds in which the platform must have recovered.
const RECOVERED_ROUNDS: usize = 3;

/// Timeout of the comparison of rows.
const COMPARISON_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout after recovery for a node to save WAL that only it has.
const SAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Result of a history.
#[derive(Debug)]
pub(super) struct ChaosRun {
    /// Observations.
    pub(super) observed: Observations,
    /// Events, in order.
    pub(super) events: Vec<HistoryEvent>,
}

/// Runs a history.
///
/// # Errors
///
/// When it cannot start, or the lab cannot be healed: the platform was not observed then.
pub(super) async fn run_schedule(
    lab: &Arc<Lab>,
    schedule: &FaultSchedule,
) -> anyhow::Result<ChaosRun> {
    let history = History::default();
    let wall_at_zero = clock::wall().saturating_sub(history.now());
    let database = lab.database();
    let writers = Writers::start_with(CONNECTIONS, &database, lab.topology().dns(), &history);
    for spec in &lab.topology().nodes {
        let second = spec.second_host();
        writers.probe(second.label().parse()?, second.postgres());
    }
    let what = "rows to be acknowledged";
    wait::until(what, FIRST_WRITE_TIMEOUT, || async {
        let acknowledging = history.nodes_acknowledging_since(Duration::ZERO);
        (!acknowledging.is_empty())
            .then_some(())
            .ok_or_else(String::new)
    })
    .await?;
    let observer = Observer::start(lab, &history);
    let commands = Tasks::new();
    let result = run_events(lab, schedule, &history, &observer, &commands).await;
    // Commands of an aborted history are stopped too.
    if result.is_err() {
        commands.stop(Duration::ZERO).await;
    }
    let lost = lost_rows(lab, &history).await;
    let unsaved = match &lost {
        Some(lost) => count_unsaved(lab, lost).await,
        None => 0,
    };
    observer.stop().await;
    writers.stop().await;
    result?;
    let mut observations = observer.snapshot();
    observations.rows_lost = lost.as_ref().map(saved_wal::count_rows);
    observations.rows_unsaved = unsaved;
    observations.ended_at = history.now();
    for node in lab.nodes() {
        let text = std::fs::read_to_string(node.agent.log())?;
        let spans = agent_log::problem_spans(&text, wall_at_zero, observations.ended_at);
        observations.logged.insert(node.spec.node.clone(), spans);
    }
    Ok(ChaosRun {
        observed: observations,
        events: history.snapshot().events,
    })
}

/// Runs every event, heals, and waits until the platform has recovered or its time limit has
/// passed.
async fn run_events(
    lab: &Arc<Lab>,
    schedule: &FaultSchedule,
    history: &History,
    observer: &Observer,
    commands: &Tasks,
) -> anyhow::Result<()> {
    let zero = history.now();
    let (running_commands, _) = watch::channel(0_usize);
    for event in &schedule.events {
        time::sleep((zero + event.at).saturating_sub(history.now())).await;
        match event.action {
            ScheduledAction::Break(kind) => inject_fault(lab, history, kind).await,
            ScheduledAction::Heal => heal_lab(lab, history).await?,
            ScheduledAction::Command(command, selection) => {
                let Some(node) = select_node(lab, history, selection) else {
                    continue;
                };
                let lab = Arc::clone(lab);
                let history = history.clone();
                let observer = observer.clone();
                let running_commands = running_commands.clone();
                running_commands.send_modify(|count| *count += 1);
                commands.start("command", |stop| async move {
                    let running =
                        operator_command::run_command(&lab, &history, &observer, command, &node);
                    stop.run_until_cancelled(running).await;
                    running_commands.send_modify(|count| *count -= 1);
                });
            }
        }
    }
    time::sleep((zero + schedule.healed_at).saturating_sub(history.now())).await;
    heal_lab(lab, history).await?;
    running_commands
        .subscribe()
        .wait_for(|count| *count == 0)
        .await?;
    let healed_at = history.record_event("every fault is healed, and no command is running");
    observer.observations().healed_at = healed_at;
    let mut recovered_rounds = 0;
    // Two seconds more, so that the last round within the limit is included.
    while recovered_rounds < RECOVERED_ROUNDS
        && history.now() < healed_at + RECOVERY_TIMEOUT + Duration::from_secs(2)
    {
        time::sleep(Duration::from_millis(700)).await;
        let observations = observer.snapshot();
        recovered_rounds = match &observations.rounds[..] {
            [.., one, two]
                if one.at > healed_at && unrecovered_reason(&observations, one, two).is_none() =>
            {
                recovered_rounds + 1
            }
            _ => 0,
        };
    }
    history.record_event(if recovered_rounds < RECOVERED_ROUNDS {
        "the platform has not recovered"
    } else {
        "the platform has recovered"
    });
    Ok(())
}

async fn inject_fault(lab: &Lab, history: &History, kind: FaultKind) {
    let selection = kind.selection();
    let node = selection.and_then(|selection| select_node(lab, history, selection));
    let selector = NodeSelector { node };
    match lab.break_with(&kind.fault(selector)).await {
        Ok(done) => history.record_event(done),
        // A process that has ended cannot be frozen: the history goes on without the fault.
        Err(error) => history.record_event(format!("{kind} was not possible: {error:#}")),
    };
}

async fn heal_lab(lab: &Lab, history: &History) -> anyhow::Result<()> {
    history.record_event("healing");
    lab.heal().await
}

/// Returns the node that a selection means now.
fn select_node(lab: &Lab, history: &History, selection: ScheduledNode) -> Option<NodeId> {
    let accepted = history.snapshot().accepted;
    let last: BTreeMap<_, _> = accepted
        .iter()
        .map(|(node, at)| (node, at.last()))
        .collect();
    let latest = |node: &&crate::cluster::node::Node| last.get(&node.spec.node).copied().flatten();
    let nodes = lab.nodes();
    let primary = nodes.iter().max_by_key(latest);
    let others = nodes
        .iter()
        .filter(|node| primary.is_none_or(|primary| node.spec.node != primary.spec.node));
    let is_in_other_region = |node: &&crate::cluster::node::Node| {
        primary.is_none_or(|primary| node.spec.region != primary.spec.region)
    };
    let mut others: Vec<_> = others.collect();
    others.sort_by_key(is_in_other_region);
    let found = match selection {
        ScheduledNode::Primary => primary,
        ScheduledNode::Neighbour => others.first().copied(),
        ScheduledNode::Third => others.last().copied(),
    };
    Some(found?.spec.node.clone())
}

/// Returns the acknowledged rows that the primary lacks; `None` without a primary.
async fn lost_rows(lab: &Lab, history: &History) -> Option<LostRows> {
    let tasks = Tasks::new();
    let database = lab.database();
    let comparison = async {
        loop {
            let connected = database.connect_to_primary(Duration::from_secs(5), &tasks);
            if let Ok((_, primary)) = connected.await
                && let Ok(missing) = missing_rows(&primary, history).await
            {
                return missing;
            }
            time::sleep(Duration::from_millis(500)).await;
        }
    };
    let lost = time::timeout(COMPARISON_TIMEOUT, comparison).await.ok();
    tasks.stop(Duration::from_secs(1)).await;
    lost
}

/// Returns the number of lost rows that no node's saved WAL contains. A rejoining node may still be
/// saving.
async fn count_unsaved(lab: &Lab, lost: &LostRows) -> usize {
    let saves: Vec<_> = lab
        .nodes()
        .iter()
        .map(|node| node.spec.state().join("diverged"))
        .collect();
    let deadline = time::Instant::now() + SAVE_TIMEOUT;
    let mut remaining = lost.clone();
    loop {
        let directories = saves.clone();
        let rows = remaining.clone();
        let search =
            tokio::task::spawn_blocking(move || saved_wal::unsaved_rows(&directories, &rows));
        remaining = search.await.unwrap_or(remaining);
        let count = saved_wal::count_rows(&remaining);
        if count == 0 || time::Instant::now() >= deadline {
            return count;
        }
        time::sleep(Duration::from_secs(2)).await;
    }
}
