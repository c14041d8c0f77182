//! Environment of a history: a directory with a server's files, two buckets, and `backup-agent`
//! installed as in production.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::{self, Instant};

use super::schedule::{BackupSchedule, BucketName};
use crate::aws::Credentials;
use crate::aws::s3::S3Server;
use crate::aws::s3_faults::FaultInjector;
use crate::cluster::files::{give_to_postgres, restrict, write};
use crate::cluster::postgres::bin_directory;
use crate::cluster::process_table::send_signal;
use crate::cluster::program::{Program, RunAs};

/// Cluster name, the first part of every key.
const CLUSTER: &str = "lab";

/// Port of the S3 endpoints; their addresses are unique to the history.
const STORE_PORT: u16 = 9000;

/// Timeout of the lab's own preparations.
pub(super) const LAB_TIMEOUT: Duration = Duration::from_secs(90);

/// Timeout of a command, after which its faults are healed so that a history ends.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Bucket, its objects on disk, and its fault injector.
#[derive(Debug)]
pub(super) struct FaultyBucket {
    pub(super) which: BucketName,
    pub(super) store: S3Server,
    pub(super) faults: Arc<FaultInjector>,
    /// Directory of the objects, as files named by key.
    pub(super) objects: PathBuf,
}

/// Environment of one history. Dropping it removes its directory, except for a violated history.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) directory: PathBuf,
    pub(super) buckets: [FaultyBucket; 2],
    /// Environment variables of `backup-agent`.
    environment: BTreeMap<String, String>,
    directory_kept: bool,
}

/// Result of a run of `backup-agent`.
#[derive(Debug)]
pub(super) struct AgentOutput {
    /// Exit code; `None` if it was killed.
    pub(super) code: Option<i32>,
    /// Standard output.
    pub(super) stdout: String,
    /// Standard error.
    pub(super) stderr: String,
}

impl Sandbox {
    /// Prepares the environment of a history, with a copy of the template server.
    pub(super) async fn new(schedule: &BackupSchedule, template: &Path) -> anyhow::Result<Self> {
        let seed = schedule.seed;
        let directory = PathBuf::from(format!(
            "/tmp/causeway-backup-faults-{}-{seed}",
            std::process::id()
        ));
        for name in ["", "sockets", "state", "log"] {
            let path = directory.join(name);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("could not create `{}`", path.display()))?;
            give_to_postgres(&path)?;
            restrict(&path, 0o755)?;
        }
        let credentials = Credentials::generate();
        let bucket = |which: BucketName, last: u8| -> anyhow::Result<FaultyBucket> {
            let root = directory.join("s3").join(which.to_string());
            let name = which.to_string();
            // Each history has its own addresses, so that a pooled connection never reaches
            // another's bucket.
            let [a, b] = rand::random::<[u8; 2]>();
            let address = ([127, 78 + (a & 31), b, last], STORE_PORT).into();
            let faults = Arc::new(FaultInjector::new(seed.wrapping_mul(2) + u64::from(last)));
            let store = S3Server::new(&root, &[&name], address, &credentials)?;
            Ok(FaultyBucket {
                which,
                store: store.with_faults(Arc::clone(&faults)),
                faults,
                objects: root.join(name),
            })
        };
        let buckets = [bucket(BucketName::Near, 1)?, bucket(BucketName::Far, 2)?];
        for bucket in &buckets {
            bucket.store.start().await?;
        }
        let sandbox = Self {
            directory,
            buckets,
            environment: environment(&credentials),
            directory_kept: false,
        };
        sandbox.install_program()?;
        sandbox.write_config(schedule).await?;
        copy_directory(template, &sandbox.data()).await?;
        sandbox.write_server_settings()?;
        Ok(sandbox)
    }

    fn install_program(&self) -> anyhow::Result<()> {
        let built = crate::cluster::programs::find_built_programs()?.join("backup-agent");
        let program = self.program();
        if std::fs::hard_link(&built, &program).is_err() {
            std::fs::copy(&built, &program)
                .with_context(|| format!("could not copy `{}`", built.display()))?;
        }
        restrict(&program, 0o755)
    }

    async fn write_config(&self, schedule: &BackupSchedule) -> anyhow::Result<()> {
        let identity = self.directory.join("identity").display().to_string();
        let keygen = self.agent(&["keygen", "--output", &identity]);
        let recipient = keygen.run(None, LAB_TIMEOUT).await?;
        let buckets = self.buckets.iter().map(|bucket| {
            let name = bucket.which;
            let address = bucket.store.address();
            format!(
                "[[buckets]]\nname = \"{name}\"\nregion = \"eu-{name}-1\"\nendpoint = \"http://{address}\"\n"
            )
        });
        let text = format!(
            "cluster = \"{CLUSTER}\"\nrecipients = [\"{}\"]\nidentity-file = \"{identity}\"\n\
             state-directory = \"{}\"\nrequired-buckets = {}\n{}[postgres]\n\
             bin-directory = \"{}\"\ndata-directory = \"{}\"\nsocket-directory = \"{}\"\n\
             [limits]\npack-mib = 16\narchive-wait-secs = 20\n",
            recipient.trim(),
            self.directory.join("state").display(),
            schedule.required_buckets,
            buckets.collect::<String>(),
            bin_directory()?.display(),
            self.data().display(),
            self.sockets().display(),
        );
        write(&self.config(), &text)
    }

    /// Appends the archive and restore commands to the server's settings.
    fn write_server_settings(&self) -> anyhow::Result<()> {
        let agent = format!(
            "{} --config {}",
            self.program().display(),
            self.config().display()
        );
        let path = self.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&path)?;
        let own = format!(
            "archive_mode = on\narchive_command = '{agent} wal push %p'\n\
             restore_command = '{agent} wal fetch %f %p'\n"
        );
        write(&path, &(text + &own))
    }

    /// Keeps the directory after the history.
    pub(super) fn keep_directory(&mut self) {
        self.directory_kept = true;
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(super) fn sockets(&self) -> PathBuf {
        self.directory.join("sockets")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("backup-agent.toml")
    }

    fn program(&self) -> PathBuf {
        self.directory.join("backup-agent")
    }

    pub(super) fn bucket(&self, which: BucketName) -> &FaultyBucket {
        let [near, far] = &self.buckets;
        match which {
            BucketName::Near => near,
            BucketName::Far => far,
        }
    }

    /// Returns the number of requests that met a fault.
    pub(super) fn faults(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.faults.faults())
            .sum()
    }

    /// Tests whether a bucket is failing.
    pub(super) fn is_failing(&self) -> bool {
        self.buckets.iter().any(|bucket| bucket.faults.is_failing())
    }

    /// Ends every outage.
    pub(super) fn heal(&self) {
        for bucket in &self.buckets {
            bucket.faults.heal();
        }
    }

    /// Returns `backup-agent` with these arguments.
    pub(super) fn agent(&self, arguments: &[&str]) -> Program {
        let config = self.config().display().to_string();
        let arguments = ["--config", &config]
            .into_iter()
            .chain(arguments.iter().copied());
        Program {
            name: "backup-agent".to_owned(),
            executable: self.program(),
            arguments: arguments.map(Into::into).collect(),
            environment: self.environment.clone(),
            run_as: RunAs::Postgres,
            stdin: None,
            log: self.directory.join("log/agent.log"),
        }
    }

    /// Returns the `postgres` program, with the environment that its `backup-agent` needs.
    pub(super) fn postgres(&self, arguments: Vec<String>, log: &str) -> anyhow::Result<Program> {
        Ok(Program {
            name: "postgres".to_owned(),
            executable: bin_directory()?.join("postgres"),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: self.environment.clone(),
            run_as: RunAs::Postgres,
            stdin: None,
            log: self.directory.join("log").join(log),
        })
    }

    /// Runs `backup-agent`, optionally killing it after `killed_after`. Heals every fault after
    /// `timeout`; returns `None` if the command still exceeds `longest`.
    pub(super) async fn run_agent(
        &self,
        arguments: &[&str],
        killed_after: Option<Duration>,
        timeout: Duration,
        longest: Duration,
    ) -> anyhow::Result<Option<AgentOutput>> {
        let mut command = self.agent(arguments).command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("could not start `backup-agent`")?;
        let pid = i32::try_from(child.id().context("`backup-agent` has no pid")?)?;
        let started_at = Instant::now();
        let mut output = std::pin::pin!(child.wait_with_output());
        let first = killed_after.unwrap_or(timeout).min(timeout);
        let output = match time::timeout(first, &mut output).await {
            Ok(output) => Some(output?),
            Err(_) if killed_after.is_some() => {
                send_signal(pid, Signal::SIGKILL);
                Some(output.await?)
            }
            Err(_) => {
                self.heal();
                let rest = longest.saturating_sub(started_at.elapsed());
                if let Ok(output) = time::timeout(rest, &mut output).await {
                    Some(output?)
                } else {
                    send_signal(pid, Signal::SIGKILL);
                    None
                }
            }
        };
        Ok(output.map(|output| AgentOutput {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }))
    }

    /// Kills every `backup-agent` of this directory, background processes included.
    fn kill_agents(&self) {
        let program = self.program();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let executable = std::fs::read_link(entry.path().join("exe"));
            let pid = entry.file_name().to_string_lossy().parse();
            if let (Ok(executable), Ok(pid)) = (executable, pid)
                && executable == program
            {
                send_signal(pid, Signal::SIGKILL);
            }
        }
    }

    /// Kills the remaining `backup-agent` processes, and stops the S3 endpoints.
    pub(super) async fn stop(&self) {
        self.kill_agents();
        for bucket in &self.buckets {
            bucket.store.stop().await;
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill_agents();
        if !self.directory_kept
            && let Err(error) = std::fs::remove_dir_all(&self.directory)
        {
            tracing::warn!(%error, directory = %self.directory.display(), "directory not removed");
        }
    }
}

/// Returns the S3 credentials, and the settings of `backup-agent` in the lab's own environment,
/// such as `BACKUP_AGENT_LOG`.
fn environment(credentials: &Credentials) -> BTreeMap<String, String> {
    let own = std::env::vars().filter(|(name, _)| name.starts_with("BACKUP_AGENT_"));
    own.chain(credentials.environment()).collect()
}

/// Copies a directory recursively.
pub(super) async fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg("--reflink=auto").arg(from).arg(to);
    let output = copy.output().await?;
    if !output.status.success() {
        bail!("could not copy `{}`: {output:?}", from.display());
    }
    Ok(())
}
