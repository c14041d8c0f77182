//! Faults of the platform, by the name that `lab break` and a chaos history give them.

mod active_faults;
mod clone;
mod config;
mod disk;
mod heal;
mod replay;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::{NodeId, Region};
use clap::{Args, Subcommand};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub(crate) use self::active_faults::ActiveFaults;
pub(crate) use self::disk::{attach_disks, detach_disks, disks_are_possible};
use crate::Lab;
use crate::aws::s3::ServiceMode;
use crate::cluster::node::Node;
use crate::cluster::postgres::bin_directory;
use crate::cluster::process::{Process, RestartPolicy, signal_inside};
use crate::cluster::program::{Program, RunAs};
use crate::network::proxies::NetworkPath;
use crate::network::proxy::NetworkState;

/// How late each piece arrives on a slow path: twice as long as an idle round trip to another continent,
/// and several of them make a request.
const SLOW_MILLIS: u64 = 700;

/// How late an answer is that comes after its client has given up.
const LATE: Duration = Duration::from_secs(6);

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

    async fn which(&self, lab: &Lab) -> anyhow::Result<NodeId> {
        match &self.node {
            Some(node) => Ok(node.clone()),
            None => lab.wait_for_primary(Duration::from_secs(30)).await,
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

impl Lab {
    /// Breaks something, and says what was broken.
    ///
    /// # Errors
    ///
    /// When it cannot be broken, for instance because it already is.
    pub async fn break_with(&self, fault: &Fault) -> anyhow::Result<String> {
        let Some(on) = fault.on() else {
            return self.break_more_than_a_node(fault).await;
        };
        let name = on.which(self).await?;
        let node = self.node(&name)?;
        let done = match signalled(fault, node)? {
            Some(done) => done,
            None => self.break_node(fault, node).await?,
        };
        Ok(format!("node {name}: {done}"))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each fault is in one of the functions that carry faults out"
    )]
    async fn break_node(&self, fault: &Fault, node: &Node) -> anyhow::Result<&'static str> {
        let name = &node.spec.node;
        let done = match fault {
            Fault::NodeLost(_) => {
                self.proxies
                    .set(NetworkState::Refused, |it| it.touches(name));
                node.lose().await?;
                "its host is gone"
            }
            Fault::NodeSilent(_) => {
                self.proxies
                    .set(NetworkState::Silent, |it| it.touches(name));
                node.lose().await?;
                "its host is gone and says nothing"
            }
            Fault::AgentGone(_) => {
                node.agent.kill().await?;
                "its agent is gone for good"
            }
            Fault::GuardGone(_) => {
                node.guard.kill().await?;
                "its guard is gone for good"
            }
            Fault::PostgresStartedByHand(_) => {
                self.start_by_hand(node).await?;
                "a server is started on its data directory by hand"
            }
            Fault::PostgresCannotStart(_) => {
                self.take_port(node).await?;
                "its postmaster is killed and its port is taken"
            }
            Fault::ConfigurationBroken(_) => {
                config::break_settings(node)?;
                "its configuration is broken and its postmaster killed"
            }
            Fault::ConfigurationRewritten(_) => {
                config::rewrite_settings(node)?;
                "its configuration no longer includes guard's, and guard is killed"
            }
            Fault::ReplaySlow(_) => {
                self.slow_replay(node).await;
                "its replay is slow"
            }
            Fault::ReplayPaused(_) => {
                node.local_query("select pg_wal_replay_pause()").await?;
                "its replay is paused"
            }
            Fault::WalRemoved(_) => {
                self.remove_wal_of(node).await?;
                "its host is gone, and the primary has removed what it needs"
            }
            Fault::DiskFull(_) => {
                self.fill_disk(node).await?;
                "its disk is full"
            }
            Fault::DiskReadOnly(_) => {
                self.freeze_disk(node).await?;
                "its host restarts with a disk that can only be read"
            }
            Fault::NodeCloned(_) => {
                self.clone_node(node).await?;
                "a second host runs with a copy of its disk and settings"
            }
            Fault::LeaseCut(_) => {
                self.proxies
                    .set(NetworkState::Silent, |it| it.is_lease_of(name));
                "it cannot reach the lease"
            }
            Fault::LeaseSlow(_) => {
                let slow = NetworkState::Slow(SLOW_MILLIS);
                self.proxies.set(slow, |it| it.is_lease_of(name));
                "its way to the lease is slow"
            }
            Fault::NodeIsolated(_) => {
                self.proxies.set(NetworkState::Silent, |it| {
                    let between =
                        matches!(it, NetworkPath::Postgres { .. } | NetworkPath::Agent { .. });
                    between && it.touches(name)
                });
                "it neither hears nor reaches another node"
            }
            other => anyhow::bail!("`{other:?}` is no fault of one node"),
        };
        Ok(done)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each fault is in one of the functions that carry faults out"
    )]
    async fn break_more_than_a_node(&self, fault: &Fault) -> anyhow::Result<String> {
        let route53 = &self.route53;
        let third = &self.topology().third;
        let done = match fault {
            Fault::RegionLost(RegionSelector { region }) => {
                let region = region.as_ref().unwrap_or(&self.topology().primary);
                self.lose_region(region).await?;
                return Ok(format!("everything in {region} is gone"));
            }
            Fault::LeaseStoreSlow => {
                let lease = |it: &NetworkPath| matches!(it, NetworkPath::Lease { .. });
                self.proxies.set(NetworkState::Slow(SLOW_MILLIS), lease);
                "S3 that holds the lease is slow"
            }
            Fault::LeaseStoreThrottled => {
                self.store(third)?.behave(ServiceMode::Throttled);
                "S3 that holds the lease refuses two requests of three"
            }
            Fault::LeaseStoreLate => {
                self.store(third)?.behave(ServiceMode::Late(LATE));
                "S3 that holds the lease answers every second request late"
            }
            Fault::DnsSilent => {
                route53.process().signal(Signal::SIGSTOP)?;
                "Route 53 and EC2 do not answer"
            }
            Fault::DnsSlow => {
                route53.behave(Some("slow 3"))?;
                "Route 53 is slow"
            }
            Fault::DnsThrottled => {
                route53.behave(Some("throttled"))?;
                "Route 53 refuses every request"
            }
            Fault::DnsLate => {
                route53.behave(Some("late 12"))?;
                "Route 53 answers late"
            }
            _ => {
                self.store(third)?.stop().await;
                return Ok(format!("S3 in {third}, which holds the lease, is gone"));
            }
        };
        Ok(done.to_owned())
    }

    /// Takes a whole region away.
    ///
    /// # Errors
    ///
    /// When something in it is still there after seconds.
    pub async fn lose_region(&self, region: &Region) -> anyhow::Result<()> {
        let here: Vec<_> = self
            .nodes
            .iter()
            .filter(|it| it.spec.region == *region)
            .collect();
        self.proxies.set(NetworkState::Refused, |path| {
            here.iter().any(|it| path.touches(&it.spec.node))
                || matches!(path, NetworkPath::Backups { to, .. } if to == region)
        });
        let nodes = futures_util::future::try_join_all(here.iter().map(|it| it.lose()));
        let api = async {
            match self.apis.get(region) {
                Some(api) => api.kill().await,
                None => Ok(()),
            }
        };
        let store = self.store(region)?.stop();
        let (nodes, api, ()) = tokio::join!(nodes, api, store);
        nodes?;
        api
    }

    async fn start_by_hand(&self, node: &Node) -> anyhow::Result<()> {
        let spec = &node.spec;
        let name = format!("by-hand-{}", spec.node);
        let program = Program {
            executable: bin_directory()?.join("postgres"),
            arguments: vec!["-D".into(), spec.data().into()],
            environment: BTreeMap::new(),
            run_as: RunAs::Postgres,
            stdin: None,
            log: self.topology().logs().join(format!("{name}.log")),
            name,
        };
        let process = Process::new(program, RestartPolicy::Never, &self.tasks);
        process.start();
        process.was_started(Duration::from_secs(30)).await?;
        self.active_faults.lock().await.by_hand.push(process);
        Ok(())
    }

    fn store(&self, region: &Region) -> anyhow::Result<&crate::aws::s3::S3Server> {
        let found = self.stores.get(region);
        found.with_context(|| format!("there is no S3 in `{region}`"))
    }
}

/// Carries out a fault that is nothing but signals, and says what it did; none for other faults.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "each fault is in one of the functions that carry faults out"
)]
fn signalled(fault: &Fault, node: &Node) -> anyhow::Result<Option<&'static str>> {
    let freeze_postgres = || signal_inside(&node.spec.data(), Signal::SIGSTOP);
    let done = match fault {
        Fault::PostmasterKilled(_) => {
            node.kill_postmaster()?;
            "its postmaster is killed"
        }
        Fault::AgentFrozen(_) => {
            node.agent.signal(Signal::SIGSTOP)?;
            "its agent is frozen"
        }
        Fault::GuardFrozen(_) => {
            node.guard.signal(Signal::SIGSTOP)?;
            "its guard is frozen"
        }
        Fault::AgentAndGuardFrozen(_) => {
            node.agent.signal(Signal::SIGSTOP)?;
            node.guard.signal(Signal::SIGSTOP)?;
            "its agent and guard are frozen"
        }
        Fault::PostgresFrozen(_) => {
            freeze_postgres()?;
            "its PostgreSQL is frozen"
        }
        Fault::AgentAndPostgresFrozen(_) => {
            node.agent.signal(Signal::SIGSTOP)?;
            freeze_postgres()?;
            "its agent and PostgreSQL are frozen"
        }
        Fault::GuardAndPostgresFrozen(_) => {
            node.guard.signal(Signal::SIGSTOP)?;
            freeze_postgres()?;
            "its guard and PostgreSQL are frozen"
        }
        Fault::EverythingFrozen(_) => {
            node.freeze()?;
            "its agent, guard and PostgreSQL are frozen"
        }
        Fault::SupervisorAsleep(_) => {
            node.guard.supervisor_sleeps(true);
            "its supervisor sleeps"
        }
        Fault::HostPaused(_) => {
            node.guard.supervisor_sleeps(true);
            node.freeze()?;
            "everything on its host is frozen"
        }
        Fault::AgentKilled(_) => {
            node.agent.signal(Signal::SIGKILL)?;
            "its agent is killed"
        }
        Fault::AgentRestarted(_) => {
            node.agent.signal(Signal::SIGTERM)?;
            "its agent is told to end"
        }
        Fault::GuardKilled(_) => {
            node.guard.signal(Signal::SIGKILL)?;
            "its guard is killed"
        }
        Fault::GuardRestarted(_) => {
            node.guard.signal(Signal::SIGTERM)?;
            "its guard is told to end"
        }
        Fault::AgentAndGuardKilled(_) => {
            node.agent.signal(Signal::SIGKILL)?;
            node.guard.signal(Signal::SIGKILL)?;
            "its agent and guard are killed"
        }
        _ => return Ok(None),
    };
    Ok(Some(done))
}
