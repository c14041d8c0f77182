//! Observer: polls every node during a history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use causeway_core::Lsn;
use causeway_runtime::shutdown::Tasks;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::observations::{
    AgentObservation, ObservationRound, Observations, ObservedNode, ServerObservation, StatedRows,
    StatusObservation,
};
use crate::cluster::node::Node;
use crate::lab::Lab;
use crate::workload::history::{History, WritePath};

/// Interval between two rounds over the nodes.
const ROUND_INTERVAL: Duration = Duration::from_millis(700);

/// Interval between two runs of `failover-ctl status`.
const STATUS_INTERVAL: Duration = Duration::from_secs(4);

/// Timeout of a query on a server.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// Timeout of `failover-ctl status`.
const STATUS_TIMEOUT: Duration = Duration::from_mins(1);

/// State of a server: recovery, timeline, LSN and walreceiver.
const SERVER_STATE_QUERY: &str = "\
select pg_is_in_recovery(),
       case when pg_is_in_recovery() then coalesce((select received_tli from pg_stat_wal_receiver), 0)
            else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end,
       coalesce((select status from pg_stat_wal_receiver), '') = 'streaming'";

/// Observations of a running history, and the tasks that collect them.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    lab: Arc<Lab>,
    history: History,
    seen: Arc<Mutex<Observations>>,
    tasks: Tasks,
}

impl Observer {
    /// Starts the tasks.
    pub(crate) fn start(lab: &Arc<Lab>, history: &History) -> Self {
        let observer = Self {
            lab: Arc::clone(lab),
            history: history.clone(),
            seen: Arc::default(),
            tasks: Tasks::new(),
        };
        let rounds = observer.clone();
        let statuses = observer.clone();
        observer
            .tasks
            .start("observer", |stop| rounds.poll_nodes(stop));
        observer
            .tasks
            .start("status", |stop| statuses.poll_status(stop));
        observer
    }

    /// Stops the tasks.
    pub(crate) async fn stop(&self) {
        self.tasks.stop(Duration::from_secs(2)).await;
    }

    /// Locks the observations.
    pub(crate) fn observations(&self) -> MutexGuard<'_, Observations> {
        // A panic leaves them valid: they are only appended to.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the observations, with the times of acknowledged writes.
    pub(crate) fn snapshot(&self) -> Observations {
        let mut observed = self.observations().clone();
        let snapshot = self.history.snapshot();
        observed.accepted = snapshot.accepted;
        let by_api = snapshot
            .acknowledged
            .iter()
            .filter(|row| row.path == WritePath::Api);
        observed.through_api = by_api.map(|row| row.at).collect();
        observed
    }

    async fn poll_nodes(self, stop: CancellationToken) {
        let mut pace = time::interval(ROUND_INTERVAL);
        pace.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            let observing = self.lab.nodes().iter().map(|node| async {
                let (agent, server) = tokio::join!(observe_agent(node), observe_server(node));
                (node.spec.node.clone(), ObservedNode { agent, server })
            });
            let Some(nodes) = stop.run_until_cancelled(join_all(observing)).await else {
                return;
            };
            let round = ObservationRound {
                at: self.history.now(),
                nodes: nodes.into_iter().collect(),
            };
            self.observations().rounds.push(round);
        }
    }

    async fn poll_status(self, stop: CancellationToken) {
        loop {
            let recorded = stop.run_until_cancelled(self.record_status()).await;
            let paused = stop.run_until_cancelled(time::sleep(STATUS_INTERVAL)).await;
            if recorded.is_none() || paused.is_none() {
                return;
            }
        }
    }

    async fn record_status(&self) {
        let status = self.lab.programs().failover_ctl(&["status", "--json"]);
        let output = status.run(None, STATUS_TIMEOUT).await;
        let at = self.history.now();
        let parsed = output.and_then(|output| Ok(serde_json::from_str::<Value>(&output)?));
        let Ok(status) = parsed else {
            self.observations().statuses.push(StatusObservation {
                at,
                ..StatusObservation::default()
            });
            return;
        };
        let mut seen = self.observations();
        if let Some(rows) = status
            .pointer("/failover_forecast/data_loss/rows_at_most")
            .and_then(Value::as_u64)
        {
            seen.stated.push(StatedRows { at, rows });
        }
        seen.statuses.push(parse_status(at, &status));
    }
}

/// Parses the output of `failover-ctl status --json`.
fn parse_status(at: Duration, status: &Value) -> StatusObservation {
    let nodes = status.get("nodes").and_then(Value::as_array);
    let reasons = nodes.into_iter().flatten().filter_map(|entry| {
        let node = entry.get("node")?.as_str()?.parse().ok()?;
        if entry.get("responding").and_then(Value::as_bool) != Some(true) {
            return Some((node, vec!["no response".to_owned()]));
        }
        let problems = problems(entry.get("status")?);
        (!problems.is_empty()).then_some((node, problems))
    });
    StatusObservation {
        at,
        reasons: reasons.collect(),
        forecast: status
            .get("failover_forecast")
            .unwrap_or(&Value::Null)
            .to_string(),
    }
}

async fn observe_agent(node: &Node) -> Option<AgentObservation> {
    let (status, metrics) = tokio::join!(node.status(), node.get("/metrics"));
    let status = status.ok()?;
    // Without metrics the agent is observed with no alert, which the checker counts as a violation.
    let alerts = match metrics {
        Ok(metrics) => alerts(&String::from_utf8_lossy(&metrics)),
        Err(_) => Vec::new(),
    };
    let text = |field: &str| match status.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    Some(AgentObservation {
        role: text("role"),
        problems: problems(&status),
        alerts,
        details: [text("standby_setup"), text("decision")].join(" "),
    })
}

/// Returns the problems in an agent's status.
fn problems(status: &Value) -> Vec<String> {
    let listed = status.get("problems").and_then(Value::as_array);
    let problems = listed.into_iter().flatten();
    problems
        .filter_map(|problem| Some(problem.get("problem")?.as_str()?.to_owned()))
        .collect()
}

/// Returns the problems whose metric is 1.
fn alerts(metrics: &str) -> Vec<String> {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("failover_problem{") && line.ends_with("} 1"));
    lines
        .filter_map(|line| {
            Some(
                line.split_once("problem=\"")?
                    .1
                    .split_once('"')?
                    .0
                    .to_owned(),
            )
        })
        .collect()
}

async fn observe_server(node: &Node) -> Option<ServerObservation> {
    let row = crate::cluster::sql::row(&node.spec, SERVER_STATE_QUERY, TIMEOUT)
        .await
        .ok()??;
    let position: Lsn = row.get(2)?.parse().ok()?;
    Some(ServerObservation {
        in_recovery: row.get(0)? == "t",
        timeline: row.get(1)?.parse().ok()?,
        position: position.get(),
        receives: row.get(3)? == "t",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_then_problems_with_value_1() {
        let metrics = "\
# HELP failover_problem 1 while\n\
failover_problem{cluster=\"lab\",node=\"a\",problem=\"guard-unresponsive\",region=\"r\",zone=\"z\"} 1\n\
failover_problem{cluster=\"lab\",node=\"a\",problem=\"no-holder\",region=\"r\",zone=\"z\"} 0\n";
        assert_eq!(alerts(metrics), ["guard-unresponsive"]);
    }

    #[test]
    fn status_then_reason_by_node_out_of_service() {
        let status = serde_json::json!({
            "nodes": [
                {"node": "a", "responding": false, "status": null},
                {"node": "b", "responding": true, "status": {"problems": []}},
                {"node": "c", "responding": true, "status": {"problems": [{"problem": "diverged"}]}},
            ],
            "failover_forecast": {"outcome": "no-candidate"},
        });
        let seen = parse_status(Duration::ZERO, &status);
        let reasons: Vec<_> = seen.reasons.into_values().flatten().collect();
        assert_eq!(reasons, ["no response", "diverged"]);
    }
}
