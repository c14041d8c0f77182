//! Database node: its guard, its agent and the processes in its data directory.

use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::http_client::HttpClient;
use causeway_runtime::shutdown::Tasks;
use hyper::Request;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::process::{Process, RestartPolicy};
use crate::cluster::process_table::{kill_inside, signal_inside};
use crate::cluster::programs::Programs;
use crate::cluster::topology::NodeSpec;
use crate::cluster::watchdog::WatchdogSettings;

/// Timeout of an agent's status.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Database node.
#[derive(Debug)]
pub struct Node {
    /// Its addresses and directories.
    pub spec: NodeSpec,
    /// Its agent.
    pub agent: Process,
    /// Its guard.
    pub guard: Process,
}

impl Node {
    /// Creates the supervisors of a node's programs, without starting them.
    pub fn new(spec: &NodeSpec, programs: &Programs, tasks: &Tasks) -> Self {
        Self {
            spec: spec.clone(),
            agent: Process::new(programs.agent(spec), RestartPolicy::Always, tasks),
            guard: Process::watched(programs.guard(spec), watchdog_settings(spec), tasks),
        }
    }

    /// Starts guard and agent, as systemd does at boot.
    pub fn start(&self) {
        self.guard.start();
        self.agent.start();
    }

    /// Freezes agent, guard and PostgreSQL.
    ///
    /// # Errors
    ///
    /// When agent or guard is not running.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.guard.signal(Signal::SIGSTOP)?;
        self.agent.signal(Signal::SIGSTOP)?;
        signal_inside(&self.spec.data(), Signal::SIGSTOP)?;
        Ok(())
    }

    /// Kills everything on the node at once, as a host failure does, until the node is started
    /// again.
    ///
    /// # Errors
    ///
    /// When a process does not end within seconds.
    pub async fn end_host(&self) -> anyhow::Result<()> {
        let data = self.spec.data();
        // PostgreSQL first: once postmaster and backends have ended, no client gets a response,
        // whatever guard and agent still do.
        let (server, agent, guard) =
            tokio::join!(kill_inside(&data), self.agent.kill(), self.guard.kill());
        server.and(agent).and(guard)?;
        // The guard may have started a server between the first kill and its own end.
        kill_inside(&data).await?;
        // systemd deletes a RuntimeDirectory at boot.
        empty(&self.spec.guard())
    }

    /// Returns the process ID of the postmaster.
    ///
    /// # Errors
    ///
    /// When no postmaster is running.
    pub fn postmaster(&self) -> anyhow::Result<i32> {
        let path = self.spec.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("PostgreSQL is not running on `{}`", self.spec.node))?;
        let first = text.lines().next().unwrap_or("");
        first
            .parse()
            .with_context(|| format!("`{}` does not start with a process ID", path.display()))
    }

    /// Kills the postmaster alone.
    ///
    /// # Errors
    ///
    /// When no postmaster is running.
    pub fn kill_postmaster(&self) -> anyhow::Result<()> {
        let pid = self.postmaster()?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .with_context(|| format!("could not kill the postmaster (pid {pid})"))
    }

    /// Runs a statement on the node's server as the superuser, and returns its first value.
    ///
    /// # Errors
    ///
    /// When the server does not respond in time, or rejects the statement.
    pub async fn local_query(&self, statement: &str) -> anyhow::Result<Option<String>> {
        crate::cluster::sql::local(&self.spec, statement).await
    }

    /// Returns the agent's status.
    ///
    /// # Errors
    ///
    /// When the agent does not respond.
    pub async fn status(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.get("/status").await?)?)
    }

    /// Returns the agent's response to a GET of `path`.
    ///
    /// # Errors
    ///
    /// When the agent does not respond in time, or responds with an error.
    pub async fn get(&self, path: &str) -> anyhow::Result<bytes::Bytes> {
        let address = self.spec.agent();
        let request = Request::get(format!("http://{address}{path}")).body("")?;
        let response = HttpClient::new(TIMEOUT).send(request, TIMEOUT).await;
        let response = response.context("could not query the agent")?;
        if !response.status().is_success() {
            bail!("the agent responded {}", response.status());
        }
        Ok(response.into_body())
    }

    /// Tests whether the node receives WAL from its primary, according to its agent.
    ///
    /// # Errors
    ///
    /// When it does not, with the agent's status.
    pub async fn streams(&self) -> Result<(), String> {
        let node = &self.spec.node;
        match self.status().await {
            Ok(status) => {
                let field =
                    |name: &str| status.get(name).cloned().unwrap_or(serde_json::Value::Null);
                if field("streaming") == true {
                    return Ok(());
                }
                let role = field("role");
                let standby_setup = field("standby_setup");
                Err(format!(
                    "`{node}` is {role}, standby setup: {standby_setup}"
                ))
            }
            Err(error) => Err(format!(
                "`{node}`: {error:#}; agent {}, guard {}; the agent's log ends: {}",
                self.agent.state(),
                self.guard.state(),
                self.agent.log_end()
            )),
        }
    }
}

/// Returns the guard's watchdog, as in its systemd unit, with the limit for a guard whose server
/// cannot write. The guard announces shorter limits itself.
fn watchdog_settings(spec: &NodeSpec) -> WatchdogSettings {
    WatchdogSettings {
        socket: spec.notify_socket(),
        limit: Duration::from_secs(30),
        data: spec.data(),
    }
}

fn empty(directory: &std::path::Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        std::fs::remove_file(&path)
            .with_context(|| format!("could not remove `{}`", path.display()))?;
    }
    Ok(())
}
