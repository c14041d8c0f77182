//! Injection of faults into a lab.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::{NodeId, Region};
use nix::sys::signal::Signal;

use super::{Fault, NodeSelector, RegionSelector, config};
use crate::aws::s3::ServiceMode;
use crate::cluster::node::Node;
use crate::cluster::postgres::bin_directory;
use crate::cluster::process::{Process, RestartPolicy};
use crate::cluster::process_table::signal_inside;
use crate::cluster::program::{Program, RunAs};
use crate::lab::Lab;
use crate::network::proxies::NetworkPath;
use crate::network::proxy::NetworkState;

/// Delay on a slow path, in milliseconds: twice an idle round trip to another continent.
const SLOW_MILLIS: u64 = 700;

/// Delay of a response that arrives after the client's timeout.
const LATE: Duration = Duration::from_secs(6);

impl Lab {
    /// Injects a fault, and returns its effect.
    ///
    /// # Errors
    ///
    /// When the fault cannot be injected, for instance because the process has already ended.
    pub async fn break_with(&self, fault: &Fault) -> anyhow::Result<String> {
        let Some(selector) = fault.on() else {
            return self.break_shared_service(fault).await;
        };
        let name = select_node(selector, self).await?;
        let node = self.node(&name)?;
        let effect = if let Some(effect) = freeze_processes(fault, node)? {
            effect
        } else if let Some(effect) = end_processes(fault, node)? {
            effect
        } else if let Some(effect) = self.break_paths(fault, &name) {
            effect
        } else if let Some(effect) = self.break_storage(fault, node).await? {
            effect
        } else {
            self.break_host(fault, node).await?
        };
        Ok(format!("node {name}: {effect}"))
    }

    /// Injects a fault of the host or of PostgreSQL's settings, and returns its effect.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each fault is injected by one of several functions"
    )]
    async fn break_host(&self, fault: &Fault, node: &Node) -> anyhow::Result<&'static str> {
        let name = &node.spec.node;
        let effect = match fault {
            Fault::NodeLost(_) => {
                self.proxies
                    .set(NetworkState::Refused, |path| path.involves(name));
                node.end_host().await?;
                "the host is lost"
            }
            Fault::NodeSilent(_) => {
                self.proxies
                    .set(NetworkState::Unresponsive, |path| path.involves(name));
                node.end_host().await?;
                "the host is lost and its network drops packets"
            }
            Fault::AgentGone(_) => {
                node.agent.kill().await?;
                "the agent has ended and is not restarted"
            }
            Fault::GuardGone(_) => {
                node.guard.kill().await?;
                "the guard has ended and is not restarted"
            }
            Fault::PostgresStartedByHand(_) => {
                self.start_by_hand(node).await?;
                "a server is started on the data directory without guard"
            }
            Fault::PostgresCannotStart(_) => {
                self.take_port(node).await?;
                "the postmaster is killed and its port is taken"
            }
            Fault::ConfigurationBroken(_) => {
                config::break_settings(node)?;
                "postgresql.conf is invalid and the postmaster killed"
            }
            Fault::ConfigurationRewritten(_) => {
                config::rewrite_settings(node)?;
                "postgresql.conf no longer includes guard's settings, and guard is killed"
            }
            other => anyhow::bail!("`{other:?}` is not a fault of one node"),
        };
        Ok(effect)
    }

    /// Injects a fault of replay or of the disk, and returns its effect; `None` for other faults.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each fault is injected by one of several functions"
    )]
    async fn break_storage(
        &self,
        fault: &Fault,
        node: &Node,
    ) -> anyhow::Result<Option<&'static str>> {
        let effect = match fault {
            Fault::ReplaySlow(_) => {
                self.slow_replay(node).await;
                "replay is slow"
            }
            Fault::ReplayPaused(_) => {
                node.local_query("select pg_wal_replay_pause()").await?;
                "replay is paused"
            }
            Fault::WalRemoved(_) => {
                self.remove_wal_of(node).await?;
                "the host is lost, and the primary has removed WAL that it needs"
            }
            Fault::DiskFull(_) => {
                self.fill_disk(node).await?;
                "the disk is full"
            }
            Fault::DiskReadOnly(_) => {
                self.freeze_disk(node).await?;
                "the host restarts with a read-only disk"
            }
            Fault::NodeCloned(_) => {
                self.clone_node(node).await?;
                "a second host runs with a copy of its disk and settings"
            }
            _ => return Ok(None),
        };
        Ok(Some(effect))
    }

    /// Injects a fault of the paths of a node, and returns its effect; `None` for other faults.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each fault is injected by one of several functions"
    )]
    fn break_paths(&self, fault: &Fault, name: &NodeId) -> Option<&'static str> {
        let effect = match fault {
            Fault::LeaseCut(_) => {
                self.proxies
                    .set(NetworkState::Unresponsive, |path| path.is_lease_of(name));
                "the lease store is unreachable"
            }
            Fault::LeaseSlow(_) => {
                let slow = NetworkState::Slow(SLOW_MILLIS);
                self.proxies.set(slow, |path| path.is_lease_of(name));
                "the path to the lease store is slow"
            }
            Fault::NodeIsolated(_) => {
                self.proxies.set(NetworkState::Unresponsive, |path| {
                    let between = matches!(
                        path,
                        NetworkPath::Postgres { .. } | NetworkPath::Agent { .. }
                    );
                    between && path.involves(name)
                });
                "it is cut off from the other nodes"
            }
            _ => return None,
        };
        Some(effect)
    }

    /// Injects a fault of a region or of a shared service, and returns its effect.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each fault is injected by one of several functions"
    )]
    async fn break_shared_service(&self, fault: &Fault) -> anyhow::Result<String> {
        let route53 = &self.route53;
        let third = &self.topology().third;
        let effect = match fault {
            Fault::RegionLost(RegionSelector { region }) => {
                let region = region.as_ref().unwrap_or(&self.topology().primary);
                self.lose_region(region).await?;
                return Ok(format!("all of {region} is lost: nodes, S3, API"));
            }
            Fault::LeaseStoreSlow => {
                let lease = |path: &NetworkPath| matches!(path, NetworkPath::Lease { .. });
                self.proxies.set(NetworkState::Slow(SLOW_MILLIS), lease);
                "the lease store is slow"
            }
            Fault::LeaseStoreThrottled => {
                self.store(third)?.set_mode(ServiceMode::Throttled);
                "the lease store rejects two requests of three"
            }
            Fault::LeaseStoreLate => {
                self.store(third)?.set_mode(ServiceMode::Late(LATE));
                "the lease store responds late to every second request"
            }
            Fault::BucketsDown => {
                let backups = |path: &NetworkPath| matches!(path, NetworkPath::Backups { .. });
                self.proxies.set(NetworkState::Refused, backups);
                "no node can reach a backup bucket"
            }
            Fault::DnsSilent => {
                route53.process().signal(Signal::SIGSTOP)?;
                "Route 53 and EC2 do not respond"
            }
            Fault::DnsSlow => {
                route53.set_fault(Some("slow 3"))?;
                "Route 53 is slow"
            }
            Fault::DnsThrottled => {
                route53.set_fault(Some("throttled"))?;
                "Route 53 rejects every request"
            }
            Fault::DnsLate => {
                route53.set_fault(Some("late 12"))?;
                "Route 53 responds late"
            }
            _ => {
                self.store(third)?.stop().await;
                return Ok(format!("the lease store, S3 in {third}, is down"));
            }
        };
        Ok(effect.to_owned())
    }

    /// Ends everything in a region: nodes, API and S3.
    ///
    /// # Errors
    ///
    /// When a process does not end in time.
    pub async fn lose_region(&self, region: &Region) -> anyhow::Result<()> {
        let lost_nodes: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| node.spec.region == *region)
            .collect();
        self.proxies.set(NetworkState::Refused, |path| {
            lost_nodes.iter().any(|node| path.involves(&node.spec.node))
                || matches!(path, NetworkPath::Backups { to, .. } if to == region)
        });
        let nodes =
            futures_util::future::try_join_all(lost_nodes.iter().map(|node| node.end_host()));
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
        process
            .wait_for_first_start(Duration::from_secs(30))
            .await?;
        self.active_faults.lock().await.by_hand.push(process);
        Ok(())
    }

    fn store(&self, region: &Region) -> anyhow::Result<&crate::aws::s3::S3Server> {
        let found = self.stores.get(region);
        found.with_context(|| format!("there is no S3 in `{region}`"))
    }
}

/// Freezes the processes that a fault freezes, and returns its effect; `None` for other faults.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "each fault is injected by one of several functions"
)]
fn freeze_processes(fault: &Fault, node: &Node) -> anyhow::Result<Option<&'static str>> {
    let freeze_postgres = || signal_inside(&node.spec.data(), Signal::SIGSTOP);
    let effect = match fault {
        Fault::AgentFrozen(_) => {
            node.agent.signal(Signal::SIGSTOP)?;
            "agent is frozen"
        }
        Fault::GuardFrozen(_) => {
            node.guard.signal(Signal::SIGSTOP)?;
            "guard is frozen"
        }
        Fault::AgentAndGuardFrozen(_) => {
            node.agent.signal(Signal::SIGSTOP)?;
            node.guard.signal(Signal::SIGSTOP)?;
            "agent and guard are frozen"
        }
        Fault::PostgresFrozen(_) => {
            freeze_postgres()?;
            "PostgreSQL is frozen"
        }
        Fault::AgentAndPostgresFrozen(_) => {
            node.agent.signal(Signal::SIGSTOP)?;
            freeze_postgres()?;
            "agent and PostgreSQL are frozen"
        }
        Fault::GuardAndPostgresFrozen(_) => {
            node.guard.signal(Signal::SIGSTOP)?;
            freeze_postgres()?;
            "guard and PostgreSQL are frozen"
        }
        Fault::EverythingFrozen(_) => {
            node.freeze()?;
            "agent, guard and PostgreSQL are frozen"
        }
        Fault::SupervisorAsleep(_) => {
            node.guard.set_supervisor_paused(true);
            "its supervisor is frozen"
        }
        Fault::HostPaused(_) => {
            node.guard.set_supervisor_paused(true);
            node.freeze()?;
            "everything on the host is frozen"
        }
        _ => return Ok(None),
    };
    Ok(Some(effect))
}

/// Ends the processes that a fault ends, and returns its effect; `None` for other faults.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "each fault is injected by one of several functions"
)]
fn end_processes(fault: &Fault, node: &Node) -> anyhow::Result<Option<&'static str>> {
    let effect = match fault {
        Fault::PostmasterKilled(_) => {
            node.kill_postmaster()?;
            "postmaster is killed"
        }
        Fault::AgentKilled(_) => {
            node.agent.signal(Signal::SIGKILL)?;
            "agent is killed"
        }
        Fault::AgentRestarted(_) => {
            node.agent.signal(Signal::SIGTERM)?;
            "the agent is restarted with SIGTERM"
        }
        Fault::GuardKilled(_) => {
            node.guard.signal(Signal::SIGKILL)?;
            "guard is killed"
        }
        Fault::GuardRestarted(_) => {
            node.guard.signal(Signal::SIGTERM)?;
            "the guard is restarted with SIGTERM"
        }
        Fault::AgentAndGuardKilled(_) => {
            node.agent.signal(Signal::SIGKILL)?;
            node.guard.signal(Signal::SIGKILL)?;
            "agent and guard are killed"
        }
        _ => return Ok(None),
    };
    Ok(Some(effect))
}

async fn select_node(selector: &NodeSelector, lab: &Lab) -> anyhow::Result<NodeId> {
    match &selector.node {
        Some(node) => Ok(node.clone()),
        None => lab.wait_for_primary(Duration::from_secs(30)).await,
    }
}
