//! Loop of the guard, twenty times a second: receive messages, observe PostgreSQL, execute the core's action.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::HostInstant;
use causeway_core::agent::Commits;
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::guard::{Guard, GuardAction, PostgresProcess};
use causeway_runtime::clock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tracing::{info, warn};

use super::config_file;
use super::watchdog_device::WatchdogDevice;
use crate::config::HostSettings;
use crate::data_directory;
use crate::datagram_socket::DatagramSocket;
use crate::process_lock;
use crate::protocol::guard::{
    GuardMessage, GuardRejection, GuardReport, MAX_MESSAGE_BYTES, WatchdogState,
};
use crate::service_manager::ServiceManager;

/// Time to wait for a message, in milliseconds: half of the 0.1 s that the lease timing allows for a wake-up.
const POLL_TIMEOUT_MILLIS: u16 = 50;

/// Interval at which the service manager's watchdog is extended.
const WATCHDOG_INTERVAL: Duration = Duration::from_millis(250);

/// Time for a fast shutdown of PostgreSQL when the guard is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the guard until SIGTERM or SIGINT, and stops PostgreSQL before it returns.
///
/// # Errors
///
/// When another guard runs, or a file or socket cannot be created.
pub(crate) fn run(host: &HostSettings) -> anyhow::Result<()> {
    let runtime = &host.guard.runtime_directory;
    fs::create_dir_all(runtime)
        .with_context(|| format!("could not create `{}`", runtime.display()))?;
    let _process_lock = process_lock::lock(&runtime.join("guard.lock"), "guard")?;
    if let Err(errno) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        warn!(%errno, "locking memory failed, guard may block on paging: raise LimitMEMLOCK");
    }
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
        .thread_block()
        .context("could not block SIGTERM and SIGINT")?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("could not create a signal descriptor")?;

    let mut supervisor = Supervisor::new(host)?;
    info!(node = %host.node.name, incarnation = supervisor.incarnation, "guard started");
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    supervisor.notify_service_manager(ServiceManager::notify_ready);
    loop {
        let mut ready = [
            PollFd::new(supervisor.socket.as_ref().as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if let Err(errno) = poll(&mut ready, PollTimeout::from(POLL_TIMEOUT_MILLIS)) {
            warn!(%errno, "poll failed");
        }
        if let Ok(Some(signal)) = signals.read_signal() {
            info!(signal = signal.ssi_signo, "guard and PostgreSQL stopping");
            supervisor.notify_service_manager(ServiceManager::notify_stopping);
            supervisor.stop_postgres(STOP_TIMEOUT);
            while supervisor.server() != PostgresProcess::Stopped {
                supervisor.tick();
                thread::sleep(Duration::from_millis(u64::from(POLL_TIMEOUT_MILLIS)));
            }
            if let Some(watchdog) = &mut supervisor.watchdog {
                watchdog.disarm();
            }
            supervisor.remove_runtime_files();
            return Ok(());
        }
        while let Ok((length, from)) = supervisor.socket.as_ref().recv_from(&mut buffer) {
            let datagram = buffer
                .get(..length)
                .expect("recv_from returns at most the buffer's length");
            supervisor.handle_message(datagram, &from);
        }
        supervisor.tick();
    }
}

/// State of the guard around the decisions of `causeway-core`.
pub(super) struct Supervisor<'a> {
    pub(super) host: &'a HostSettings,
    pub(super) core: Guard,
    pub(super) socket: DatagramSocket,
    pub(super) incarnation: String,
    pub(super) child: Option<PostgresChild>,
    /// Processes of an exited postmaster may remain.
    pub(super) sweep_pending: bool,
    /// Time when a fast shutdown that was requested turns into a kill.
    pub(super) kill_at: Option<HostInstant>,
    pub(super) fast_shutdown_requested: bool,
    pub(super) watchdog: Option<WatchdogDevice>,
    pub(super) service_manager: Option<ServiceManager>,
    pub(super) watchdog_extended_at: Option<HostInstant>,
    /// Number of attempts to start PostgreSQL.
    pub(super) starts: u64,
    pub(super) commits: Commits,
}

/// Postmaster that the guard has started.
pub(super) struct PostgresChild {
    pub(super) process: Child,
    pub(super) started_at: HostInstant,
    /// It was started as a primary or promoted, by the guard or manually, so it may accept writes at any time.
    pub(super) may_write: bool,
}

impl<'a> Supervisor<'a> {
    fn new(host: &'a HostSettings) -> anyhow::Result<Self> {
        let path = host.guard_socket();
        let socket = DatagramSocket::bind(&path)
            .with_context(|| format!("could not bind the socket `{}`", path.display()))?;
        socket.as_ref().set_nonblocking(true)?;
        let mut supervisor = Self {
            host,
            core: Guard::new(),
            socket,
            incarnation: clock::now().boottime().as_micros().to_string(),
            child: None,
            sweep_pending: true,
            kill_at: None,
            fast_shutdown_requested: false,
            watchdog: host.guard.watchdog_device.clone().map(WatchdogDevice::new),
            service_manager: ServiceManager::from_env()?,
            watchdog_extended_at: None,
            starts: 0,
            commits: Commits::HeldBack,
        };
        if let Some(watchdog) = &mut supervisor.watchdog {
            watchdog.feed(clock::now());
        }
        // Running processes were started by an earlier guard, or manually.
        while supervisor.sweep_pending {
            supervisor.kill_postgres("guard started");
        }
        let path = host.guard_conf();
        config_file::write(host, Commits::HeldBack)
            .with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(supervisor)
    }

    /// Executes one message and sends the report. A message that cannot be parsed is dropped, and so is a report that
    /// the agent does not receive.
    fn handle_message(&mut self, datagram: &[u8], from: &SocketAddr) {
        let Ok(message) = serde_json::from_slice::<GuardMessage>(datagram) else {
            warn!("guard message rejected: not JSON of this release");
            return;
        };
        if let Some(deadline) = message.deadline
            && let Err(error) = self.core.accept_deadline(deadline)
        {
            warn!(%error, "deadline rejected");
        }
        let rejection = message
            .command
            .and_then(|command| self.execute_command(command).err());
        let report = self.report(message.number, rejection);
        if let (Some(path), Ok(answer)) = (from.as_pathname(), serde_json::to_vec(&report)) {
            self.socket.as_ref().send_to(&answer, path).ok();
        }
    }

    /// Notifies the service manager without blocking.
    fn notify_service_manager(&self, message: impl FnOnce(&ServiceManager) -> io::Result<()>) {
        if let Some(service_manager) = &self.service_manager
            && let Err(error) = message(service_manager)
        {
            warn!(%error, "service manager not notified");
        }
    }

    /// Extends the watchdog of the service manager, which kills the guard and PostgreSQL if the guard stops responding.
    fn extend_watchdog(&mut self, now: HostInstant, server: PostgresProcess) {
        let due = self
            .watchdog_extended_at
            .is_none_or(|watchdog_extended_at| {
                now.elapsed_upper_bound(watchdog_extended_at) >= WATCHDOG_INTERVAL
            });
        if due {
            self.watchdog_extended_at = Some(now);
            let limit = self.core.supervisor_limit(now, server);
            self.notify_service_manager(|manager| manager.extend_watchdog(limit));
        }
    }

    /// Sets the watchdog for a server that may write before it starts: otherwise a guard that freezes right after the
    /// start would get the longer limit of a standby.
    pub(super) fn extend_watchdog_for_writer(&mut self) {
        self.watchdog_extended_at = None;
        self.extend_watchdog(clock::now(), PostgresProcess::MayWrite);
    }

    /// Observes PostgreSQL once and executes the action that the deadline requires.
    fn tick(&mut self) {
        self.rebind_socket();
        self.reap_postmaster();
        self.detect_promotion();
        if self.sweep_pending {
            self.kill_postgres("postmaster exited");
        }
        let now = clock::now();
        let server = self.server();
        match self.core.tick(now, clock::wall(), server) {
            GuardAction::Kill if server == PostgresProcess::Unmanaged => {
                self.kill_postgres("unmanaged postmaster");
            }
            GuardAction::Kill => self.kill_postgres("kill deadline reached"),
            GuardAction::FastShutdown => self.request_fast_shutdown(),
            GuardAction::None => {}
        }
        if self
            .kill_at
            .is_some_and(|deadline| now.has_passed_on_any_clock(deadline))
        {
            self.kill_postgres("fast shutdown timed out");
        }
        self.extend_watchdog(now, server);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed(now);
        }
    }

    /// Binds the socket again if its file was removed, for example by a cleanup of the runtime directory.
    fn rebind_socket(&mut self) {
        if self.socket.is_there() {
            return;
        }
        let path = self.host.guard_socket();
        let bound = DatagramSocket::bind(&path).and_then(|socket| {
            socket.as_ref().set_nonblocking(true)?;
            Ok(socket)
        });
        if let Ok(socket) = bound {
            warn!(path = %path.display(), "guard socket was removed, bound again");
            self.socket = socket;
        }
    }

    pub(super) fn server(&self) -> PostgresProcess {
        let Some(running) = &self.child else {
            if self.sweep_pending {
                return PostgresProcess::MayWrite;
            }
            let is_unmanaged = data_directory::postmaster(self.data()).is_some();
            return if is_unmanaged {
                PostgresProcess::Unmanaged
            } else {
                PostgresProcess::Stopped
            };
        };
        if running.may_write || !data_directory::is_still_standby(self.data()) {
            return PostgresProcess::MayWrite;
        }
        PostgresProcess::Standby
    }

    pub(super) fn directory(&self) -> DataDirectoryState {
        data_directory::state(self.data(), &self.host.rewinding_marker())
    }

    fn report(&self, in_reply_to: u64, rejection: Option<GuardRejection>) -> GuardReport {
        let control = data_directory::read_control_file(self.data()).ok();
        GuardReport {
            in_reply_to,
            incarnation: self.incarnation.clone(),
            guard_pid: std::process::id(),
            server: self.server(),
            data_directory_state: self.directory(),
            system_id: control.map(|control| control.system_id),
            checkpoint_timeline: control.and_then(|control| control.timeline),
            started_at: self.child.as_ref().map(|child| child.started_at),
            starts: self.starts,
            commits: self.commits,
            deadline: self.core.deadline(),
            wants_renewal_since: self.core.wants_renewal_since(),
            watchdog: self
                .watchdog
                .as_ref()
                .map_or(WatchdogState::NotConfigured, WatchdogDevice::state),
            rejection,
        }
    }

    pub(super) fn data(&self) -> &Path {
        &self.host.postgres.data_directory
    }

    fn remove_runtime_files(&self) {
        for path in [self.host.guard_socket(), self.host.guard_conf()] {
            fs::remove_file(path).ok();
        }
    }
}

impl PostgresChild {
    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests;
