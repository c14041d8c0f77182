//! Faults that last until they are healed, and their processes.

use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::shutdown::Tasks;
use tokio::net::TcpListener;

use crate::cluster::node::Node;
use crate::cluster::process::Process;

/// Processes and tasks that healing ends.
#[derive(Debug, Default)]
pub(crate) struct ActiveFaults {
    /// Unmanaged PostgreSQL servers.
    pub(crate) by_hand: Vec<Process>,
    /// Listeners on occupied ports.
    pub(crate) ports: Vec<TcpListener>,
    /// Tasks that repeat a fault.
    pub(crate) harm: Tasks,
    /// Second hosts.
    pub(crate) second_hosts: Vec<Node>,
}

impl ActiveFaults {
    /// Ends every fault.
    ///
    /// # Errors
    ///
    /// When a process does not end within seconds.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        std::mem::take(&mut self.harm)
            .stop(Duration::from_secs(5))
            .await;
        self.ports.clear();
        for process in self.by_hand.drain(..) {
            process.kill().await?;
        }
        for host in self.second_hosts.drain(..) {
            host.end_host().await?;
            let directory = &host.spec.directory;
            std::fs::remove_dir_all(directory)
                .with_context(|| format!("could not remove `{}`", directory.display()))?;
        }
        Ok(())
    }
}
