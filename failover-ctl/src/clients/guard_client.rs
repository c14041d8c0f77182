//! Client of the guard.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::guard::GuardDeadline;
use causeway_runtime::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tracing::{debug, error, warn};

use crate::config::HostSettings;
use crate::datagram_socket::DatagramSocket;
use crate::protocol::guard::{GuardMessage, GuardReport, MAX_MESSAGE_BYTES, SupervisorCommand};

/// Time without a report after which the guard counts as not responding. It answers within 50 ms.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of unanswered messages, sent ten times a second, after which the guard is killed, because it no longer
/// enforces deadlines. PostgreSQL is killed with it, so this is longer than a loaded host needs to schedule a
/// process. Messages are counted instead of seconds: an agent that was frozen itself has sent none.
const MAX_UNANSWERED_MESSAGES: u32 = 50;

/// Socket of the agent, and the guard's last report.
#[derive(Debug)]
pub(crate) struct GuardClient {
    socket: UnixDatagram,
    /// Owner of the socket file; `socket` is a duplicate of its descriptor.
    bound: DatagramSocket,
    own: PathBuf,
    guard: PathBuf,
    last: Option<(HostInstant, GuardReport)>,
    unanswered: AtomicU32,
    sent: AtomicU64,
    /// Number of the last message with a command: reports on earlier messages are outdated.
    last_command: AtomicU64,
    killed_pid: Option<u32>,
}

impl GuardClient {
    /// Binds the agent's socket.
    ///
    /// # Errors
    ///
    /// When the runtime directory does not exist: the guard creates it at its start.
    pub(crate) fn open(host: &HostSettings) -> io::Result<Self> {
        let own = host.guard.runtime_directory.join("agent.sock");
        let (bound, socket) = bind(&own)?;
        Ok(Self {
            socket,
            bound,
            own,
            guard: host.guard_socket(),
            last: None,
            unanswered: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            last_command: AtomicU64::new(0),
            killed_pid: None,
        })
    }

    /// Sends a message. A failure appears as a missing report.
    pub(crate) fn send(&self, deadline: Option<GuardDeadline>, command: Option<SupervisorCommand>) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        if command.is_some() {
            self.last_command.store(number, Ordering::Relaxed);
        }
        match serde_json::to_vec(&GuardMessage {
            number,
            deadline,
            command,
        }) {
            Ok(message) => {
                if let Err(error) = self.socket.try_send_to(&message, &self.guard) {
                    debug!(%error, "guard message not sent");
                }
            }
            Err(error) => error!(%error, "serializing guard message failed"),
        }
    }

    /// Waits for the next report. Dropping the future loses nothing.
    pub(crate) async fn receive(&mut self) -> io::Result<GuardReport> {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            let message = buffer
                .get(..length)
                .expect("recv returns at most the buffer's length");
            match serde_json::from_slice::<GuardReport>(message) {
                Ok(report) => {
                    self.unanswered.store(0, Ordering::Relaxed);
                    self.last = Some((clock::now(), report.clone()));
                    return Ok(report);
                }
                Err(error) => error!(%error, "parsing guard report failed"),
            }
        }
    }

    /// Returns the last report, if it is current.
    pub(crate) fn report(&self, now: HostInstant) -> Option<&GuardReport> {
        let (at, report) = self.last.as_ref()?;
        let current = report.in_reply_to >= self.last_command.load(Ordering::Relaxed);
        (current && now.elapsed_upper_bound(*at) < RESPONSE_TIMEOUT).then_some(report)
    }

    /// Discards the last report, because the answer to the next message will show a change.
    pub(crate) fn discard_report(&self) {
        self.last_command
            .store(self.sent.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Binds the socket again if its file was removed: the guard sends its reports there.
    fn rebind_socket(&mut self) {
        if self.bound.is_there() {
            return;
        }
        match bind(&self.own) {
            Ok((bound, socket)) => {
                warn!(path = %self.own.display(), "agent socket was removed, bound again");
                (self.bound, self.socket) = (bound, socket);
                self.unanswered.store(0, Ordering::Relaxed);
            }
            Err(error) => debug!(%error, "binding agent socket failed"),
        }
    }

    /// Kills a guard that does not respond; systemd restarts it.
    pub(crate) fn kill_unresponsive_guard(&mut self) {
        self.rebind_socket();
        let Some((_, report)) = &self.last else {
            return;
        };
        let pid = report.guard_pid;
        if self.unanswered.load(Ordering::Relaxed) < MAX_UNANSWERED_MESSAGES
            || self.killed_pid == Some(pid)
        {
            return;
        }
        error!(pid, "guard not responding, killed");
        if let Ok(pid) = i32::try_from(pid) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        self.killed_pid = Some(pid);
    }
}

fn bind(path: &Path) -> io::Result<(DatagramSocket, UnixDatagram)> {
    let bound = DatagramSocket::bind(path)?;
    let socket = bound.as_ref().try_clone()?;
    socket.set_nonblocking(true)?;
    Ok((bound, UnixDatagram::from_std(socket)?))
}
