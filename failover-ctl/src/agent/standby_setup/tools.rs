//! Execution of PostgreSQL's programs that change the data directory. They end with the agent.

use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::poll;
use tokio::process::Command;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::agent::standby_setup::StandbySetup;
use crate::data_directory;

/// Time for killed processes in the data directory to exit.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval at which they are searched for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

impl StandbySetup {
    /// Returns the command of a program, wrapped so that the program and its children are killed when the agent exits:
    /// `pg_rewind` starts a server, and `pg_basebackup` a second process.
    pub(super) fn tool(&self, name: &str) -> Command {
        let mut command = bound(&self.host.program(name));
        let workplace = self.tools_directory();
        // The error of a program that cannot be run names the cause.
        std::fs::create_dir_all(&workplace).ok();
        command
            // The working directory is how the next agent finds leftovers. It is not the data directory,
            // where a guard that starts ends whatever it finds.
            .current_dir(workplace)
            .stdin(Stdio::null())
            .env("PGCONNECT_TIMEOUT", "5")
            .env("LC_ALL", "C")
            // `tool_exec` ends the whole process group. A SIGKILL would end only the process in between.
            .kill_on_drop(false);
        command
    }

    /// Returns the working directory that only these programs use.
    fn tools_directory(&self) -> PathBuf {
        self.host.agent.state_directory.join("tools")
    }

    /// Kills processes that an earlier agent or a manual start left in the data directory. The guard's server is stopped when
    /// this is called.
    pub(super) async fn kill_leftover_processes(&self) -> anyhow::Result<()> {
        let data = &self.host.postgres.data_directory;
        let workplace = &self.tools_directory();
        let sweep = || {
            anyhow::Ok(
                data_directory::kill_processes(data)? + data_directory::kill_processes(workplace)?,
            )
        };
        let deadline = Instant::now() + SWEEP_TIMEOUT;
        let swept = poll::until(deadline, SWEEP_INTERVAL, async || match sweep() {
            Ok(0) => Break(Ok(())),
            Ok(found) => {
                warn!(found, "leftover processes in the data directory killed");
                Continue(found)
            }
            Err(error) => Break(Err(error)),
        });
        match swept.await {
            Break(swept) => swept,
            Continue(found) => bail!(
                "could not kill the processes that use the data directory: {found} still do after {SWEEP_TIMEOUT:?}"
            ),
        }
    }
}

/// Runs a program.
///
/// # Errors
///
/// When it fails, with its standard error.
pub(super) async fn run(mut command: Command, name: &'static str) -> anyhow::Result<()> {
    let output = output(&mut command, name).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        info!(program = name, stderr = said.trim(), "program succeeded");
        return Ok(());
    }
    bail!("`{name}` exited with {}: {}", output.status, said.trim())
}

/// Runs a program and returns its output.
pub(super) async fn output(command: &mut Command, name: &'static str) -> anyhow::Result<Output> {
    let output = command.output().await;
    output.with_context(|| format!("could not run `{name}`"))
}

#[cfg(not(test))]
fn bound(program: &Path) -> Command {
    // `/proc/self/exe` is this program, also after an upgrade has replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("tool-exec")
        .arg(std::process::id().to_string())
        .arg(program);
    command
}

/// In a unit test, `/proc/self/exe` is the test itself.
#[cfg(test)]
fn bound(program: &Path) -> Command {
    crate::test_server::as_postgres(program).into()
}
