//! A second host with a copy of a node's disk and settings, as a snapshot makes it.

use std::path::Path;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;

use crate::Lab;
use crate::cluster::node::Node;
use crate::cluster::process::{inside, is_stopped, signal_all};
use crate::cluster::{postgres, settings};

/// A second host.
#[derive(Debug)]
pub(crate) struct Clone {
    /// Its guard and agent.
    pub(crate) node: Node,
}

impl Clone {
    /// Ends the host, and removes its disk.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.node.lose().await?;
        let directory = &self.node.place.directory;
        std::fs::remove_dir_all(directory)
            .with_context(|| format!("could not remove `{}`", directory.display()))
    }
}

impl Lab {
    /// Starts a second host with a copy of a node's disk.
    pub(super) async fn clone_node(&self, node: &Node) -> anyhow::Result<()> {
        let mut standing = self.standing.lock().await;
        let place = node.place.cloned();
        if place.directory.exists() {
            bail!("`{}` is cloned already", node.place.node);
        }
        let topology = self.topology();
        postgres::install(topology, &place)?;
        settings::write_node(topology, &place, self.route53.zones(), &self.readers)?;
        // A snapshot is of one moment.
        let running: Vec<i32> = inside(&node.place.data())?
            .into_iter()
            .filter(|it| !is_stopped(*it))
            .collect();
        signal_all(&running, Signal::SIGSTOP);
        let copied = copy(&node.place.data(), &place.data())
            .and_then(|()| copy(&node.place.state(), &place.state()));
        signal_all(&running, Signal::SIGCONT);
        copied?;
        // The process that it names runs on another host.
        std::fs::remove_file(place.data().join("postmaster.pid")).ok();
        let clone = Node::new(&place, &self.programs, &self.tasks);
        clone.start();
        standing.clones.push(Clone { node: clone });
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir(to).with_context(|| format!("`{}` is not empty", to.display()))?;
    let ended = std::process::Command::new("cp")
        .arg("--archive")
        .args([from, to])
        .status()
        .context("could not run `cp`")?;
    if !ended.success() {
        bail!("`{}` could not be copied", from.display());
    }
    Ok(())
}
