//! The agent's end of the line to guard.

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

/// For how long guard may say nothing before it counts as gone. It answers within 50 ms.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// After how many unanswered requests, ten a second, a silent guard is killed: whatever keeps it, it
/// no longer keeps watch. PostgreSQL dies with it, which is why this is longer than a loaded host
/// takes to run a process. Requests are counted and not seconds: an agent that was itself frozen
/// finds an old answer, and has not asked since.
const MAX_UNANSWERED_MESSAGES: u32 = 50;

/// A socket of the agent's, and what guard said last.
#[derive(Debug)]
pub(crate) struct GuardClient {
    socket: UnixDatagram,
    /// What `socket` is a second handle of.
    bound: DatagramSocket,
    own: PathBuf,
    guard: PathBuf,
    last: Option<(HostInstant, GuardReport)>,
    unanswered: AtomicU32,
    sent: AtomicU64,
    /// The number of the last request that held an order: what was seen before it says nothing of now.
    last_command: AtomicU64,
    killed: Option<u32>,
}

impl GuardClient {
    /// Binds the agent's socket.
    ///
    /// # Errors
    ///
    /// When the runtime directory is not there: guard makes it, and comes first.
    pub(crate) fn open(host: &HostSettings) -> io::Result<Self> {
        let own = host.guard.runtime_directory.join("agent.sock");
        let (bound, socket) = listen(&own)?;
        Ok(Self {
            socket,
            bound,
            own,
            guard: host.guard_socket(),
            last: None,
            unanswered: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            last_command: AtomicU64::new(0),
            killed: None,
        })
    }

    /// Sends a request. That guard is not there, or does not listen, shows in what it reports.
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

    /// Returns what guard said last, if it is not silent.
    pub(crate) fn report(&self, now: HostInstant) -> Option<&GuardReport> {
        let (at, report) = self.last.as_ref()?;
        let current = report.in_reply_to >= self.last_command.load(Ordering::Relaxed);
        (current && now.elapsed_upper_bound(*at) < RESPONSE_TIMEOUT).then_some(report)
    }

    /// Believes nothing that guard has seen up to now: something has changed that its answer to the
    /// next request will show.
    pub(crate) fn discard_report(&self) {
        self.last_command
            .store(self.sent.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Listens anew where somebody has removed the socket: guard answers into it, and is not silent.
    fn rebind_socket(&mut self) {
        if self.bound.is_there() {
            return;
        }
        match listen(&self.own) {
            Ok((bound, socket)) => {
                warn!(path = %self.own.display(), "agent socket was removed, bound again");
                (self.bound, self.socket) = (bound, socket);
                self.unanswered.store(0, Ordering::Relaxed);
            }
            Err(error) => debug!(%error, "binding agent socket failed"),
        }
    }

    /// Ends a guard that has been silent for too long; systemd starts another.
    pub(crate) fn kill_unresponsive_guard(&mut self) {
        self.rebind_socket();
        let Some((_, report)) = &self.last else {
            return;
        };
        let process = report.guard_pid;
        if self.unanswered.load(Ordering::Relaxed) < MAX_UNANSWERED_MESSAGES || self.killed == Some(process) {
            return;
        }
        error!(process, "guard not responding, killed");
        if let Ok(process) = i32::try_from(process) {
            kill(Pid::from_raw(process), Signal::SIGKILL).ok();
        }
        self.killed = Some(process);
    }
}

fn listen(path: &Path) -> io::Result<(DatagramSocket, UnixDatagram)> {
    let bound = DatagramSocket::bind(path)?;
    let socket = bound.as_ref().try_clone()?;
    socket.set_nonblocking(true)?;
    Ok((bound, UnixDatagram::from_std(socket)?))
}
