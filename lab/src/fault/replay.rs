//! Standbys that replay slowly, or find that the WAL which they need is gone.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::time;

use crate::cluster::node::Node;
use crate::cluster::process_table::{inside, signal_all};
use crate::lab::Lab;
use crate::network::proxy::NetworkState;
use crate::wait;

/// How long the startup process goes on, and stands still, in each round: 3.5 % of the time.
const GOES_ON: Duration = Duration::from_millis(35);
const STANDS_STILL: Duration = Duration::from_millis(965);

/// How long a primary may take to remove WAL: it has to archive it first.
const REMOVED_WITHIN: Duration = Duration::from_mins(1);

impl Lab {
    /// Lets a node replay for a fraction of the time, whenever it replays.
    pub(super) async fn slow_replay(&self, node: &Node) {
        let data = node.spec.data();
        let harm = &self.active_faults.lock().await.harm;
        harm.start("slow replay", |stop| async move {
            let pause = |length| stop.run_until_cancelled(time::sleep(length));
            loop {
                let startup = inside(&data).unwrap_or_default();
                let startup: Vec<i32> = startup.into_iter().filter(|pid| replays(*pid)).collect();
                signal_all(&startup, Signal::SIGSTOP);
                let ended = pause(STANDS_STILL).await.is_none();
                signal_all(&startup, Signal::SIGCONT);
                if ended || pause(GOES_ON).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Takes a node away, and has the primary remove WAL that it needs.
    pub(super) async fn remove_wal_of(&self, node: &Node) -> anyhow::Result<()> {
        let name = &node.spec.node;
        let primary = self.wait_for_primary(Duration::from_secs(10)).await?;
        anyhow::ensure!(primary != *name, "`{name}` is the primary");
        self.proxies
            .set(NetworkState::Refused, |path| path.touches(name));
        node.lose().await?;
        let primary = self.node(&primary)?;
        primary
            .local_query("alter system set wal_keep_size = 0")
            .await?;
        primary.local_query("select pg_reload_conf()").await?;
        let needed = primary
            .local_query("select pg_walfile_name(pg_current_wal_lsn())")
            .await?
            .context("the primary writes no WAL")?;
        let needed = primary.spec.data().join("pg_wal").join(needed);
        // It stays until it is archived, and a checkpoint after that has seen it.
        wait::until("the primary to remove WAL", REMOVED_WITHIN, || async {
            for statement in ["select pg_switch_wal()::text", "checkpoint"] {
                let done = primary.local_query(statement).await;
                done.map_err(|error| format!("{error:#}"))?;
            }
            if needed.exists() {
                return Err(format!("`{}` is still there", needed.display()));
            }
            Ok(())
        })
        .await?;
        Ok(())
    }
}

/// Tests whether a process is a PostgreSQL's that replays WAL.
fn replays(pid: i32) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).starts_with("postgres: startup")
}
