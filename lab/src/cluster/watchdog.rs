//! Supervisor's half of `sd_notify(3)`: enforces the watchdog limit that a program announces.
//!
//! This corresponds to a systemd unit with `WatchdogSec`, `WatchdogSignal=SIGKILL` and
//! `KillMode=control-group`. In place of the control group it kills every descendant of the
//! program, and every process whose working directory is the data directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::net::UnixDatagram;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use crate::cluster::files::give_to_postgres;
use crate::cluster::process_table::{descendants, processes_inside, send_signal};

/// Program that announces its watchdog limit.
#[derive(Clone, Debug)]
pub struct WatchdogSettings {
    /// Socket of its messages (`NOTIFY_SOCKET`).
    pub socket: PathBuf,
    /// Initial watchdog limit (`WatchdogSec`).
    pub limit: Duration,
    /// Directory whose processes are killed with the program.
    pub data: PathBuf,
}

impl WatchdogSettings {
    /// Returns the environment variables that systemd sets for such a program.
    pub fn environment(&self) -> [(String, String); 2] {
        [
            (
                "NOTIFY_SOCKET".to_owned(),
                self.socket.display().to_string(),
            ),
            (
                "WATCHDOG_USEC".to_owned(),
                self.limit.as_micros().to_string(),
            ),
        ]
    }
}

/// Watchdog of one process.
#[derive(Debug)]
pub(crate) struct Watchdog<'a> {
    watched: &'a WatchdogSettings,
    socket: UnixDatagram,
    limit: Duration,
    deadline: Instant,
}

impl<'a> Watchdog<'a> {
    /// Opens the socket of a process, before the process starts.
    ///
    /// # Errors
    ///
    /// When the socket cannot be created.
    pub(crate) fn listen(watched: &'a WatchdogSettings) -> anyhow::Result<Self> {
        let path = &watched.socket;
        // A new socket has no messages of an earlier process.
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("could not remove an earlier socket"),
        }
        let socket = UnixDatagram::bind(path)
            .with_context(|| format!("could not listen on `{}`", path.display()))?;
        give_to_postgres(path)?;
        Ok(Self {
            watched,
            socket,
            limit: watched.limit,
            deadline: Instant::now() + watched.limit,
        })
    }

    /// Returns when the process has exceeded its watchdog limit.
    pub(crate) async fn expired(&mut self) {
        let mut buffer = [0; 512];
        loop {
            let received = self.socket.recv(&mut buffer);
            match time::timeout_at(self.deadline, received).await {
                Ok(Ok(length)) => {
                    let message = buffer.get(..length).expect("a datagram fits its buffer");
                    self.handle_message(&String::from_utf8_lossy(message));
                }
                Ok(Err(error)) => {
                    debug!(%error, "message to the supervisor lost");
                    time::sleep(Duration::from_millis(10)).await;
                }
                Err(_elapsed) => return,
            }
        }
    }

    fn handle_message(&mut self, message: &str) {
        let limit = message
            .lines()
            .find_map(|line| line.strip_prefix("WATCHDOG_USEC="));
        if let Some(limit) = limit.and_then(|limit| limit.parse().ok()) {
            self.limit = Duration::from_micros(limit);
            self.deadline = Instant::now() + self.limit;
        }
        if message.lines().any(|line| line == "WATCHDOG=1") {
            self.deadline = Instant::now() + self.limit;
        }
    }

    /// Kills the process and everything that belongs to it, also if frozen.
    pub(crate) fn kill_all(&self, pid: i32) {
        // Descendants are collected first: later they have another parent.
        let mut all = log_and_ignore(descendants(pid));
        send_signal(pid, Signal::SIGKILL);
        all.extend(log_and_ignore(processes_inside(&self.watched.data)));
        for pid in &all {
            send_signal(*pid, Signal::SIGKILL);
        }
        warn!(
            pid,
            limit_secs = self.limit.as_secs_f64(),
            others = all.len(),
            "watchdog expired"
        );
    }
}

/// Returns the listed processes, or none with a warning.
fn log_and_ignore(listed: anyhow::Result<Vec<i32>>) -> Vec<i32> {
    listed.unwrap_or_else(|error| {
        warn!(%error, "processes not listed");
        Vec::new()
    })
}

/// Tests whether a process of a killed program is left.
pub(crate) fn has_processes(data: &Path) -> bool {
    processes_inside(data).is_ok_and(|pids| !pids.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram as Sender;

    use super::*;

    #[tokio::test]
    async fn limit_announced_then_counted_from_message() {
        let directory = tempfile::tempdir().unwrap();
        let watched = watched(directory.path(), Duration::from_mins(10));
        let mut watchdog = Watchdog::listen(&watched).unwrap();
        let sender = Sender::unbound().unwrap();
        let send = |message: &str| {
            let sent = sender.send_to(message.as_bytes(), &watched.socket);
            assert_eq!(sent.unwrap(), message.len());
        };

        let before = Instant::now();
        send("READY=1");
        send("WATCHDOG=1\nWATCHDOG_USEC=300000");
        send("WATCHDOG=1");
        watchdog.expired().await;

        assert!(before.elapsed() >= Duration::from_millis(300));
        assert!(before.elapsed() < Duration::from_mins(1));
    }

    #[tokio::test]
    async fn new_process_then_earlier_messages_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let watched = watched(directory.path(), Duration::from_millis(200));
        let first = Watchdog::listen(&watched).unwrap();
        let sender = Sender::unbound().unwrap();
        sender
            .send_to(b"WATCHDOG_USEC=600000000", &watched.socket)
            .unwrap();
        drop(first);

        let mut second = Watchdog::listen(&watched).unwrap();
        let expired = time::timeout(Duration::from_mins(1), second.expired());
        assert!(expired.await.is_ok());
    }

    fn watched(directory: &Path, limit: Duration) -> WatchdogSettings {
        WatchdogSettings {
            socket: directory.join("notify"),
            limit,
            data: directory.to_owned(),
        }
    }
}
