//! Plays a history on a lab, and returns what was seen.

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

/// How many connections each of the writers has: a quarter of what the stories write, since two labs share
/// a machine of two cores.
const CONNECTIONS: u64 = 1;

/// How long the clients may take until they write.
const BEGINS_WITHIN: Duration = Duration::from_mins(2);

/// For how many looks on end the platform has to be whole.
const WHOLE_FOR: usize = 3;

/// How long it may take to compare the rows.
const COMPARED_WITHIN: Duration = Duration::from_secs(30);

/// How long after the platform is whole a node may take to save what only it has.
const SAVED_WITHIN: Duration = Duration::from_secs(30);

/// A history that was played.
#[derive(Debug)]
pub(super) struct ChaosRun {
    /// What was seen.
    pub(super) observed: Observations,
    /// What happened.
    pub(super) events: Vec<HistoryEvent>,
}

/// Plays a history.
///
/// # Errors
///
/// When it cannot begin, or the lab cannot be healed: nothing is known of the platform then.
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
    // Also what could not be played to its end is ended.
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

/// Lets everything happen, heals, and waits until the platform is whole or has had its time.
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
    let healed_at = history.record_event("everything is healed, and no command runs");
    observer.seen().healed_at = healed_at;
    let mut whole = 0;
    // Two looks longer, so that the last look in time is among them.
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
        "it is not whole"
    } else {
        "it is whole"
    });
    Ok(())
}

async fn break_it(lab: &Lab, history: &History, kind: FaultKind) {
    let on = kind.who().and_then(|who| which(lab, history, who));
    let on = NodeSelector { node: on };
    match lab.break_with(&kind.fault(on)).await {
        Ok(done) => history.record_event(done),
        // A process that is gone cannot be frozen: that is a history too.
        Err(error) => history.record_event(format!("{kind} was not possible: {error:#}")),
    };
}

async fn heal(lab: &Lab, history: &History) -> anyhow::Result<()> {
    history.record_event("healing");
    lab.heal().await
}

/// Returns which node is meant now.
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

/// Returns the acknowledged rows that the primary lacks; none if there is no primary.
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

/// Returns how many lost rows are in no node's saves. A node that follows may still be saving.
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
