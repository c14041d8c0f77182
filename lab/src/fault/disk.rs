//! Disks of the nodes' own, which can be filled and made read-only.
//!
//! Each is a file system in memory that holds all of a node's directory. Only root can make one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;
use tokio::time;

use crate::Lab;
use crate::cluster::node::Node;
use crate::cluster::topology::Topology;
use crate::network::proxy::NetworkState;
use crate::wait;

/// How large each disk is: a database of 40 MB, the WAL of minutes, and room that a save asks for.
const SIZE: &str = "768m";

/// The file that leaves no room for another.
const BALLAST: &str = "ballast";

/// How long a disk may be busy after everything on its node has ended.
const QUIET_WITHIN: Duration = Duration::from_secs(10);

/// Gives each node a disk of its own.
pub(crate) async fn attach_disks(topology: &Topology) -> anyhow::Result<()> {
    for spec in &topology.nodes {
        std::fs::create_dir_all(&spec.directory)?;
        let options = format!("size={SIZE},mode=0755");
        let arguments = ["-t", "tmpfs", "-o", &options, "causeway-lab"];
        run("mount", &arguments, &spec.directory)
            .await
            .context("a node's own disk needs root, who may mount it")?;
    }
    Ok(())
}

/// Says whether nodes can have disks of their own here: root in a container may not mount one.
pub(crate) async fn disks_are_possible(topology: &Topology) -> bool {
    let directory = topology.directory().with_extension("disk");
    let tried = async {
        std::fs::create_dir_all(&directory)?;
        run("mount", &["-t", "tmpfs", "causeway-lab"], &directory).await?;
        run("umount", &["--lazy"], &directory).await
    };
    let tried: anyhow::Result<()> = tried.await;
    // Nothing is in it, whether or not it could be mounted.
    std::fs::remove_dir(&directory).ok();
    tried.is_ok()
}

/// Takes away every disk that lies in a lab's directory.
pub(crate) fn detach_disks(directory: &Path) -> anyhow::Result<()> {
    let mounts =
        std::fs::read_to_string("/proc/mounts").context("could not read `/proc/mounts`")?;
    let points = mounts
        .lines()
        .filter_map(|it| it.split_whitespace().nth(1))
        .map(Path::new);
    for point in points.filter(|it| it.parent() == Some(directory)) {
        let ended = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(point)
            .status()?;
        if !ended.success() {
            bail!("could not unmount `{}`", point.display());
        }
    }
    Ok(())
}

impl Lab {
    /// Leaves no room on a node's disk, and has PostgreSQL want some.
    pub(super) async fn fill_disk(&self, node: &Node) -> anyhow::Result<()> {
        let disk = own_disk(node)?;
        let ballast = disk.join(BALLAST);
        fill(&ballast).await?;
        let spec = node.spec.clone();
        let harm = &self.active_faults.lock().await.harm;
        harm.start("full disk", |stop| async move {
            let again = async {
                loop {
                    // Segments that were recycled hide for minutes that there is no room for a new one.
                    let switch = "select pg_switch_wal()::text";
                    crate::cluster::sql::local(&spec, switch).await.ok();
                    fill(&ballast).await.ok();
                    time::sleep(Duration::from_secs(1)).await;
                }
            };
            stop.run_until_cancelled(again).await;
        });
        Ok(())
    }

    /// Restarts a node's host with a disk that can only be read.
    pub(super) async fn freeze_disk(&self, node: &Node) -> anyhow::Result<()> {
        let disk = own_disk(node)?;
        let name = &node.spec.node;
        self.proxies
            .set(NetworkState::Refused, |it| it.touches(name));
        node.lose().await?;
        wait::until("the disk to be read-only", QUIET_WITHIN, || async {
            let remounted = run("mount", &["-o", "remount,ro"], disk).await;
            remounted.map_err(|it| format!("{it:#}"))
        })
        .await?;
        self.proxies.set(NetworkState::Open, |it| it.touches(name));
        node.start();
        Ok(())
    }
}

/// Makes a node's disk as it was.
pub(super) async fn heal(node: &Node) -> anyhow::Result<()> {
    let Ok(disk) = own_disk(node) else {
        return Ok(());
    };
    run("mount", &["-o", "remount,rw"], disk).await?;
    match std::fs::remove_file(disk.join(BALLAST)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns where a node's own disk is.
fn own_disk(node: &Node) -> anyhow::Result<&Path> {
    use std::os::unix::fs::MetadataExt as _;

    let directory = node.spec.directory.as_path();
    let device = |it: &Path| std::fs::metadata(it).map(|it| it.dev());
    let above = directory.parent().context("a node lies in no lab")?;
    if device(directory)? == device(above)? {
        bail!(
            "`{}` is on no disk of its own: start the lab with `lab up --own-disks`, as root",
            directory.display()
        );
    }
    Ok(directory)
}

/// Writes a file until there is no room left, and leaves not a page.
async fn fill(ballast: &Path) -> anyhow::Result<()> {
    let ballast = ballast.to_owned();
    tokio::task::spawn_blocking(move || {
        use std::io::Write as _;

        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(ballast)?;
        let piece = vec![0; 64 * 1024];
        let mut length = piece.len();
        while length >= 4096 {
            let part = piece.get(..length).unwrap_or_default();
            if file.write_all(part).is_err() {
                length /= 2;
            }
        }
        Ok(())
    })
    .await?
}

async fn run(program: &str, arguments: &[&str], path: &Path) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).arg(path).output();
    let output = output
        .await
        .with_context(|| format!("could not run `{program}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program}` failed: {}", said.trim());
    }
    Ok(())
}
