//! Loop of the guard, twenty times a second: receive messages, observe PostgreSQL, execute the core's action.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
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
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tracing::{error, info, warn};

use super::{child, config_file, lock_files};
use crate::config::HostSettings;
use crate::data_directory;
use crate::data_directory::timeline_history;
use crate::datagram_socket::DatagramSocket;
use crate::guard::notify::ServiceManager;
use crate::process_lock;
use crate::protocol::guard::{
    GuardMessage, GuardRejection, GuardReport, MAX_MESSAGE_BYTES, SupervisorCommand,
};

/// How long one turn waits for a message: half of the 0.1 s that the lease allows guard to wake up.
const POLL_TIMEOUT_MILLIS: u16 = 50;

/// How often the supervisor is told for how long it may wait for the next message.
const WATCHDOG_INTERVAL: Duration = Duration::from_millis(250);

/// How long PostgreSQL may drain when guard itself is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs guard until SIGTERM or SIGINT; PostgreSQL is ended before it returns.
pub(crate) fn run(host: &HostSettings) -> anyhow::Result<()> {
    let runtime = &host.guard.runtime_directory;
    fs::create_dir_all(runtime)
        .with_context(|| format!("could not make `{}`", runtime.display()))?;
    let _only_one = process_lock::lock(&runtime.join("guard.lock"), "guard")?;
    if let Err(errno) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        warn!(%errno, "locking memory failed, guard may block on paging: raise LimitMEMLOCK");
    }
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("could not block signals")?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("could not take signals from a descriptor")?;

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
            supervisor.remove_runtime_files();
            return Ok(());
        }
        while let Ok((length, from)) = supervisor.socket.as_ref().recv_from(&mut buffer) {
            supervisor.handle_message(buffer.get(..length).unwrap_or_default(), &from);
        }
        supervisor.tick();
    }
}

/// Guard at its post.
pub(super) struct Supervisor<'a> {
    pub(super) host: &'a HostSettings,
    pub(super) core: Guard,
    pub(super) socket: DatagramSocket,
    pub(super) incarnation: String,
    pub(super) child: Option<PostgresChild>,
    /// Processes may be left of the child that ended.
    pub(super) sweep_pending: bool,
    /// Until when PostgreSQL may take to end by itself.
    pub(super) kill_at: Option<HostInstant>,
    pub(super) fast_shutdown_requested: bool,
    pub(super) watchdog: Option<File>,
    pub(super) service_manager: Option<ServiceManager>,
    pub(super) watchdog_extended_at: Option<HostInstant>,
    /// How many postmasters were started.
    pub(super) starts: u64,
    pub(super) commits: Commits,
}

pub(super) struct PostgresChild {
    pub(super) process: Child,
    pub(super) started_at: HostInstant,
    /// It was started as a primary, or guard has promoted it, or it was seen to be promoted by somebody
    /// else: from then on it may write at any moment.
    pub(super) may_write: bool,
}

impl<'a> Supervisor<'a> {
    fn new(host: &'a HostSettings) -> anyhow::Result<Self> {
        let path = host.guard_socket();
        let socket = DatagramSocket::bind(&path)
            .with_context(|| format!("could not listen on `{}`", path.display()))?;
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
            watchdog: open_watchdog(host.guard.watchdog_device.as_deref()),
            service_manager: ServiceManager::from_env().context("`NOTIFY_SOCKET` cannot be used")?,
            watchdog_extended_at: None,
            starts: 0,
            commits: Commits::HeldBack,
        };
        // Whatever runs was started by a guard that is gone, or by somebody else.
        while supervisor.sweep_pending {
            supervisor.kill_postgres("guard started");
        }
        let path = host.guard_conf();
        config_file::write(host, Commits::HeldBack)
            .with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(supervisor)
    }

    /// Answers one message. One that cannot be read, or an agent that does not listen, is passed over.
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
        let rejection = message.command.and_then(|command| self.execute_command(command).err());
        let report = self.report(message.number, rejection);
        if let (Some(path), Ok(answer)) = (from.as_pathname(), serde_json::to_vec(&report)) {
            self.socket.as_ref().send_to(&answer, path).ok();
        }
    }

    fn execute_command(&mut self, command: SupervisorCommand) -> Result<(), GuardRejection> {
        let server = self.server();
        let failed = |error: io::Error| GuardRejection::Failed(error.to_string());
        match command {
            SupervisorCommand::Stop { drain_millis } => {
                self.stop_postgres(Duration::from_millis(drain_millis));
                Ok(())
            }
            SupervisorCommand::StartStandby => {
                self.expect_state(server, PostgresProcess::Stopped)?;
                // An attempt counts whether or not a postmaster comes of it.
                self.starts += 1;
                self.prepare_start(Commits::HeldBack)?;
                data_directory::put_standby_signal(self.data()).map_err(failed)?;
                self.start_postgres(false).map_err(failed)
            }
            SupervisorCommand::StartPrimary(epoch, commits) => {
                self.expect_state(server, PostgresProcess::Stopped)?;
                let prepared = self.prepare_start(commits);
                self.core
                    .check_start_allowed(clock::now(), epoch)
                    .map_err(GuardRejection::Refused)?;
                self.starts += 1;
                prepared?;
                data_directory::remove_standby_signal(self.data()).map_err(failed)?;
                self.extend_watchdog_for_writer();
                self.start_postgres(true).map_err(failed)
            }
            SupervisorCommand::Acknowledge(epoch) => {
                self.expect_state(server, PostgresProcess::MayWrite)?;
                self.core
                    .check_commits_allowed(clock::now(), epoch)
                    .map_err(GuardRejection::Refused)?;
                self.acknowledge_commits().map_err(failed)
            }
            SupervisorCommand::Promote {
                epoch,
                own,
                reserved,
            } => {
                self.expect_state(server, PostgresProcess::Standby)?;
                // A promotion that was cut off leaves its history file, and the next would begin the
                // number after it, which nobody has reserved.
                if let Some(taken) = data_directory::history_from(self.data(), reserved) {
                    return Err(GuardRejection::TimelineTaken(taken));
                }
                self.core
                    .check_start_allowed(clock::now(), epoch)
                    .map_err(GuardRejection::Refused)?;
                // Nothing is left of it if PostgreSQL ends before the timeline is begun: see `prepare_start`.
                timeline_history::reserve(self.data(), own, reserved).map_err(failed)?;
                self.extend_watchdog_for_writer();
                self.promote_postgres().map_err(failed)
            }
        }
    }

    fn expect_state(
        &self,
        found: PostgresProcess,
        wanted: PostgresProcess,
    ) -> Result<(), GuardRejection> {
        if found == wanted && self.kill_at.is_none() {
            return Ok(());
        }
        Err(GuardRejection::WrongState(found))
    }

    /// Makes sure that the directory can be started from, and cannot be without guard.
    fn prepare_start(&mut self, commits: Commits) -> Result<(), GuardRejection> {
        let directory = self.directory();
        if matches!(
            directory,
            DataDirectoryState::Empty | DataDirectoryState::Rewinding
        ) {
            return Err(GuardRejection::WrongDirectory(directory));
        }
        let failed = |error: io::Error| GuardRejection::Failed(error.to_string());
        if let Err(error) = config_file::check(self.host) {
            return Err(GuardRejection::Failed(format!("{error:#}")));
        }
        config_file::include(self.host).map_err(failed)?;
        timeline_history::remove_dangling(self.data()).map_err(failed)?;
        lock_files::remove_stale(&self.host.postgres).map_err(failed)?;
        config_file::drop_overrides(self.data()).map_err(failed)?;
        self.commits = commits;
        config_file::write(self.host, commits).map_err(failed)
    }

    fn start_postgres(&mut self, may_write: bool) -> io::Result<()> {
        let process = child::spawn_postgres(self.host)?;
        let role = if may_write { "primary" } else { "standby" };
        info!(role, process = process.id(), "PostgreSQL started");
        self.child = Some(PostgresChild {
            process,
            started_at: clock::now(),
            may_write,
        });
        self.fast_shutdown_requested = false;
        Ok(())
    }

    /// Promotes as `pg_ctl promote` does: a file, and SIGUSR1 to the postmaster.
    fn promote_postgres(&mut self) -> io::Result<()> {
        let data = self.data().to_owned();
        let Some(running) = &mut self.child else {
            return Ok(());
        };
        File::create(data.join("promote"))?;
        running.may_write = true;
        kill(running.pid(), Signal::SIGUSR1)?;
        info!("promotion started");
        Ok(())
    }

    /// Has PostgreSQL acknowledge the commits that it held back.
    fn acknowledge_commits(&mut self) -> io::Result<()> {
        config_file::write(self.host, Commits::Acknowledged)?;
        self.commits = Commits::Acknowledged;
        if let Some(running) = &self.child {
            kill(running.pid(), Signal::SIGHUP)?;
        }
        info!("commit acknowledgement enabled");
        Ok(())
    }

    /// Tells the supervisor, and never waits for it.
    fn notify_service_manager(&self, message: impl FnOnce(&ServiceManager) -> io::Result<()>) {
        if let Some(service_manager) = &self.service_manager
            && let Err(error) = message(service_manager)
        {
            warn!(%error, "service manager not notified");
        }
    }

    /// Has the supervisor end guard and PostgreSQL, should guard be frozen when that is due.
    fn extend_watchdog(&mut self, now: HostInstant, server: PostgresProcess) {
        let due = self
            .watchdog_extended_at
            .is_none_or(|watchdog_extended_at| now.elapsed_upper_bound(watchdog_extended_at) >= WATCHDOG_INTERVAL);
        if due {
            self.watchdog_extended_at = Some(now);
            let limit = self.core.supervisor_limit(now, server);
            self.notify_service_manager(|manager| manager.extend_watchdog(limit));
        }
    }

    /// Gives the supervisor the deadline of a server that may write before there is one: a guard that is
    /// frozen right after it has started one would be waited for as if its server could not write.
    fn extend_watchdog_for_writer(&mut self) {
        self.watchdog_extended_at = None;
        self.extend_watchdog(clock::now(), PostgresProcess::MayWrite);
    }

    /// Looks at everything once, and does what has to be done.
    fn tick(&mut self) {
        self.rebind_socket();
        self.reap_postmaster();
        self.notice_promotion();
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
            watchdog.write_all(b"1").ok();
        }
    }

    /// Listens anew where somebody has removed the socket: PostgreSQL need not end for that.
    fn rebind_socket(&mut self) {
        if self.socket.is_there() {
            return;
        }
        let path = self.host.guard_socket();
        let again = DatagramSocket::bind(&path).and_then(|socket| {
            socket.as_ref().set_nonblocking(true)?;
            Ok(socket)
        });
        if let Ok(socket) = again {
            warn!(path = %path.display(), "guard socket was removed, bound again");
            self.socket = socket;
        }
    }

    fn server(&self) -> PostgresProcess {
        let Some(running) = &self.child else {
            if self.sweep_pending {
                return PostgresProcess::MayWrite;
            }
            let foreign = data_directory::postmaster(self.data()).is_some();
            return if foreign {
                PostgresProcess::Unmanaged
            } else {
                PostgresProcess::Stopped
            };
        };
        if running.may_write || !data_directory::is_bound_to_follow(self.data()) {
            return PostgresProcess::MayWrite;
        }
        PostgresProcess::Standby
    }

    fn directory(&self) -> DataDirectoryState {
        data_directory::kind(self.data(), &self.host.rewinding_marker())
    }

    fn report(&self, in_reply_to: u64, rejection: Option<GuardRejection>) -> GuardReport {
        let control = data_directory::control(self.data()).ok();
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

fn open_watchdog(path: Option<&Path>) -> Option<File> {
    let path = path?;
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Some(file),
        Err(error) => {
            error!(%error, path = %path.display(), "watchdog device not opened");
            None
        }
    }
}
