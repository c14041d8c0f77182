//! A backup that is held at a defined point: after it has begun, and before it reads a file.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::agent::{World, as_postgres};

/// A lock on a table that a backup queries for the needed files, and that no other query of a
/// scenario reads.
pub(crate) struct Gate {
    psql: Child,
}

/// A backup that is running.
pub(crate) struct Running {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Gate {
    /// Takes the lock.
    pub(crate) async fn close(world: &World) -> Self {
        let mut command = as_postgres("/usr/lib/postgresql/15/bin/psql");
        command
            .args(["-XAtq", "-U", "postgres", "-h"])
            .arg(world.directory.path())
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut psql = command.spawn().unwrap();
        let lock = b"BEGIN; LOCK TABLE pg_tablespace; SELECT 'locked';\n";
        psql.stdin.as_mut().unwrap().write_all(lock).await.unwrap();
        let mut stdout = BufReader::new(psql.stdout.take().unwrap()).lines();
        assert_eq!(stdout.next_line().await.unwrap().as_deref(), Some("locked"));
        Self { psql }
    }

    /// Starts a backup, and returns it once it waits for the lock, with its start position.
    pub(crate) async fn hold_backup(&self, world: &World) -> (Running, u64) {
        let mut running = Running::start(world);
        let lsn = running.wait_until_begun().await;
        (running, lsn)
    }

    /// Releases the lock.
    pub(crate) async fn open(mut self) {
        drop(self.psql.stdin.take());
        self.psql.wait().await.unwrap();
    }
}

impl Running {
    /// Starts a backup.
    pub(crate) fn start(world: &World) -> Self {
        let mut command = world.command(&["backup"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stderr }
    }

    /// Waits until it has begun, and returns its start position.
    pub(crate) async fn wait_until_begun(&mut self) -> u64 {
        loop {
            let line = self.stderr.next_line().await.unwrap();
            let line = line.expect("a backup that ends has begun");
            let lsn = line.split_once("lsn=").map(|(_, lsn)| lsn);
            if let Some(lsn) = lsn.filter(|_| line.contains("backup began")) {
                let (high, low) = lsn
                    .split_whitespace()
                    .next()
                    .unwrap()
                    .split_once('/')
                    .unwrap();
                let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
                return number(high) << 32 | number(low);
            }
        }
    }

    /// Freezes or resumes it.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it has not ended");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Waits until it ends, and returns its exit code and its output since then.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            stderr.push_str(&line);
            stderr.push('\n');
        }
        (self.child.wait().await.unwrap().code(), stderr)
    }
}
