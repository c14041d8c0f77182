//! Programs as processes: started, stopped and restarted as systemd would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::shutdown::Tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time;

use crate::cluster::process_table::{KILL_TIMEOUT, is_stopped};
use crate::cluster::program::Program;
pub use crate::cluster::supervisor::RestartPolicy;
use crate::cluster::supervisor::{DesiredState, ProcessState, ProcessSupervisor};
use crate::cluster::watchdog::WatchdogSettings;
use crate::wait;

/// Supervised process. Dropping this value kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    wanted: watch::Sender<DesiredState>,
    asleep: watch::Sender<bool>,
    seen: watch::Receiver<ProcessState>,
}

impl Process {
    /// Creates the supervisor of a program, without starting it.
    pub fn new(program: Program, restart: RestartPolicy, tasks: &Tasks) -> Self {
        Self::supervised(program, restart, None, tasks)
    }

    /// Creates the supervisor of a program that announces its watchdog limit. When the limit is
    /// exceeded, all of its processes are killed. The program is not started.
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

    /// Returns the log file of the process.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the process ID, if the process is running.
    pub fn pid(&self) -> Option<i32> {
        self.seen.borrow().pid
    }

    /// Returns the number of starts.
    pub fn starts(&self) -> u32 {
        self.seen.borrow().starts
    }

    /// Returns the state in words.
    pub fn state(&self) -> String {
        let seen = self.seen.borrow();
        match (seen.pid, &seen.last_exit) {
            (Some(pid), _) if is_stopped(pid) => format!("frozen (pid {pid})"),
            (Some(pid), _) => format!("running (pid {pid})"),
            (None, Some(exit)) => format!("down ({exit})"),
            (None, None) => "down".to_owned(),
        }
    }

    /// Requests a start, which follows shortly after.
    pub fn start(&self) {
        self.wanted.send_replace(DesiredState::Running);
    }

    /// Kills the process, which stays down until it is started again.
    ///
    /// # Errors
    ///
    /// When the process does not end in time.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.end(Signal::SIGKILL, KILL_TIMEOUT).await
    }

    /// Sends SIGTERM, and waits until the process has ended.
    ///
    /// # Errors
    ///
    /// When it does not end within `grace`.
    pub async fn stop(&self, grace: Duration) -> anyhow::Result<()> {
        self.end(Signal::SIGTERM, grace).await
    }

    /// Sends a signal. A process that ends by it is restarted according to its policy.
    ///
    /// # Errors
    ///
    /// When no process is running.
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

    /// Pauses the supervisor, as when its host is paused, or resumes it. While paused, it does not
    /// enforce the watchdog limit.
    pub fn set_supervisor_paused(&self, asleep: bool) {
        self.asleep.send_replace(asleep);
    }

    /// Waits for the `starts`th start or a later one.
    ///
    /// # Errors
    ///
    /// When it does not happen in time, with the end of the log.
    pub async fn started(&self, starts: u32, timeout: Duration) -> anyhow::Result<()> {
        let what = format!("`{}` to start", self.name);
        wait::until(&what, timeout, || async {
            let seen = self.seen.borrow().clone();
            if seen.pid.is_some() && seen.starts >= starts {
                return Ok(());
            }
            Err(format!("{seen:?}; its log ends: {}", self.log_end()))
        })
        .await?;
        Ok(())
    }

    /// Waits until the program has been started once, whether or not it still runs.
    ///
    /// # Errors
    ///
    /// When it is not started within `timeout`.
    pub async fn wait_for_first_start(&self, timeout: Duration) -> anyhow::Result<()> {
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

    /// Returns the end of the log, for an error message.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log)
            .unwrap_or_else(|error| format!("log not readable: {error}"));
        let mut lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.reverse();
        lines.join(" | ")
    }

    async fn end(&self, signal: Signal, grace: Duration) -> anyhow::Result<()> {
        self.wanted.send_replace(DesiredState::Ended(signal));
        let mut seen = self.seen.clone();
        time::timeout(grace, seen.wait_for(|state| state.pid.is_none()))
            .await
            .with_context(|| format!("`{}` did not end within {grace:?} of {signal}", self.name))?
            .with_context(|| format!("the supervisor of `{}` has ended", self.name))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::process_table::{descendants, send_signal, stat};
    use crate::cluster::program::RunAs;
    use crate::cluster::supervisor::RESTART_DELAY;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "multi_thread")]
    async fn process_dies_then_restarted_unless_stopped() {
        let fixture = fixture();
        let process = fixture.process("exec sleep 600", RestartPolicy::Always);
        process.start();
        process.started(1, SOON).await.unwrap();

        process.signal(Signal::SIGKILL).unwrap();
        process.started(2, SOON).await.unwrap();

        process.kill().await.unwrap();
        assert_eq!(process.pid(), None);
        time::sleep(2 * RESTART_DELAY).await;
        assert_eq!(process.starts(), 2);

        process.start();
        process.started(3, SOON).await.unwrap();
        fixture.tasks.stop(SOON).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn process_frozen_then_shown_as_frozen() {
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
    async fn watchdog_expired_then_descendants_killed_and_restarted() {
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
            let text = std::fs::read_to_string(&children).map_err(|error| error.to_string())?;
            text.trim()
                .parse::<i32>()
                .map_err(|error| error.to_string())
        })
        .await
        .unwrap();
        assert_eq!(descendants(process.pid().unwrap()).unwrap(), [child]);

        send_signal(child, Signal::SIGSTOP);
        process.signal(Signal::SIGSTOP).unwrap();
        process.set_supervisor_paused(true);
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender
            .send_to(b"WATCHDOG_USEC=1000", &watched.socket)
            .unwrap();
        time::sleep(Duration::from_millis(200)).await;
        assert!(stat(child).is_some(), "its supervisor sleeps");

        process.set_supervisor_paused(false);
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
