//! Program with its arguments, environment and user.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::{Uid, User};
use tokio::process::Command;
use tokio::time;

/// User that a program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// User that started the lab.
    Oneself,
    /// `postgres` if root started the lab, since PostgreSQL refuses to run as root; otherwise the
    /// user that started the lab.
    Postgres,
}

/// Program with its arguments, environment and user.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the process in messages, and of its log file.
    pub name: String,
    /// Path of the executable.
    pub executable: PathBuf,
    /// Arguments.
    pub arguments: Vec<OsString>,
    /// Complete environment, except `PATH` and `HOME`.
    pub environment: BTreeMap<String, String>,
    /// User.
    pub run_as: RunAs,
    /// File for standard input, opened by the user that started the lab.
    pub stdin: Option<PathBuf>,
    /// Log file, to which its output is appended.
    pub log: PathBuf,
}

/// Result of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramOutput {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Returns user and group of [`RunAs::Postgres`]; `None` if they are the current ones.
///
/// # Errors
///
/// When root runs the lab on a machine without the user `postgres`.
pub fn postgres_user() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    match User::from_name("postgres")? {
        Some(user) => Ok(Some(user)),
        None => bail!(
            "there is no user `postgres` to run PostgreSQL as: install the PostgreSQL server packages"
        ),
    }
}

impl Program {
    /// Returns the command of the program. The program is killed with the thread that started it,
    /// so that no process outlives the lab.
    ///
    /// # Errors
    ///
    /// When the log file cannot be opened, or the user does not exist.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.run_as == RunAs::Postgres
            && let Some(user) = postgres_user()?
        {
            command.arg(format!("--reuid={}", user.uid));
            command.arg(format!("--regid={}", user.gid));
            command.arg("--init-groups");
        }
        let log = self.open_log()?;
        let input = match &self.stdin {
            Some(path) => {
                let what = || format!("could not open `{}`", path.display());
                Stdio::from(File::open(path).with_context(what)?)
            }
            None => Stdio::null(),
        };
        command
            .arg("--")
            .arg(&self.executable)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .envs(&self.environment)
            .current_dir("/")
            .stdin(input)
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Runs the program to its end, and returns its standard output.
    ///
    /// # Errors
    ///
    /// When it fails, with its standard error, or exceeds `timeout`.
    pub async fn run(&self, input: Option<&str>, timeout: Duration) -> anyhow::Result<String> {
        use tokio::io::AsyncWriteExt as _;

        let name = &self.name;
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("could not start `{name}`"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = time::timeout(timeout, child.wait_with_output())
            .await
            .with_context(|| format!("`{name}` did not end within {timeout:?}"))??;
        let standard_error = String::from_utf8_lossy(&output.stderr);
        self.append_log(&standard_error)?;
        if !output.status.success() {
            let ended = output.status;
            bail!("`{name}` failed ({ended}): {}", standard_error.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the program to its end, and returns its result.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or exceeds `timeout` and is killed.
    pub async fn outcome(&self, timeout: Duration) -> anyhow::Result<ProgramOutput> {
        let name = &self.name;
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command
            .spawn()
            .with_context(|| format!("could not start `{name}`"))?;
        let output = time::timeout(timeout, child.wait_with_output())
            .await
            .with_context(|| format!("`{name}` did not end within {timeout:?}"))??;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        self.append_log(&stderr)?;
        Ok(ProgramOutput {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr,
        })
    }

    fn open_log(&self) -> anyhow::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("could not open the log `{}`", self.log.display()))
    }

    fn append_log(&self, text: &str) -> anyhow::Result<()> {
        use std::io::Write as _;

        self.open_log()?.write_all(text.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn command_failed_then_error_has_its_output() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo to the log; echo no such luck >&2; exit 3";
        let program = Program {
            name: "test".to_owned(),
            executable: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: BTreeMap::new(),
            run_as: RunAs::Oneself,
            stdin: None,
            log: directory.path().join("log"),
        };

        let failed = program.run(None, Duration::from_secs(10)).await;

        let error = failed.unwrap_err().to_string();
        assert!(error.contains("no such luck"), "{error}");
    }
}
