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
use super::checker::{WHOLE_WITHIN, not_whole};
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
const BEGINS_WITHIN: Duration = Duration::from_mins(2);

/// Number of consecutive rounds in which the platform must have recovered.
const WHOLE_FOR: usize = 3;

/// Timeout of the comparison of rows.
const COMPARED_WITHIN: Duration = Duration::from_secs(30);

/// Timeout after recovery for a node to save WAL that only it has.
const SAVED_WITHIN: Duration = Duration::from_secs(30);

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
pub(super) async fn play(lab: &Arc<Lab>, schedule: &FaultSchedule) -> anyhow::Result<ChaosRun> {
    let history = History::default();
    let wall_at_zero = clock::wall().saturating_sub(history.now());
    let database = lab.database();
    let writers = Writers::start_with(CONNECTIONS, &database, lab.topology().dns(), &history);
    for spec in &lab.topology().nodes {
        let second = spec.second_host();
        writers.probe(second.label().parse()?, second.postgres());
    }
    let what = "rows to be acknowledged";
    wait::until(what, BEGINS_WITHIN, || async {
        let acknowledging = history.nodes_acknowledging_since(Duration::ZERO);
        (!acknowledging.is_empty())
            .then_some(())
            .ok_or_else(String::new)
    })
    .await?;
    let observer = Observer::start(lab, &history);
    let commands = Tasks::new();
    let played = events(lab, schedule, &history, &observer, &commands).await;
    // Commands of an aborted history are stopped too.
    if played.is_err() {
        commands.stop(Duration::ZERO).await;
    }
    let lost = lost(lab, &history).await;
    let unsaved = match &lost {
        Some(lost) => unsaved(lab, lost).await,
        None => 0,
    };
    observer.stop().await;
    writers.stop().await;
    played?;
    let mut seen = observer.so_far();
    seen.rows_lost = lost.as_ref().map(saved_wal::count);
    seen.rows_unsaved = unsaved;
    seen.ended_at = history.now();
    for node in lab.nodes() {
        let text = std::fs::read_to_string(node.agent.log())?;
        let spans = agent_log::problems(&text, wall_at_zero, seen.ended_at);
        seen.logged.insert(node.spec.node.clone(), spans);
    }
    Ok(ChaosRun {
        observed: seen,
        events: history.snapshot().events,
    })
}

/// Runs every event, heals, and waits until the platform has recovered or its time limit has
/// passed.
async fn events(
    lab: &Arc<Lab>,
    schedule: &FaultSchedule,
    history: &History,
    observer: &Observer,
    commands: &Tasks,
) -> anyhow::Result<()> {
    let zero = history.now();
    let (under_way, _) = watch::channel(0_usize);
    for event in &schedule.events {
        time::sleep((zero + event.at).saturating_sub(history.now())).await;
        match event.act {
            ScheduledAction::Break(kind) => break_it(lab, history, kind).await,
            ScheduledAction::Heal => heal(lab, history).await?,
            ScheduledAction::Command(order, who) => {
                let Some(node) = which(lab, history, who) else {
                    continue;
                };
                let (lab, history, observer) = (Arc::clone(lab), history.clone(), observer.clone());
                let under_way = under_way.clone();
                under_way.send_modify(|state| *state += 1);
                commands.start("command", |stop| async move {
                    let given = operator_command::give(&lab, &history, &observer, order, &node);
                    stop.run_until_cancelled(given).await;
                    under_way.send_modify(|state| *state -= 1);
                });
            }
        }
    }
    time::sleep((zero + schedule.healed_at).saturating_sub(history.now())).await;
    heal(lab, history).await?;
    under_way.subscribe().wait_for(|state| *state == 0).await?;
    let healed_at = history.record_event("every fault is healed, and no command is running");
    observer.seen().healed_at = healed_at;
    let mut whole = 0;
    // Two seconds more, so that the last round within the limit is included.
    while whole < WHOLE_FOR && history.now() < healed_at + WHOLE_WITHIN + Duration::from_secs(2) {
        time::sleep(Duration::from_millis(700)).await;
        let seen = observer.so_far();
        whole = match &seen.rounds[..] {
            [.., one, two] if one.at > healed_at && not_whole(&seen, one, two).is_none() => {
                whole + 1
            }
            _ => 0,
        };
    }
    history.record_event(if whole < WHOLE_FOR {
        "the platform has not recovered"
    } else {
        "the platform has recovered"
    });
    Ok(())
}

async fn break_it(lab: &Lab, history: &History, kind: FaultKind) {
    let on = kind.who().and_then(|who| which(lab, history, who));
    let on = NodeSelector { node: on };
    match lab.break_with(&kind.fault(on)).await {
        Ok(done) => history.record_event(done),
        // A process that has ended cannot be frozen: the history goes on without the fault.
        Err(error) => history.record_event(format!("{kind} was not possible: {error:#}")),
    };
}

async fn heal(lab: &Lab, history: &History) -> anyhow::Result<()> {
    history.record_event("healing");
    lab.heal().await
}

/// Returns the node that a selection means now.
fn which(lab: &Lab, history: &History, who: ScheduledNode) -> Option<NodeId> {
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
    let near = |node: &&crate::cluster::node::Node| {
        primary.is_none_or(|primary| node.spec.region != primary.spec.region)
    };
    let mut others: Vec<_> = others.collect();
    others.sort_by_key(near);
    let found = match who {
        ScheduledNode::Primary => primary,
        ScheduledNode::Neighbour => others.first().copied(),
        ScheduledNode::Third => others.last().copied(),
    };
    Some(found?.spec.node.clone())
}

/// Returns the acknowledged rows that the primary lacks; `None` without a primary.
async fn lost(lab: &Lab, history: &History) -> Option<LostRows> {
    let tasks = Tasks::new();
    let database = lab.database();
    let comparing = async {
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
    let lost = time::timeout(COMPARED_WITHIN, comparing).await.ok();
    tasks.stop(Duration::from_secs(1)).await;
    lost
}

/// Returns the number of lost rows that no node's saved WAL contains. A rejoining node may still be
/// saving.
async fn unsaved(lab: &Lab, lost: &LostRows) -> usize {
    let saves: Vec<_> = lab
        .nodes()
        .iter()
        .map(|node| node.spec.state().join("diverged"))
        .collect();
    let deadline = time::Instant::now() + SAVED_WITHIN;
    let mut left = lost.clone();
    loop {
        let (saves, before) = (saves.clone(), left.clone());
        let searching = tokio::task::spawn_blocking(move || saved_wal::unsaved(&saves, &before));
        left = searching.await.unwrap_or(left);
        let count = saved_wal::count(&left);
        if count == 0 || time::Instant::now() >= deadline {
            return count;
        }
        time::sleep(Duration::from_secs(2)).await;
    }
}
