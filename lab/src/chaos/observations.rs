//! Observations of the platform during a history, as data.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_core::NodeId;
use serde::Serialize;

use crate::workload::checker::TimeSpan;
use crate::workload::history::seconds;

/// All observations, on the clock of the clients' history.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observations {
    /// Rounds over all nodes, in order.
    pub rounds: Vec<ObservationRound>,
    /// Times at which each node acknowledged a write, in order. A second host counts as a node.
    pub accepted: BTreeMap<NodeId, Vec<Duration>>,
    /// Times at which the API, found by DNS, acknowledged a row, in order.
    pub through_api: Vec<Duration>,
    /// Data losses stated by `failover-ctl`.
    pub stated: Vec<StatedRows>,
    /// Outputs of `failover-ctl status`.
    pub statuses: Vec<StatusObservation>,
    /// Commands of the operator, with their results.
    pub commands: Vec<CommandObservation>,
    /// Spans of the problems in each agent's log.
    pub logged: BTreeMap<NodeId, Vec<TimeSpan>>,
    /// Number of acknowledged rows that the last primary lacks; `None` without a primary.
    pub rows_lost: Option<usize>,
    /// Number of lost rows that no node's saved WAL contains.
    pub rows_unsaved: usize,
    /// Time at which every fault was healed and every command had ended.
    #[serde(with = "seconds")]
    pub healed_at: Duration,
    /// Time of the last observation.
    #[serde(with = "seconds")]
    pub ended_at: Duration,
}

/// All nodes in one round.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ObservationRound {
    /// Time of the round.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Observations by node.
    pub nodes: BTreeMap<NodeId, ObservedNode>,
}

/// Node in one round.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ObservedNode {
    /// Agent; `None` if it did not respond.
    pub agent: Option<AgentObservation>,
    /// PostgreSQL; `None` if it did not respond.
    pub server: Option<ServerObservation>,
}

/// State of an agent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AgentObservation {
    /// `role` of its status.
    pub role: String,
    /// Problems in its status.
    pub problems: Vec<String>,
    /// Problems whose metric is 1.
    pub alerts: Vec<String>,
    /// Standby setup and decision in its status.
    pub details: String,
}

/// State of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerObservation {
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// Timeline that it writes or receives; 0 if neither.
    pub timeline: u32,
    /// LSN that it has written or replayed.
    pub position: u64,
    /// Whether its walreceiver streams.
    pub receives: bool,
}

/// Stated data loss.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StatedRows {
    /// Time of the statement.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Maximum number of lost rows.
    pub rows: u64,
}

/// Output of `failover-ctl status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusObservation {
    /// Time of the output.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Reasons by node out of service: no response, or its problems.
    pub reasons: BTreeMap<NodeId, Vec<String>>,
    /// Failover forecast, as JSON.
    pub forecast: String,
}

/// Command of an operator.
#[derive(Clone, Debug, Serialize)]
pub struct CommandObservation {
    /// Arguments of `failover-ctl`.
    pub command_line: String,
    /// Claim of a successful command.
    pub claim: CommandClaim,
    /// Start time.
    #[serde(with = "seconds")]
    pub from: Duration,
    /// End time.
    #[serde(with = "seconds")]
    pub to: Duration,
    /// Exit code; `None` if the command exceeded its timeout.
    pub code: Option<i32>,
    /// Output.
    pub output: String,
}

/// Claim of a command that exits with 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandClaim {
    /// No claim.
    Nothing,
    /// This node is primary and accepts writes.
    Primary(NodeId),
    /// This node streams.
    Streams(NodeId),
    /// No operation is unfinished.
    NoneUnfinished {
        /// Unfinished operations in `failover-ctl history` afterwards.
        unfinished: Vec<String>,
    },
}
