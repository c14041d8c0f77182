//! Programs as processes: started, waited for, stopped, and started again as systemd would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::shutdown::Tasks;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time;
use tracing::{debug, info, warn};

use crate::cluster::program::Program;
use crate::cluster::watchdog::{Watchdog, WatchdogSettings, anything_left};
use crate::wait;

/// How long the supervisor waits before it starts a program again, as `RestartSec=200ms` would.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// How long a process may take to be gone after SIGKILL: the kernel only has to be given a turn.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// What happens when a program ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is started again, as by systemd's `RestartPolicy=always`.
    Always,
    /// It stays down.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DesiredState {
    Running,
    Ended(Signal),
}

/// What a supervisor last saw of its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ProcessState {
    pid: Option<i32>,
    starts: u32,
    last_exit: Option<String>,
}

/// A process under supervision. It is ended when this value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    wanted: watch::Sender<DesiredState>,
    asleep: watch::Sender<bool>,
    seen: watch::Receiver<ProcessState>,
}

impl Process {
    /// Takes a program under supervision. It is not started yet.
    pub fn new(program: Program, restart: RestartPolicy, tasks: &Tasks) -> Self {
        Self::supervised(program, restart, None, tasks)
    }

    /// Takes a program under supervision that announces how long it may be silent, and ends with
    /// everything that belongs to it when it is silent for longer. It is not started yet.
    pub fn watched(mut program: Program, watched: WatchdogSettings, tasks: &Tasks) -> Self {
        program.environment.extend(watched.environment());
        Self::supervised(program, RestartPolicy::Always, Some(watched), tasks)
    }

    fn supervised(
        program: Program,
        restart: RestartPolicy,
        watched: Option<WatchdogSettings>,
        tasks: &Tasks,
    ) -> Self {
        let (wanted, orders) = watch::channel(DesiredState::Ended(Signal::SIGTERM));
        let (asleep, sleeping) = watch::channel(false);
        let (report, seen) = watch::channel(ProcessState::default());
        let process = Self {
            name: program.name.clone(),
            log: program.log.clone(),
            wanted,
            asleep,
            seen,
        };
        let supervisor = ProcessSupervisor {
            program,
            restart,
            watched,
            orders,
            sleeping,
            report,
        };
        tasks.start("supervisor", |stop| async move {
            tokio::select! {
                () = supervisor.run() => {}
                () = stop.cancelled() => {}
            }
        });
        process
    }

    /// Returns the name of the process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the file that holds what the process wrote.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the process's number, while there is a process.
    pub fn pid(&self) -> Option<i32> {
        self.seen.borrow().pid
    }

    /// Returns how often the program was started.
    pub fn starts(&self) -> u32 {
        self.seen.borrow().starts
    }

    /// Returns in a few words how the process is.
    pub fn state(&self) -> String {
        let seen = self.seen.borrow();
        match (seen.pid, &seen.last_exit) {
            (Some(pid), _) if is_stopped(pid) => format!("frozen (pid {pid})"),
            (Some(pid), _) => format!("running (pid {pid})"),
            (None, Some(exit)) => format!("down ({exit})"),
            (None, None) => "down".to_owned(),
        }
    }

    /// Asks for the program to run. It does so a moment later.
    pub fn start(&self) {
        self.wanted.send_replace(DesiredState::Running);
    }

    /// Kills the process at once and leaves it down until it is started again.
    ///
    /// # Errors
    ///
    /// When the process is not gone in time.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.end(Signal::SIGKILL, KILLED_WITHIN).await
    }

    /// Asks the process to end, and waits until it has.
    ///
    /// # Errors
    ///
    /// When it is not gone within `grace`.
    pub async fn stop(&self, grace: Duration) -> anyhow::Result<()> {
        self.end(Signal::SIGTERM, grace).await
    }

    /// Sends a signal. A process that this ends is started again if that is its way.
    ///
    /// # Errors
    ///
    /// When there is no process.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else {
            bail!(
                "`{}` is not running, so it cannot be sent {signal}",
                self.name
            );
        };
        kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("could not send {signal} to `{}` (pid {pid})", self.name))
    }

    /// Makes the supervisor sleep, as when its host is paused, or wake up: while it sleeps, a silent
    /// process is not ended.
    pub fn supervisor_sleeps(&self, asleep: bool) {
        self.asleep.send_replace(asleep);
    }

    /// Waits until the process runs for the `starts`th time or a later one.
    ///
    /// # Errors
    ///
    /// When it does not, with the end of its log.
    pub async fn started(&self, starts: u32, timeout: Duration) -> anyhow::Result<()> {
        let what = format!("`{}` to start", self.name);
        wait::until(&what, timeout, || async {
            let seen = self.seen.borrow().clone();
            if seen.pid.is_some() && seen.starts >= starts {
                return Ok(());
            }
            Err(format!("{seen:?}; its log ends: {}", self.last_words()))
        })
        .await?;
        Ok(())
    }

    /// Waits until the program was started once, whether or not it still runs.
    ///
    /// # Errors
    ///
    /// When it was not, within `timeout`.
    pub async fn was_started(&self, timeout: Duration) -> anyhow::Result<()> {
        let what = format!("`{}` to be started", self.name);
        wait::until(&what, timeout, || async {
            let seen = self.seen.borrow().clone();
            if seen.starts > 0 {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await?;
        Ok(())
    }

    /// Returns the end of the log, for a message that says why something did not come up.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.reverse();
        lines.join(" | ")
    }

    async fn end(&self, signal: Signal, grace: Duration) -> anyhow::Result<()> {
        self.wanted.send_replace(DesiredState::Ended(signal));
        let mut seen = self.seen.clone();
        time::timeout(grace, seen.wait_for(|it| it.pid.is_none()))
            .await
            .with_context(|| format!("`{}` did not end within {grace:?} of {signal}", self.name))?
            .with_context(|| format!("nobody looks after `{}` any more", self.name))?;
        Ok(())
    }
}

struct ProcessSupervisor {
    program: Program,
    restart: RestartPolicy,
    watched: Option<WatchdogSettings>,
    orders: watch::Receiver<DesiredState>,
    sleeping: watch::Receiver<bool>,
    report: watch::Sender<ProcessState>,
}

impl ProcessSupervisor {
    async fn run(mut self) {
        while self
            .orders
            .wait_for(|it| *it == DesiredState::Running)
            .await
            .is_ok()
        {
            let name = self.program.name.clone();
            let watched = self.watched.clone();
            let spawned = self.spawn(watched.as_ref());
            match spawned {
                Ok((child, watchdog)) => self.look_after(child, watchdog).await,
                Err(error) => {
                    warn!(process = name, error = format!("{error:#}"), "not started");
                    self.report.send_modify(|it| {
                        it.last_exit = Some(format!("{error:#}"));
                    });
                }
            }
            if self.restart == RestartPolicy::Never {
                let ended = |it: &DesiredState| *it != DesiredState::Running;
                if self.orders.wait_for(ended).await.is_err() {
                    return;
                }
            }
            time::sleep(RESTART_AFTER).await;
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

    /// Waits until the process ends, by itself, as ordered, or because it was silent for too long.
    async fn look_after(&mut self, mut child: Child, mut watchdog: Option<Watchdog<'_>>) {
        let pid = child.id().and_then(|it| i32::try_from(it).ok());
        self.report.send_modify(|it| {
            it.pid = pid;
            it.starts += 1;
        });
        debug!(process = self.program.name, pid, "process started");
        let mut silent = false;
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break ended,
                () = expired(watchdog.as_mut(), &mut self.sleeping), if !silent => {
                    silent = true;
                    if let (Some(watchdog), Some(pid)) = (&watchdog, pid) {
                        watchdog.end_all(pid);
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        break child.kill().await.and(child.wait().await);
                    }
                    let order = *self.orders.borrow();
                    if let (DesiredState::Ended(signal), Some(pid)) = (order, pid) {
                        tell(pid, signal);
                    }
                }
            }
        };
        if silent && let Some(watched) = &self.watched {
            sweep(&watched.data).await;
        }
        let last_exit = match (ended, silent) {
            (Ok(_), true) => "ended by its watchdog".to_owned(),
            (Ok(status), false) => status.to_string(),
            (Err(error), _) => error.to_string(),
        };
        info!(process = self.program.name, pid, last_exit, "process ended");
        self.report.send_modify(|it| {
            it.pid = None;
            it.last_exit = Some(last_exit);
        });
    }
}

/// Returns once a process has been silent for too long, and its supervisor is awake.
async fn expired(watchdog: Option<&mut Watchdog<'_>>, sleeping: &mut watch::Receiver<bool>) {
    let Some(watchdog) = watchdog else {
        return std::future::pending().await;
    };
    loop {
        watchdog.expired().await;
        if !*sleeping.borrow_and_update() {
            return;
        }
        if sleeping.wait_for(|it| !it).await.is_err() {
            return;
        }
    }
}

/// Ends what is left in a data directory after its guard was ended.
async fn sweep(data: &Path) {
    for _round in 0..100 {
        if !anything_left(data) {
            return;
        }
        if let Err(error) = signal_inside(data, Signal::SIGKILL) {
            warn!(error = format!("{error:#}"), "data directory not swept");
        }
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a signal to each of these processes that is still there.
pub(crate) fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        tell(*pid, signal);
    }
}

pub(crate) fn tell(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => warn!(pid, %signal, %error, "signal not sent"),
    }
}

/// Says whether a process was stopped by SIGSTOP (state `T` in proc(5)).
pub(crate) fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'T')
}

/// Returns a process's state and its parent.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Returns every process that this machine has.
fn all() -> anyhow::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").context("could not list `/proc`")?;
    let pid = |it: std::fs::DirEntry| it.file_name().to_string_lossy().parse().ok();
    Ok(entries.flatten().filter_map(pid).collect())
}

/// Returns every child of a process, their children, and so on.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn descendants(of: i32) -> anyhow::Result<Vec<i32>> {
    let parents = all()?.into_iter().filter_map(|it| Some((it, stat(it)?.1)));
    let parents: Vec<(i32, i32)> = parents.collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = parents.iter().filter(|(_, it)| *it == parent);
        found.extend(children.map(|(child, _)| *child));
    }
    found.remove(0);
    Ok(found)
}

/// Returns every process whose working directory is `directory`: how a postmaster and all that it
/// started are found, whoever their parent is by now.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn inside(directory: &Path) -> anyhow::Result<Vec<i32>> {
    let works_there =
        |it: &i32| std::fs::read_link(format!("/proc/{it}/cwd")).is_ok_and(|cwd| cwd == directory);
    Ok(all()?.into_iter().filter(works_there).collect())
}

/// Sends a signal to every process whose working directory is `directory`. Returns how many there
/// were.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn signal_inside(directory: &Path, signal: Signal) -> anyhow::Result<usize> {
    let found = inside(directory)?;
    for pid in &found {
        tell(*pid, signal);
    }
    Ok(found.len())
}

/// Kills every process whose working directory is `directory`, and waits until none is left.
///
/// # Errors
///
/// When some are still there after five seconds.
pub async fn kill_inside(directory: &Path) -> anyhow::Result<()> {
    let what = format!("no process to be left in `{}`", directory.display());
    wait::until(&what, KILLED_WITHIN, || async {
        match signal_inside(directory, Signal::SIGKILL) {
            Ok(0) => Ok(()),
            Ok(left) => Err(format!("{left} processes")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::program::RunAs;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "multi_thread")]
    async fn starts_again_what_died_and_leaves_down_what_was_killed() {
        let fixture = fixture();
        let process = fixture.process("exec sleep 600", RestartPolicy::Always);
        process.start();
        process.started(1, SOON).await.unwrap();

        process.signal(Signal::SIGKILL).unwrap();
        process.started(2, SOON).await.unwrap();

        process.kill().await.unwrap();
        assert_eq!(process.pid(), None);
        time::sleep(2 * RESTART_AFTER).await;
        assert_eq!(process.starts(), 2);

        process.start();
        process.started(3, SOON).await.unwrap();
        fixture.tasks.stop(SOON).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn shows_a_frozen_process_as_frozen() {
        let fixture = fixture();
        let process = fixture.process("exec sleep 600", RestartPolicy::Always);
        process.start();
        process.started(1, SOON).await.unwrap();

        process.signal(Signal::SIGSTOP).unwrap();
        wait::until("a frozen process", SOON, || async {
            let state = process.state();
            if state.starts_with("frozen") {
                Ok(())
            } else {
                Err(state)
            }
        })
        .await
        .unwrap();
        fixture.tasks.stop(SOON).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn silent_process_then_it_ends_with_its_children_and_starts_anew() {
        let fixture = fixture();
        let watched = WatchdogSettings {
            socket: fixture.directory.path().join("notify"),
            limit: Duration::from_mins(10),
            data: fixture.directory.path().join("data"),
        };
        let children = fixture.directory.path().join("children");
        let script = format!("setsid sleep 600 & echo $! >>{}; wait", children.display());
        let process = Process::watched(fixture.program(&script), watched.clone(), &fixture.tasks);
        process.start();
        let child = wait::until("a child", SOON, || async {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            text.trim().parse::<i32>().map_err(|it| it.to_string())
        })
        .await
        .unwrap();
        assert_eq!(descendants(process.pid().unwrap()).unwrap(), [child]);

        tell(child, Signal::SIGSTOP);
        process.signal(Signal::SIGSTOP).unwrap();
        process.supervisor_sleeps(true);
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender
            .send_to(b"WATCHDOG_USEC=1000", &watched.socket)
            .unwrap();
        time::sleep(Duration::from_millis(200)).await;
        assert!(stat(child).is_some(), "its supervisor sleeps");

        process.supervisor_sleeps(false);
        process.started(2, SOON).await.unwrap();
        wait::until("the frozen child to be gone", SOON, || async {
            match stat(child) {
                None | Some(('Z', _)) => Ok(()),
                Some(left) => Err(format!("{left:?}")),
            }
        })
        .await
        .unwrap();
        assert_eq!(process.starts(), 2);
        fixture.tasks.stop(SOON).await;
    }

    struct ProcessFixture {
        tasks: Tasks,
        directory: tempfile::TempDir,
    }

    fn fixture() -> ProcessFixture {
        ProcessFixture {
            tasks: Tasks::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    impl ProcessFixture {
        fn program(&self, script: &str) -> Program {
            Program {
                name: "test".to_owned(),
                executable: "/bin/sh".into(),
                arguments: vec!["-c".into(), script.into()],
                environment: BTreeMap::new(),
                run_as: RunAs::Oneself,
                stdin: None,
                log: self.directory.path().join("log"),
            }
        }

        fn process(&self, script: &str, restart: RestartPolicy) -> Process {
            Process::new(self.program(script), restart, &self.tasks)
        }
    }
}
