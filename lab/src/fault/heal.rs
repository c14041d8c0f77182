//! Healing of every fault.

use nix::sys::signal::Signal;

use super::disk;
use crate::cluster::node::Node;
use crate::cluster::process_table::signal_inside;
use crate::lab::Lab;
use crate::network::proxy::NetworkState;

impl Lab {
    /// Heals every fault: opens paths, resumes frozen processes, empties disks, restores settings, and
    /// starts what is down.
    ///
    /// # Errors
    ///
    /// When something cannot be started.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.active_faults.lock().await.end().await?;
        let route53 = self.route53.process();
        if route53.pid().is_some() {
            route53.signal(Signal::SIGCONT)?;
        }
        self.route53.set_fault(None)?;
        for store in self.stores.values() {
            store.set_mode(crate::aws::s3::ServiceMode::Normal);
            store.start().await?;
        }
        self.proxies.set(NetworkState::Open, |_| true);
        for node in self.nodes() {
            let spec = &node.spec;
            self.ec2
                .start_instance(&spec.region, &spec.instance)
                .await?;
            disk::heal(node).await?;
            crate::cluster::postgres::write_settings(self.topology(), spec)?;
            signal_inside(&spec.data(), Signal::SIGCONT)?;
            for process in [&node.agent, &node.guard] {
                if process.pid().is_some() {
                    process.signal(Signal::SIGCONT)?;
                }
            }
            node.guard.set_supervisor_paused(false);
            node.start();
            revert_settings(node).await;
        }
        for api in self.apis.values() {
            api.start();
        }
        Ok(())
    }
}

/// Reverts settings of PostgreSQL. A server that is down has none to revert.
async fn revert_settings(node: &Node) {
    for statement in [
        "select pg_wal_replay_resume() where pg_is_in_recovery()",
        "alter system reset wal_keep_size",
        "select pg_reload_conf()",
    ] {
        if let Err(error) = node.local_query(statement).await {
            let node = &node.spec.node;
            tracing::debug!(%node, error = format!("{error:#}"), "setting not reverted");
        }
    }
}
