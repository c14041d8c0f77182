//! `failover-ctl status`: primary, epoch, time left of the lease, and lag of each standby.

use causeway_core::lease::LeaseRecord;
use causeway_runtime::byte_size;
use serde::Serialize;

use crate::clients::agents::AgentClient;
use crate::clients::lease_store::LeaseStore;
use crate::config::Settings;
use crate::error::Error;
use crate::operator::cluster_view::{self, ClusterView, FailoverForecast};
use crate::output;
use crate::protocol::guard::WatchdogState;
use crate::protocol::node_status::{GuardStatus, NodeStatus, ProblemStatus};

/// Complete status, for `--json`.
#[derive(Serialize)]
struct StatusOutput<'a> {
    format: u32,
    cluster: &'a str,
    lease: Option<&'a LeaseRecord>,
    lease_store: Option<&'a str>,
    nodes: Vec<NodeRow<'a>>,
    failover_forecast: FailoverForecast,
    /// Pages of the repository for what is wrong.
    runbooks: Vec<String>,
}

#[derive(Serialize)]
struct NodeRow<'a> {
    node: &'a str,
    region: &'a str,
    zone: &'a str,
    responding: bool,
    /// Reason why its response is rejected; none if it is used.
    mismatch: Option<String>,
    behind_bytes: Option<u64>,
    behind_secs: Option<f64>,
    status: Option<&'a NodeStatus>,
}

/// Prints the cluster's status.
pub(crate) async fn run(settings: &Settings, json: bool) -> Result<(), Error> {
    let store = LeaseStore::open(settings).await;
    let cluster = cluster_view::read(settings, &store, &AgentClient::new(settings)).await;
    if json {
        let text =
            serde_json::to_string_pretty(&build_output(&cluster)).map_err(anyhow::Error::from)?;
        output::print_data(&text);
    } else {
        output::print_data(&table(&cluster));
    }
    Ok(())
}

fn build_output<'a>(cluster: &'a ClusterView<'_>) -> StatusOutput<'a> {
    let row = |(node, status): &'a (&crate::config::NodeSettings, Option<NodeStatus>)| NodeRow {
        node: node.name.as_str(),
        region: node.region.as_str(),
        zone: &node.zone,
        responding: status.is_some() || cluster.mismatches.contains_key(&node.name),
        mismatch: cluster.mismatches.get(&node.name).map(ToString::to_string),
        behind_bytes: status
            .as_ref()
            .and_then(|status| behind_bytes(cluster, status)),
        behind_secs: status
            .as_ref()
            .and_then(|status| behind_secs(cluster, status)),
        status: status.as_ref(),
    };
    StatusOutput {
        format: 1,
        cluster: &cluster.settings.cluster,
        lease: cluster.record(),
        lease_store: cluster.lease.as_ref().err().map(String::as_str),
        nodes: cluster.nodes.iter().map(row).collect(),
        failover_forecast: cluster.forecast(),
        runbooks: cluster.runbooks(),
    }
}

/// Returns the lag of a standby behind the primary, or behind the primary's last recorded position, in bytes.
fn behind_bytes(cluster: &ClusterView<'_>, node: &NodeStatus) -> Option<u64> {
    let own = node.progress?;
    let written = cluster
        .primary()
        .and_then(|status| status.wal_position)
        .map(|position| position.flush_lsn);
    let recorded = cluster
        .record()
        .and_then(|record| record.last_position)
        .map(|position| position.flush_lsn);
    Some(written.or(recorded)?.bytes_since(own.replayed_lsn))
}

/// Returns the time between the primary's last commit and the last one replayed, both by the primary's clock, in
/// seconds. The primary's write probe commits once a second.
fn behind_secs(cluster: &ClusterView<'_>, node: &NodeStatus) -> Option<f64> {
    let replayed = node
        .replayed_commit_at_micros
        .filter(|_| node.progress.is_some())?;
    let written = cluster
        .primary()
        .and_then(|status| status.wal_position)
        .map(|position| position.last_commit_at_micros);
    let recorded = cluster
        .record()
        .and_then(|record| record.last_position)
        .map(|position| position.last_commit_at_micros);
    let micros = written.or(recorded)?.saturating_sub(replayed);
    Some(std::time::Duration::from_micros(micros).as_secs_f64())
}

const HEAD: [&str; 12] = [
    "NODE", "REGION", "ZONE", "ROLE", "STATE", "TIMELINE", "RECEIVED", "REPLAYED", "BEHIND", "LAG",
    "LEASE", "GUARD",
];

fn table(cluster: &ClusterView<'_>) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(
        cluster
            .nodes
            .iter()
            .map(|(node, status)| row(cluster, node, status.as_ref())),
    );
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&lease_line(cluster));
    text.push('\n');
    for line in problem_lines(cluster) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&forecast_line(&cluster.forecast()));
    for page in cluster.runbooks() {
        text.push_str("\nrunbook: ");
        text.push_str(&page);
    }
    text
}

fn row(
    cluster: &ClusterView<'_>,
    node: &crate::config::NodeSettings,
    status: Option<&NodeStatus>,
) -> [String; 12] {
    let dash = || "-".to_owned();
    let (name, region, zone) = (
        node.name.to_string(),
        node.region.to_string(),
        node.zone.clone(),
    );
    let Some(status) = status else {
        let silent = match cluster.mismatches.get(&node.name) {
            Some(_) => "not used".to_owned(),
            None => "no answer".to_owned(),
        };
        return [
            name,
            region,
            zone,
            dash(),
            silent,
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
        ];
    };
    let timeline = status
        .wal_position
        .map(|position| position.timeline)
        .or(status.progress.map(|progress| progress.timeline));
    let received = status
        .wal_position
        .map(|position| position.flush_lsn)
        .or(status.progress.map(|progress| progress.received_lsn));
    let replayed = status.progress.map(|progress| progress.replayed_lsn);
    let lease = status
        .lease
        .as_ref()
        .map_or_else(dash, |lease| format!("epoch {}", lease.record.epoch));
    let guard = guard_cell(&status.guard);
    [
        name,
        region,
        zone,
        status.role.to_string(),
        state(status),
        timeline.map_or_else(dash, |timeline| timeline.to_string()),
        received.map_or_else(dash, |lsn| lsn.to_string()),
        replayed.map_or_else(dash, |lsn| lsn.to_string()),
        behind_bytes(cluster, status).map_or_else(dash, byte_size::format),
        behind_secs(cluster, status).map_or_else(dash, |secs| format!("{secs:.1} s")),
        lease,
        guard,
    ]
}

/// Returns whether the guard has a deadline, and the state of its watchdog device if it has one.
fn guard_cell(guard: &GuardStatus) -> String {
    let deadline = match (guard.responding, guard.remaining_secs) {
        (false, _) => return "unresponsive".to_owned(),
        (true, left) if left > 0.0 => format!("armed {left:.1} s"),
        (true, _) => "not armed".to_owned(),
    };
    match guard.watchdog {
        WatchdogState::NotConfigured => deadline,
        WatchdogState::Armed => format!("{deadline}, watchdog armed"),
        WatchdogState::Failed(_) => format!("{deadline}, watchdog FAILED"),
    }
}

fn state(status: &NodeStatus) -> String {
    if let Some(busy) = &status.standby_setup {
        return busy.clone();
    }
    let text = match status.role {
        crate::protocol::node_status::NodeRole::Primary => "writable",
        crate::protocol::node_status::NodeRole::Promoting => "taking over",
        crate::protocol::node_status::NodeRole::Standby if status.streaming => "streaming",
        crate::protocol::node_status::NodeRole::Standby => "not streaming",
        crate::protocol::node_status::NodeRole::Stopped => "stopped",
    };
    text.to_owned()
}

fn lease_line(cluster: &ClusterView<'_>) -> String {
    let mut line = match &cluster.lease {
        Err(why) => format!("lease store: {why}\n"),
        Ok(_) => String::new(),
    };
    let Some(record) = cluster.record() else {
        line.push_str("lease: none; run `failover-ctl init` on the node that has the database");
        return line;
    };
    let oldest = cluster
        .statuses()
        .filter_map(|status| status.lease.as_ref())
        .filter(|lease| lease.record.epoch == record.epoch)
        .map(|lease| lease.age_secs);
    let age = oldest.fold(0.0, f64::max);
    let left = (cluster.settings.timing.lease_duration.as_secs_f64() - age).max(0.0);
    let (epoch, holder, state) = (record.epoch, &record.holder.node, record.state);
    format!(
        "{line}lease: epoch {epoch}, `{holder}`, {state}, expires in at most {left:.1} s unless renewed"
    )
}

/// Returns the problems of each node, one per line.
fn problem_lines(cluster: &ClusterView<'_>) -> Vec<String> {
    let mismatches = cluster
        .mismatches
        .iter()
        .map(|(node, why)| format!("problem on {node}: not used: {why}"));
    let problems = cluster.statuses().flat_map(|status| {
        let line = |problem: &ProblemStatus| {
            let secs = problem.since_secs;
            let (kind, detail) = (problem.problem, &problem.detail);
            format!(
                "problem on {}: {kind} for {secs:.0} s: {detail}",
                status.node
            )
        };
        status.problems.iter().map(line).collect::<Vec<_>>()
    });
    mismatches.chain(problems).collect()
}

fn forecast_line(forecast: &FailoverForecast) -> String {
    match forecast {
        FailoverForecast::Automatic {
            node,
            behind_bytes,
            data_loss,
        } => format!(
            "if the primary were lost now: `{node}` would take over automatically, {} behind, possible \
             data loss {data_loss}",
            byte_size::format(*behind_bytes)
        ),
        FailoverForecast::Manual {
            node,
            data_loss,
            why,
        } => format!(
            "if the primary were lost now: no node would take over automatically; `failover-ctl promote --to {node}` \
             has a possible data loss of {data_loss}\n  {why}"
        ),
        FailoverForecast::NoCandidate { why } => {
            format!("if the primary were lost now: NO NODE could take over: {why}")
        }
    }
}
