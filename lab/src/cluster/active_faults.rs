//! What stands of the faults that are more than a signal, until it is healed.

use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::shutdown::Tasks;
use tokio::net::TcpListener;

use crate::cluster::node::Node;
use crate::cluster::process::Process;

/// What a lab has to put away when it is healed.
#[derive(Debug, Default)]
pub(crate) struct ActiveFaults {
    /// Servers that nobody supervises.
    pub(crate) by_hand: Vec<Process>,
    /// Ports that are taken.
    pub(crate) ports: Vec<TcpListener>,
    /// Whatever does harm again and again.
    pub(crate) harm: Tasks,
    /// Second hosts.
    pub(crate) second_hosts: Vec<Node>,
}

impl ActiveFaults {
    /// Ends all of it.
    ///
    /// # Errors
    ///
    /// When a process is still there after seconds.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        std::mem::take(&mut self.harm)
            .stop(Duration::from_secs(5))
            .await;
        self.ports.clear();
        for process in self.by_hand.drain(..) {
            process.kill().await?;
        }
        for host in self.second_hosts.drain(..) {
            host.lose().await?;
            let directory = &host.spec.directory;
            std::fs::remove_dir_all(directory)
                .with_context(|| format!("could not remove `{}`", directory.display()))?;
        }
        Ok(())
    }
}
