//! What can go wrong, and how it is put right.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use ha_core::{NodeId, Region};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::Lab;
use crate::link::Condition;
use crate::links::Path;
use crate::node::Node;
use crate::postgres::bin_directory;
use crate::process::{Process, Restart, signal_inside};
use crate::program::{Program, RunAs};

/// One thing that goes wrong. It stays wrong until `heal`, except where the platform itself puts it
/// right.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// kill -9 of the postmaster, with guard and the agent alive
    PostmasterKilled(On),
    /// The host is gone: PostgreSQL, guard and agent end at once, and stay away
    NodeLost(On),
    /// The host is gone and its network drops packets, so that connections to it hang
    NodeSilent(On),
    /// SIGSTOP of the agent
    AgentFrozen(On),
    /// SIGSTOP of guard
    GuardFrozen(On),
    /// SIGSTOP of agent and guard, so that PostgreSQL writes on: what guard's supervisor answers
    AgentAndGuardFrozen(On),
    /// SIGSTOP of guard and PostgreSQL
    GuardAndPostgresFrozen(On),
    /// SIGSTOP of agent, guard and PostgreSQL; their supervisor is awake
    EverythingFrozen(On),
    /// Guard's supervisor ends nothing that is silent: what only a watchdog device can answer
    SupervisorAsleep(On),
    /// SIGSTOP of PostgreSQL: it accepts connections and answers nothing
    PostgresFrozen(On),
    /// SIGSTOP of everything on the host, supervisor and all
    HostPaused(On),
    /// kill -9 of the agent; it is started again
    AgentKilled(On),
    /// SIGTERM to the agent, as by an upgrade; it is started again
    AgentRestarted(On),
    /// kill -9 of guard; it is started again
    GuardKilled(On),
    /// kill -9 of agent and guard at once; both are started again
    AgentAndGuardKilled(On),
    /// A server is started on the node's data directory, and not by guard
    PostgresStartedByHand(On),
    /// The node cannot reach the lease's store
    LeaseCut(On),
    /// The node hears and reaches no other node, but the lease's store and clients
    NodeIsolated(On),
    /// Nobody can reach the lease's store
    LeaseStoreDown,
    /// Everything in a region is gone: nodes, S3, and the API
    RegionLost(In),
}

/// Which node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct On {
    /// The node; the primary unless one is named
    #[arg(long)]
    pub node: Option<NodeId>,
}

/// Which region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct In {
    /// The region; the one whose nodes take over by themselves, unless another is named
    #[arg(long)]
    pub region: Option<Region>,
}

impl On {
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

impl Lab {
    /// Breaks something, and says what was broken.
    ///
    /// # Errors
    ///
    /// When it cannot be broken, for instance because it already is.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each fault is in one of the functions that carry faults out"
    )]
    pub async fn break_with(&self, fault: &Fault) -> anyhow::Result<String> {
        let (Fault::PostmasterKilled(on)
        | Fault::NodeLost(on)
        | Fault::NodeSilent(on)
        | Fault::AgentFrozen(on)
        | Fault::GuardFrozen(on)
        | Fault::AgentAndGuardFrozen(on)
        | Fault::GuardAndPostgresFrozen(on)
        | Fault::EverythingFrozen(on)
        | Fault::SupervisorAsleep(on)
        | Fault::PostgresFrozen(on)
        | Fault::HostPaused(on)
        | Fault::AgentKilled(on)
        | Fault::AgentRestarted(on)
        | Fault::GuardKilled(on)
        | Fault::AgentAndGuardKilled(on)
        | Fault::PostgresStartedByHand(on)
        | Fault::LeaseCut(on)
        | Fault::NodeIsolated(on)) = fault
        else {
            return self.break_more_than_a_node(fault).await;
        };
        let name = on.which(self).await?;
        let node = self.node(&name)?;
        if let Some(done) = signalled(fault, node)? {
            return Ok(format!("node {name}: {done}"));
        }
        let done = match fault {
            Fault::NodeLost(_) => {
                self.links.set(Condition::Refused, |it| it.touches(&name));
                node.lose().await?;
                "its host is gone"
            }
            Fault::NodeSilent(_) => {
                self.links.set(Condition::Silent, |it| it.touches(&name));
                node.lose().await?;
                "its host is gone and says nothing"
            }
            Fault::PostgresStartedByHand(_) => {
                self.start_by_hand(&name).await?;
                "a server is started on its data directory by hand"
            }
            Fault::LeaseCut(_) => {
                let to_lease = |it: &Path| matches!(it, Path::Lease { from } if *from == name);
                self.links.set(Condition::Silent, to_lease);
                "it cannot reach the lease"
            }
            Fault::NodeIsolated(_) => {
                self.links.set(Condition::Silent, |it| {
                    let between = matches!(it, Path::Postgres { .. } | Path::Agent { .. });
                    between && it.touches(&name)
                });
                "it neither hears nor reaches another node"
            }
            _ => "nothing",
        };
        Ok(format!("node {name}: {done}"))
    }

    async fn break_more_than_a_node(&self, fault: &Fault) -> anyhow::Result<String> {
        if let Fault::RegionLost(In { region }) = fault {
            let region = region.as_ref().unwrap_or(&self.topology().primary);
            self.lose_region(region).await?;
            return Ok(format!("everything in {region} is gone"));
        }
        let region = &self.topology().third;
        self.store(region)?.stop().await;
        Ok(format!("S3 in {region}, which holds the lease, is gone"))
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
            .filter(|it| it.place.region == *region)
            .collect();
        self.links.set(Condition::Refused, |path| {
            here.iter().any(|it| path.touches(&it.place.node))
                || matches!(path, Path::Backups { to, .. } if to == region)
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

    /// Puts everything right that a fault made wrong: paths carry again, what is frozen goes on,
    /// and what is down is started.
    ///
    /// # Errors
    ///
    /// When something cannot be started.
    pub async fn heal(&self) -> anyhow::Result<()> {
        for process in self.by_hand.lock().await.drain(..) {
            process.kill().await?;
        }
        for store in self.stores.values() {
            store.start().await?;
        }
        self.links.set(Condition::Open, |_| true);
        for node in self.nodes() {
            let place = &node.place;
            self.ec2
                .start_instance(&place.region, &place.instance)
                .await?;
            signal_inside(&node.place.data(), Signal::SIGCONT)?;
            for process in [&node.agent, &node.guard] {
                if process.pid().is_some() {
                    process.signal(Signal::SIGCONT)?;
                }
            }
            node.guard.supervisor_sleeps(false);
            node.start();
        }
        for api in self.apis.values() {
            api.start();
        }
        Ok(())
    }

    async fn start_by_hand(&self, name: &NodeId) -> anyhow::Result<()> {
        let place = self.topology().place(name)?;
        let program = Program {
            name: format!("by-hand-{name}"),
            executable: bin_directory()?.join("postgres"),
            arguments: vec!["-D".into(), place.data().into()],
            environment: BTreeMap::new(),
            run_as: RunAs::Postgres,
            log: self.topology().logs().join(format!("by-hand-{name}.log")),
        };
        let process = Process::new(program, Restart::Never, &self.tasks);
        process.start();
        process.was_started(Duration::from_secs(30)).await?;
        self.by_hand.lock().await.push(process);
        Ok(())
    }

    fn store(&self, region: &Region) -> anyhow::Result<&crate::aws::s3::Store> {
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
    let freeze_postgres = || signal_inside(&node.place.data(), Signal::SIGSTOP);
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
        Fault::AgentAndGuardKilled(_) => {
            node.agent.signal(Signal::SIGKILL)?;
            node.guard.signal(Signal::SIGKILL)?;
            "its agent and guard are killed"
        }
        _ => return Ok(None),
    };
    Ok(Some(done))
}
