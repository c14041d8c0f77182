//! Faults of a node's own disk: full, or read-only.
//!
//! Each disk is a file system in memory with all of a node's directory. Mounting one needs root.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time;

use crate::cluster::disks::run;
use crate::cluster::node::Node;
use crate::lab::Lab;
use crate::network::proxy::NetworkState;
use crate::wait;

/// File that fills the disk.
const BALLAST: &str = "ballast";

/// Timeout until a disk is idle after all processes of its node have ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

impl Lab {
    /// Fills a node's disk, and makes PostgreSQL write WAL.
    pub(super) async fn fill_disk(&self, node: &Node) -> anyhow::Result<()> {
        let disk = own_disk(node)?;
        let ballast = disk.join(BALLAST);
        fill(&ballast).await?;
        let spec = node.spec.clone();
        let harm = &self.active_faults.lock().await.harm;
        harm.start("full disk", |stop| async move {
            let refill = async {
                loop {
                    // Recycled segments would delay the failure by minutes.
                    let switch = "select pg_switch_wal()::text";
                    crate::cluster::sql::local(&spec, switch).await.ok();
                    fill(&ballast).await.ok();
                    time::sleep(Duration::from_secs(1)).await;
                }
            };
            stop.run_until_cancelled(refill).await;
        });
        Ok(())
    }

    /// Restarts a node's host with a read-only disk.
    pub(super) async fn freeze_disk(&self, node: &Node) -> anyhow::Result<()> {
        let disk = own_disk(node)?;
        let name = &node.spec.node;
        self.proxies
            .set(NetworkState::Refused, |path| path.involves(name));
        node.end_host().await?;
        wait::until("the disk to be read-only", IDLE_TIMEOUT, || async {
            let remount = run("mount", &["-o", "remount,ro"], disk).await;
            remount.map_err(|error| format!("{error:#}"))
        })
        .await?;
        self.proxies
            .set(NetworkState::Open, |path| path.involves(name));
        node.start();
        Ok(())
    }
}

/// Empties a node's own disk and makes it writable.
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

/// Returns the directory of a node's own disk.
fn own_disk(node: &Node) -> anyhow::Result<&Path> {
    use std::os::unix::fs::MetadataExt as _;

    let directory = node.spec.directory.as_path();
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev());
    let parent = directory
        .parent()
        .context("the node's directory is not in a lab's")?;
    if device(directory)? == device(parent)? {
        bail!(
            "`{}` is on no disk of its own: start the lab with `lab up --own-disks`, as root",
            directory.display()
        );
    }
    Ok(directory)
}

/// Writes to a file until the disk is full.
async fn fill(ballast: &Path) -> anyhow::Result<()> {
    let ballast = ballast.to_owned();
    tokio::task::spawn_blocking(move || {
        use std::io::Write as _;

        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(ballast)?;
        let zeros = vec![0; 64 * 1024];
        let mut length = zeros.len();
        while length >= 4096 {
            let part = zeros.get(..length).expect("the length only shrinks");
            if file.write_all(part).is_err() {
                length /= 2;
            }
        }
        Ok(())
    })
    .await?
}
