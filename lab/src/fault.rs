//! Faults, by the names of `lab break` and of chaos histories.

mod clone;
mod config;
mod disk;
mod heal;
mod inject;
mod replay;

use causeway_core::{NodeId, Region};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// A fault. It lasts until `heal`, unless the platform recovers from it.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// kill -9 of the postmaster, with guard and agent alive
    PostmasterKilled(NodeSelector),
    /// The host is lost: PostgreSQL, guard and agent end at once, and stay down
    NodeLost(NodeSelector),
    /// The host is lost and its network drops packets, so that connections hang
    NodeSilent(NodeSelector),
    /// SIGSTOP of the agent
    AgentFrozen(NodeSelector),
    /// SIGSTOP of guard
    GuardFrozen(NodeSelector),
    /// SIGSTOP of agent and guard, while PostgreSQL goes on: guard's supervisor ends it
    AgentAndGuardFrozen(NodeSelector),
    /// SIGSTOP of PostgreSQL: it accepts connections and does not respond
    PostgresFrozen(NodeSelector),
    /// SIGSTOP of agent and PostgreSQL
    AgentAndPostgresFrozen(NodeSelector),
    /// SIGSTOP of guard and PostgreSQL
    GuardAndPostgresFrozen(NodeSelector),
    /// SIGSTOP of agent, guard and PostgreSQL, while their supervisor runs
    EverythingFrozen(NodeSelector),
    /// Guard's supervisor ends no silent process: only a watchdog device can fence the node
    SupervisorAsleep(NodeSelector),
    /// SIGSTOP of everything on the host, the supervisor included
    HostPaused(NodeSelector),
    /// kill -9 of the agent; it is restarted
    AgentKilled(NodeSelector),
    /// SIGTERM to the agent, as by an upgrade; it is restarted
    AgentRestarted(NodeSelector),
    /// The agent ends and is not restarted
    AgentGone(NodeSelector),
    /// kill -9 of guard; it is restarted
    GuardKilled(NodeSelector),
    /// SIGTERM to guard, as by an upgrade; it is restarted
    GuardRestarted(NodeSelector),
    /// Guard ends and is not restarted
    GuardGone(NodeSelector),
    /// kill -9 of agent and guard at once; both are restarted
    AgentAndGuardKilled(NodeSelector),
    /// A server is started on the node's data directory without guard
    PostgresStartedByHand(NodeSelector),
    /// The postmaster is killed, and another program takes its port
    PostgresCannotStart(NodeSelector),
    /// postgresql.conf gets an invalid line, and the postmaster is killed
    ConfigurationBroken(NodeSelector),
    /// postgresql.conf loses the line that includes guard's settings, and guard is killed
    ConfigurationRewritten(NodeSelector),
    /// Replay advances for 3.5 % of the time
    ReplaySlow(NodeSelector),
    /// Replay is paused by a function call
    ReplayPaused(NodeSelector),
    /// The host is lost, and the primary removes WAL that the node needs
    WalRemoved(NodeSelector),
    /// The node's disk is full
    DiskFull(NodeSelector),
    /// The host restarts, and the node's disk is read-only
    DiskReadOnly(NodeSelector),
    /// A second host runs with a copy of the node's disk and settings
    NodeCloned(NodeSelector),
    /// The node cannot reach the lease store
    LeaseCut(NodeSelector),
    /// Traffic between the node and the lease store is delayed by 0.7 s
    LeaseSlow(NodeSelector),
    /// The node is cut off from the other nodes, and not from the lease store and clients
    NodeIsolated(NodeSelector),
    /// No node can reach the lease store
    LeaseStoreDown,
    /// Traffic between every node and the lease store is delayed by 0.7 s
    LeaseStoreSlow,
    /// The lease store rejects two requests of three with 503 Slow Down
    LeaseStoreThrottled,
    /// The lease store carries every second request out and responds 6 s later
    LeaseStoreLate,
    /// No node can reach a backup bucket
    BucketsDown,
    /// Route 53 and EC2 do not respond
    DnsSilent,
    /// Route 53 responds after 3 s
    DnsSlow,
    /// Route 53 rejects every request with Throttling
    DnsThrottled,
    /// Route 53 carries a change out and responds 12 s later
    DnsLate,
    /// A region is lost: its nodes, S3 and API
    RegionLost(RegionSelector),
}

/// Which node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct NodeSelector {
    /// The node; the primary unless given
    #[arg(long)]
    pub node: Option<NodeId>,
}

/// Which region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct RegionSelector {
    /// The region; the one with automatic failover unless given
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
            | Self::BucketsDown
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
        // Serialized, a fault without a target is a string, and one with a target an object with one key.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(value) => {
                let key = value.as_object().and_then(|fields| fields.keys().next());
                key.cloned().unwrap_or_else(|| value.to_string())
            }
            Err(error) => format!("fault without a name: {error}"),
        }
    }
}
