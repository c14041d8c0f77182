//! Faults of standbys: slow replay, and removed WAL.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::time;

use crate::cluster::node::Node;
use crate::cluster::process_table::{processes_inside, signal_all};
use crate::lab::Lab;
use crate::network::proxy::NetworkState;
use crate::wait;

/// Times for which the startup process runs and is frozen in each round: it runs 3.5 % of the time.
const RUN_DURATION: Duration = Duration::from_millis(35);
const FREEZE_DURATION: Duration = Duration::from_millis(965);

/// Timeout until a primary removes WAL, which it archives first.
const REMOVAL_TIMEOUT: Duration = Duration::from_mins(1);

impl Lab {
    /// Freezes a node's replay for most of the time.
    pub(super) async fn slow_replay(&self, node: &Node) {
        let data = node.spec.data();
        let harm = &self.active_faults.lock().await.harm;
        harm.start("slow replay", |stop| async move {
            let pause = |length| stop.run_until_cancelled(time::sleep(length));
            loop {
                let processes = processes_inside(&data).unwrap_or_else(|error| {
                    tracing::warn!(%error, "processes not listed");
                    Vec::new()
                });
                let startup: Vec<i32> = processes
                    .into_iter()
                    .filter(|pid| is_startup_process(*pid))
                    .collect();
                signal_all(&startup, Signal::SIGSTOP);
                let ended = pause(FREEZE_DURATION).await.is_none();
                signal_all(&startup, Signal::SIGCONT);
                if ended || pause(RUN_DURATION).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Ends a node's host, and makes the primary remove WAL that the node needs.
    pub(super) async fn remove_wal_of(&self, node: &Node) -> anyhow::Result<()> {
        let name = &node.spec.node;
        let primary = self.wait_for_primary(Duration::from_secs(10)).await?;
        anyhow::ensure!(primary != *name, "`{name}` is the primary");
        self.proxies
            .set(NetworkState::Refused, |path| path.involves(name));
        node.end_host().await?;
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
        // PostgreSQL removes a segment at the first checkpoint after its archiving.
        wait::until("the primary to remove WAL", REMOVAL_TIMEOUT, || async {
            for statement in ["select pg_switch_wal()::text", "checkpoint"] {
                let done = primary.local_query(statement).await;
                done.map_err(|error| format!("{error:#}"))?;
            }
            if needed.exists() {
                return Err(format!("`{}` still exists", needed.display()));
            }
            Ok(())
        })
        .await?;
        Ok(())
    }
}

/// Tests whether a process is PostgreSQL's startup process, which replays WAL.
fn is_startup_process(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|title| String::from_utf8_lossy(&title).starts_with("postgres: startup"))
}
