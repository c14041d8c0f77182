//! A second host with a copy of a node's disk and settings, as a snapshot makes it.

use std::path::Path;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;

use crate::cluster::node::Node;
use crate::cluster::process_table::{is_stopped, processes_inside, signal_all};
use crate::cluster::{postgres, settings};
use crate::lab::Lab;

impl Lab {
    /// Starts a second host with a copy of a node's disk.
    pub(super) async fn clone_node(&self, node: &Node) -> anyhow::Result<()> {
        let mut active_faults = self.active_faults.lock().await;
        let spec = node.spec.second_host();
        if spec.directory.exists() {
            bail!("`{}` already has a clone", node.spec.node);
        }
        let topology = self.topology();
        postgres::install(topology, &spec)?;
        settings::write_node(topology, &spec, self.route53.zones(), &self.backup_keys)?;
        // A snapshot is of a single instant.
        let running: Vec<i32> = processes_inside(&node.spec.data())?
            .into_iter()
            .filter(|pid| !is_stopped(*pid))
            .collect();
        signal_all(&running, Signal::SIGSTOP);
        let copied = copy(&node.spec.data(), &spec.data())
            .and_then(|()| copy(&node.spec.state(), &spec.state()));
        signal_all(&running, Signal::SIGCONT);
        copied?;
        // The process that it names runs on another host.
        std::fs::remove_file(spec.data().join("postmaster.pid")).ok();
        let clone = Node::new(&spec, &self.programs, &self.tasks);
        clone.start();
        active_faults.second_hosts.push(clone);
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
        bail!("could not copy `{}`", from.display());
    }
    Ok(())
}
