//! Disks of nodes: file systems in memory, each with all of a node's directory. Mounting one needs
//! root.

use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::cluster::topology::Topology;

/// Size of a disk: a database of 40 MB, minutes of WAL, and room for a copy of diverged WAL.
const DISK_SIZE: &str = "768m";

/// Disks of the nodes' directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskMode {
    /// The disk of the lab's own directory.
    #[default]
    Shared,
    /// A disk per node, which can be filled and made read-only.
    Own,
}

/// Mounts a disk for each node.
///
/// # Errors
///
/// When the mount fails, which it does without root.
pub(crate) async fn attach(topology: &Topology) -> anyhow::Result<()> {
    for spec in &topology.nodes {
        std::fs::create_dir_all(&spec.directory)?;
        let options = format!("size={DISK_SIZE},mode=0755");
        let arguments = ["-t", "tmpfs", "-o", &options, "causeway-lab"];
        run("mount", &arguments, &spec.directory)
            .await
            .context("could not mount a disk for each node, which needs root")?;
    }
    Ok(())
}

/// Tests whether a disk can be mounted. Root in a container may not.
pub(crate) async fn can_attach(topology: &Topology) -> bool {
    let directory = topology.directory().with_extension("disk");
    let tried = async {
        std::fs::create_dir_all(&directory)?;
        run("mount", &["-t", "tmpfs", "causeway-lab"], &directory).await?;
        run("umount", &["--lazy"], &directory).await
    };
    let tried: anyhow::Result<()> = tried.await;
    // The directory is empty, whether or not the mount succeeded.
    std::fs::remove_dir(&directory).ok();
    tried.is_ok()
}

/// Unmounts every disk in a lab's directory.
///
/// # Errors
///
/// When a disk cannot be unmounted.
pub(crate) fn detach(directory: &Path) -> anyhow::Result<()> {
    let mounts =
        std::fs::read_to_string("/proc/mounts").context("could not read `/proc/mounts`")?;
    let points = mounts
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(Path::new);
    for point in points.filter(|point| point.parent() == Some(directory)) {
        let status = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(point)
            .status()?;
        if !status.success() {
            bail!("could not unmount `{}`", point.display());
        }
    }
    Ok(())
}

/// Runs `mount` or `umount` on a path.
///
/// # Errors
///
/// When it fails, with its standard error.
pub(crate) async fn run(program: &str, arguments: &[&str], path: &Path) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).arg(path).output();
    let output = output
        .await
        .with_context(|| format!("could not run `{program}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{program}` failed: {}", stderr.trim());
    }
    Ok(())
}
