//! Supervisor of one process: starts it, restarts it, and ends it when its watchdog expires.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time;
use tracing::{debug, info, warn};

use crate::cluster::process_table::{send_signal, signal_inside};
use crate::cluster::program::Program;
use crate::cluster::watchdog::{Watchdog, WatchdogSettings, has_processes};

/// Delay before a restart, like `RestartSec=200ms`.
pub(super) const RESTART_DELAY: Duration = Duration::from_millis(200);

/// Restart policy of a program that ends unexpectedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Restart, like systemd's `Restart=always`.
    Always,
    /// No restart.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DesiredState {
    Running,
    Ended(Signal),
}

/// Last observed state of a supervised process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessState {
    pub(super) pid: Option<i32>,
    pub(super) starts: u32,
    pub(super) last_exit: Option<String>,
}

pub(super) struct ProcessSupervisor {
    pub(super) program: Program,
    pub(super) restart: RestartPolicy,
    pub(super) watched: Option<WatchdogSettings>,
    pub(super) orders: watch::Receiver<DesiredState>,
    pub(super) sleeping: watch::Receiver<bool>,
    pub(super) report: watch::Sender<ProcessState>,
}

impl ProcessSupervisor {
    pub(super) async fn run(mut self) {
        while self
            .orders
            .wait_for(|state| *state == DesiredState::Running)
            .await
            .is_ok()
        {
            let name = self.program.name.clone();
            let watched = self.watched.clone();
            let spawned = self.spawn(watched.as_ref());
            match spawned {
                Ok((child, watchdog)) => self.supervise(child, watchdog).await,
                Err(error) => {
                    warn!(process = name, error = format!("{error:#}"), "not started");
                    self.report.send_modify(|state| {
                        state.last_exit = Some(format!("{error:#}"));
                    });
                }
            }
            if self.restart == RestartPolicy::Never {
                let ended = |state: &DesiredState| *state != DesiredState::Running;
                if self.orders.wait_for(ended).await.is_err() {
                    return;
                }
            }
            time::sleep(RESTART_DELAY).await;
        }
    }

    fn spawn<'a>(
        &self,
        watched: Option<&'a WatchdogSettings>,
    ) -> anyhow::Result<(Child, Option<Watchdog<'a>>)> {
        let watchdog = watched.map(Watchdog::listen).transpose()?;
        let child = self.program.command()?.spawn();
        Ok((child.context("could not start it")?, watchdog))
    }

    /// Waits until the process ends: unexpectedly, by command, or because its watchdog limit was
    /// exceeded.
    async fn supervise(&mut self, mut child: Child, mut watchdog: Option<Watchdog<'_>>) {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        self.report.send_modify(|state| {
            state.pid = pid;
            state.starts += 1;
        });
        debug!(process = self.program.name, pid, "process started");
        let mut silent = false;
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break ended,
                () = expired(watchdog.as_mut(), &mut self.sleeping), if !silent => {
                    silent = true;
                    if let (Some(watchdog), Some(pid)) = (&watchdog, pid) {
                        watchdog.kill_all(pid);
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        break child.kill().await.and(child.wait().await);
                    }
                    let order = *self.orders.borrow();
                    if let (DesiredState::Ended(signal), Some(pid)) = (order, pid) {
                        send_signal(pid, signal);
                    }
                }
            }
        };
        if silent && let Some(watched) = &self.watched {
            kill_leftovers(&watched.data).await;
        }
        let last_exit = match (ended, silent) {
            (Ok(_), true) => "ended by its watchdog".to_owned(),
            (Ok(status), false) => status.to_string(),
            (Err(error), _) => error.to_string(),
        };
        info!(process = self.program.name, pid, last_exit, "process ended");
        self.report.send_modify(|state| {
            state.pid = None;
            state.last_exit = Some(last_exit);
        });
    }
}

/// Returns when a process has exceeded its watchdog limit, and its supervisor is not paused.
async fn expired(watchdog: Option<&mut Watchdog<'_>>, sleeping: &mut watch::Receiver<bool>) {
    let Some(watchdog) = watchdog else {
        return std::future::pending().await;
    };
    loop {
        watchdog.expired().await;
        if !*sleeping.borrow_and_update() {
            return;
        }
        if sleeping.wait_for(|state| !state).await.is_err() {
            return;
        }
    }
}

/// Kills the processes left in a data directory after its guard was killed.
async fn kill_leftovers(data: &Path) {
    for _round in 0..100 {
        if !has_processes(data) {
            return;
        }
        if let Err(error) = signal_inside(data, Signal::SIGKILL) {
            warn!(
                error = format!("{error:#}"),
                "processes in the data directory not killed"
            );
        }
        time::sleep(Duration::from_millis(10)).await;
    }
}
