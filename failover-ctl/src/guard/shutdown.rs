//! Stop of PostgreSQL: fast shutdown, kill, and the sweep for remaining processes.

use std::thread;
use std::time::Duration;

use causeway_runtime::clock;
use nix::sys::signal::{Signal, kill};
use tracing::{error, info, warn};

use crate::data_directory;
use crate::guard::supervisor::Supervisor;

/// Maximum duration of a sweep within one tick. The lease timing allows 0.5 s for it.
const SWEEP_TIMEOUT: Duration = Duration::from_millis(400);

impl Supervisor<'_> {
    /// Starts a fast shutdown, which disconnects clients at once; processes that remain after `drain` are killed.
    pub(super) fn stop_postgres(&mut self, drain: Duration) {
        let Some(running) = &self.child else {
            return;
        };
        if drain.is_zero() {
            self.kill_postgres("immediate stop requested");
            return;
        }
        if self.kill_at.is_none() {
            info!(?drain, "fast shutdown requested");
            kill(running.pid(), Signal::SIGINT).ok();
            self.kill_at = Some(clock::now() + drain);
        }
    }

    pub(super) fn request_fast_shutdown(&mut self) {
        if let Some(running) = &self.child
            && !self.fast_shutdown_requested
        {
            warn!("stop deadline reached: fast shutdown requested");
            kill(running.pid(), Signal::SIGINT).ok();
            self.fast_shutdown_requested = true;
        }
    }

    /// Kills the postmaster and every process that works in the data directory.
    pub(super) fn kill_postgres(&mut self, reason: &'static str) {
        let started_at = clock::now();
        let mut killed = 0;
        if let Some(running) = &self.child {
            kill(running.pid(), Signal::SIGKILL).ok();
        }
        loop {
            match data_directory::kill_processes(self.data()) {
                Ok(0) => {
                    self.reap_postmaster();
                    self.sweep_pending = self.child.is_some();
                }
                Ok(found) => {
                    killed += found;
                    self.sweep_pending = true;
                }
                Err(error) => {
                    error!(%error, "listing PostgreSQL processes failed");
                    self.sweep_pending = true;
                }
            }
            if !self.sweep_pending || clock::now().elapsed_upper_bound(started_at) >= SWEEP_TIMEOUT
            {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        if killed > 0 || !self.sweep_pending {
            info!(
                reason,
                killed,
                ended = !self.sweep_pending,
                "PostgreSQL killed"
            );
        }
        if !self.sweep_pending {
            self.mark_stopped();
        }
    }

    /// Reaps the postmaster if it has exited.
    pub(super) fn reap_postmaster(&mut self) {
        let Some(running) = &mut self.child else {
            return;
        };
        match running.process.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                warn!(%status, "postmaster exited");
                self.child = None;
                self.sweep_pending = true;
            }
            Err(error) => error!(%error, "waiting for the postmaster failed"),
        }
    }

    /// Records that the running server is no longer restricted to recovery.
    pub(super) fn detect_promotion(&mut self) {
        let bound = data_directory::is_still_standby(&self.host.postgres.data_directory);
        if let Some(running) = &mut self.child {
            running.may_write |= !bound;
        }
    }

    /// Marks the directory of a stopped server, so that any next start is that of a standby.
    pub(super) fn mark_stopped(&mut self) {
        self.kill_at = None;
        self.fast_shutdown_requested = false;
        let data = self.data();
        if data.join("PG_VERSION").exists()
            && matches!(self.host.rewinding_marker().try_exists(), Ok(false))
            && let Err(error) = data_directory::put_standby_signal(data)
        {
            error!(%error, "writing standby.signal failed");
        }
    }
}
