//! Faults of PostgreSQL's settings and port.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::net::{TcpListener, TcpSocket};

use crate::cluster::node::Node;
use crate::lab::Lab;
use crate::wait;

/// Timeout to occupy the port: the postmaster is killed, and the guard restarts it quickly.
const PORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Adds an unknown setting to PostgreSQL's, and kills the postmaster.
pub(super) fn break_settings(node: &Node) -> anyhow::Result<()> {
    edit_settings(node, |text| format!("shared_bufers = 64MB\n{text}"))?;
    kill_if_there(node);
    Ok(())
}

/// Writes PostgreSQL's settings without the line that includes the guard's, and kills the guard.
pub(super) fn rewrite_settings(node: &Node) -> anyhow::Result<()> {
    edit_settings(node, |text| {
        let lines = text.lines().filter(|text| !text.starts_with("include "));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    })?;
    node.guard.signal(Signal::SIGKILL)
}

fn edit_settings(node: &Node, change: impl FnOnce(String) -> String) -> anyhow::Result<()> {
    let path = node.spec.settings().join("postgresql.conf");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("could not read `{}`", path.display()))?;
    crate::cluster::files::write(&path, &change(text))
}

/// Kills the postmaster, if there is one.
fn kill_if_there(node: &Node) {
    if let Err(error) = node.kill_postmaster() {
        tracing::debug!(error = format!("{error:#}"), "no postmaster to kill");
    }
}

impl Lab {
    /// Kills the postmaster and occupies its port before it is restarted.
    pub(super) async fn take_port(&self, node: &Node) -> anyhow::Result<()> {
        let address = node.spec.postgres();
        let taken = wait::until("the port of PostgreSQL", PORT_TIMEOUT, || async {
            kill_if_there(node);
            let take = || -> std::io::Result<TcpListener> {
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                socket.listen(16)
            };
            take().map_err(|error| error.to_string())
        })
        .await?;
        self.active_faults.lock().await.ports.push(taken);
        Ok(())
    }
}
