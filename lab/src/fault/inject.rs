//! Carries faults out.

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

/// How late each piece arrives on a slow path: twice as long as an idle round trip to another continent,
/// and several of them make a request.
const SLOW_MILLIS: u64 = 700;

/// How late an answer is that comes after its client has given up.
const LATE: Duration = Duration::from_secs(6);

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
        let name = which(on, self).await?;
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

async fn which(selector: &NodeSelector, lab: &Lab) -> anyhow::Result<NodeId> {
    match &selector.node {
        Some(node) => Ok(node.clone()),
        None => lab.wait_for_primary(Duration::from_secs(30)).await,
    }
}
