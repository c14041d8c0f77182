//! What was seen of the platform during a history. Nothing here looks or judges.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_core::NodeId;
use serde::Serialize;

use crate::workload::checker::TimeSpan;
use crate::workload::history::seconds;

/// Everything that was seen, by the clock of the clients' memory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observations {
    /// All nodes, again and again.
    pub rounds: Vec<ObservationRound>,
    /// When each node acknowledged a write, in order. A second host is a node of its own.
    pub accepted: BTreeMap<NodeId, Vec<Duration>>,
    /// When a row was acknowledged through the API, whose name is found by DNS, in order.
    pub through_api: Vec<Duration>,
    /// What `failover-ctl` stated that may be lost.
    pub stated: Vec<StatedRows>,
    /// What `failover-ctl status` said.
    pub statuses: Vec<StatusObservation>,
    /// What an operator asked for, and was told.
    pub commands: Vec<CommandObservation>,
    /// When a problem stood, as each agent's log tells.
    pub logged: BTreeMap<NodeId, Vec<TimeSpan>>,
    /// How many acknowledged rows the last primary lacks; none if there was no primary.
    pub rows_lost: Option<usize>,
    /// How many of them are in no node's saves of diverged WAL.
    pub rows_unsaved: usize,
    /// When everything was healed, and no command ran any more.
    #[serde(with = "seconds")]
    pub healed_at: Duration,
    /// When it was looked for the last time.
    #[serde(with = "seconds")]
    pub ended_at: Duration,
}

/// All nodes at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ObservationRound {
    /// When.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Each of them.
    pub nodes: BTreeMap<NodeId, ObservedNode>,
}

/// A node at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ObservedNode {
    /// What its agent said; none if it did not answer.
    pub agent: Option<AgentObservation>,
    /// What its server said; none if it did not answer.
    pub server: Option<ServerObservation>,
}

/// What an agent said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AgentObservation {
    /// `role` of its status.
    pub role: String,
    /// The problems that its status names.
    pub problems: Vec<String>,
    /// The problems whose metric is 1.
    pub alerts: Vec<String>,
    /// What else it says of itself, in words.
    pub says: String,
}

/// What a server said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerObservation {
    /// It follows.
    pub in_recovery: bool,
    /// The timeline that it writes or receives; 0 if neither.
    pub timeline: u32,
    /// How far it has written or replayed.
    pub position: u64,
    /// Its walreceiver streams.
    pub receives: bool,
}

/// What was stated that may be lost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StatedRows {
    /// When.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// The most rows.
    pub rows: u64,
}

/// What `failover-ctl status` said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusObservation {
    /// When it had answered.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// For each node why it does not do its part: that it does not answer, or its problems.
    pub reasons: BTreeMap<NodeId, Vec<String>>,
    /// The verdict, as JSON.
    pub verdict: String,
}

/// A command of an operator.
#[derive(Clone, Debug, Serialize)]
pub struct CommandObservation {
    /// What was typed.
    pub typed: String,
    /// What it claims when it ends with 0.
    pub claim: CommandClaim,
    /// When it began.
    #[serde(with = "seconds")]
    pub from: Duration,
    /// When it ended.
    #[serde(with = "seconds")]
    pub to: Duration,
    /// How it ended; none if it had to be ended.
    pub code: Option<i32>,
    /// What it printed.
    pub printed: String,
}

/// What a command claims when it ends with 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandClaim {
    /// Nothing.
    Nothing,
    /// This node is primary and accepts writes.
    Primary(NodeId),
    /// This node streams.
    Streams(NodeId),
    /// No operation is unfinished.
    NothingOpen {
        /// What `failover-ctl history` showed afterwards: the operations that are unfinished.
        left: Vec<String>,
    },
}
