//! Disks of the nodes' own, which can be filled and made read-only.
//!
//! Each is a file system in memory that holds all of a node's directory. Only root can make one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time;

use crate::cluster::disks::run;
use crate::cluster::node::Node;
use crate::lab::Lab;
use crate::network::proxy::NetworkState;
use crate::wait;

/// The file that leaves no room for another.
const BALLAST: &str = "ballast";

/// How long a disk may be busy after everything on its node has ended.
const QUIET_WITHIN: Duration = Duration::from_secs(10);

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
            .set(NetworkState::Refused, |path| path.touches(name));
        node.lose().await?;
        wait::until("the disk to be read-only", QUIET_WITHIN, || async {
            let remounted = run("mount", &["-o", "remount,ro"], disk).await;
            remounted.map_err(|error| format!("{error:#}"))
        })
        .await?;
        self.proxies
            .set(NetworkState::Open, |path| path.touches(name));
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
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev());
    let above = directory.parent().context("the node's directory is not in a lab's")?;
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
