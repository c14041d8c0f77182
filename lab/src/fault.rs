//! Faults of the platform, by the name that `lab break` and a chaos history give them.

mod clone;
mod config;
mod disk;
mod heal;
mod inject;
mod replay;

use causeway_core::{NodeId, Region};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// One thing that goes wrong. It stays wrong until `heal`, except where the platform itself puts it
/// right.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// kill -9 of the postmaster, with guard and the agent alive
    PostmasterKilled(NodeSelector),
    /// The host is gone: PostgreSQL, guard and agent end at once, and stay away
    NodeLost(NodeSelector),
    /// The host is gone and its network drops packets, so that connections to it hang
    NodeSilent(NodeSelector),
    /// SIGSTOP of the agent
    AgentFrozen(NodeSelector),
    /// SIGSTOP of guard
    GuardFrozen(NodeSelector),
    /// SIGSTOP of agent and guard, so that PostgreSQL writes on: what guard's supervisor answers
    AgentAndGuardFrozen(NodeSelector),
    /// SIGSTOP of PostgreSQL: it accepts connections and answers nothing
    PostgresFrozen(NodeSelector),
    /// SIGSTOP of agent and PostgreSQL
    AgentAndPostgresFrozen(NodeSelector),
    /// SIGSTOP of guard and PostgreSQL
    GuardAndPostgresFrozen(NodeSelector),
    /// SIGSTOP of agent, guard and PostgreSQL; their supervisor is awake
    EverythingFrozen(NodeSelector),
    /// Guard's supervisor ends nothing that is silent: what only a watchdog device can answer
    SupervisorAsleep(NodeSelector),
    /// SIGSTOP of everything on the host, supervisor and all
    HostPaused(NodeSelector),
    /// kill -9 of the agent; it is started again
    AgentKilled(NodeSelector),
    /// SIGTERM to the agent, as by an upgrade; it is started again
    AgentRestarted(NodeSelector),
    /// The agent ends and is not started again
    AgentGone(NodeSelector),
    /// kill -9 of guard; it is started again
    GuardKilled(NodeSelector),
    /// SIGTERM to guard, as by an upgrade; it is started again
    GuardRestarted(NodeSelector),
    /// Guard ends and is not started again
    GuardGone(NodeSelector),
    /// kill -9 of agent and guard at once; both are started again
    AgentAndGuardKilled(NodeSelector),
    /// A server is started on the node's data directory, and not by guard
    PostgresStartedByHand(NodeSelector),
    /// The postmaster is killed, and another program has taken its port
    PostgresCannotStart(NodeSelector),
    /// postgresql.conf is given a line that PostgreSQL refuses, and the postmaster is killed
    ConfigurationBroken(NodeSelector),
    /// postgresql.conf is written without the line that includes guard's, and guard is killed
    ConfigurationRewritten(NodeSelector),
    /// Replay advances for 3.5 % of the time
    ReplaySlow(NodeSelector),
    /// Replay is paused by a function call
    ReplayPaused(NodeSelector),
    /// The host is gone, and the primary removes WAL that the node needs
    WalRemoved(NodeSelector),
    /// The node's disk has no room left
    DiskFull(NodeSelector),
    /// The host restarts, and the node's disk can only be read
    DiskReadOnly(NodeSelector),
    /// A second host runs with a copy of the node's disk and settings
    NodeCloned(NodeSelector),
    /// The node cannot reach the lease's store
    LeaseCut(NodeSelector),
    /// Each piece between the node and the lease's store arrives 0.7 s late
    LeaseSlow(NodeSelector),
    /// The node hears and reaches no other node, but the lease's store and clients
    NodeIsolated(NodeSelector),
    /// Nobody can reach the lease's store
    LeaseStoreDown,
    /// Each piece between any node and the lease's store arrives 0.7 s late
    LeaseStoreSlow,
    /// The lease's store refuses two requests of three with 503 Slow Down
    LeaseStoreThrottled,
    /// The lease's store carries every second request out and answers 6 s later
    LeaseStoreLate,
    /// Route 53 and EC2 do not answer
    DnsSilent,
    /// Route 53 answers after 3 s
    DnsSlow,
    /// Route 53 refuses every request with Throttling
    DnsThrottled,
    /// Route 53 carries a change out and answers 12 s later
    DnsLate,
    /// Everything in a region is gone: nodes, S3, and the API
    RegionLost(RegionSelector),
}

/// Which node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct NodeSelector {
    /// The node; the primary unless one is named
    #[arg(long)]
    pub node: Option<NodeId>,
}

/// Which region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct RegionSelector {
    /// The region; the one whose nodes take over by themselves, unless another is named
    #[arg(long)]
    pub region: Option<Region>,
}

impl NodeSelector {
    /// Names one node.
    pub fn node(node: &NodeId) -> Self {
        Self {
            node: Some(node.clone()),
        }
    }
}

impl Fault {
    /// Returns the node that it names, for a fault of one node.
    pub fn on(&self) -> Option<&NodeSelector> {
        match self {
            Self::PostmasterKilled(on)
            | Self::NodeLost(on)
            | Self::NodeSilent(on)
            | Self::AgentFrozen(on)
            | Self::GuardFrozen(on)
            | Self::AgentAndGuardFrozen(on)
            | Self::PostgresFrozen(on)
            | Self::AgentAndPostgresFrozen(on)
            | Self::GuardAndPostgresFrozen(on)
            | Self::EverythingFrozen(on)
            | Self::SupervisorAsleep(on)
            | Self::HostPaused(on)
            | Self::AgentKilled(on)
            | Self::AgentRestarted(on)
            | Self::AgentGone(on)
            | Self::GuardKilled(on)
            | Self::GuardRestarted(on)
            | Self::GuardGone(on)
            | Self::AgentAndGuardKilled(on)
            | Self::PostgresStartedByHand(on)
            | Self::PostgresCannotStart(on)
            | Self::ConfigurationBroken(on)
            | Self::ConfigurationRewritten(on)
            | Self::ReplaySlow(on)
            | Self::ReplayPaused(on)
            | Self::WalRemoved(on)
            | Self::DiskFull(on)
            | Self::DiskReadOnly(on)
            | Self::NodeCloned(on)
            | Self::LeaseCut(on)
            | Self::LeaseSlow(on)
            | Self::NodeIsolated(on) => Some(on),
            Self::LeaseStoreDown
            | Self::LeaseStoreSlow
            | Self::LeaseStoreThrottled
            | Self::LeaseStoreLate
            | Self::DnsSilent
            | Self::DnsSlow
            | Self::DnsThrottled
            | Self::DnsLate
            | Self::RegionLost(_) => None,
        }
    }
}

impl Fault {
    /// Returns its name, as `lab break` takes it.
    pub fn name(&self) -> String {
        // What serde calls it: the name alone, or an object whose only key it is.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(serde_json::Value::Object(of)) => of.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }
}
