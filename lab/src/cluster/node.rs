//! One database node: its guard, its agent and whatever runs in its data directory.

use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::shutdown::Tasks;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time;

use crate::cluster::process::{Process, RestartPolicy};
use crate::cluster::process_table::{kill_inside, signal_inside};
use crate::cluster::programs::Programs;
use crate::cluster::topology::NodeSpec;
use crate::cluster::watchdog::WatchdogSettings;

/// How long an agent may take to say how it is.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A database node.
#[derive(Debug)]
pub struct Node {
    /// Where it stands.
    pub spec: NodeSpec,
    /// Its agent.
    pub agent: Process,
    /// Its guard.
    pub guard: Process,
}

impl Node {
    /// Takes a node's programs under supervision. They are not started yet.
    pub fn new(spec: &NodeSpec, programs: &Programs, tasks: &Tasks) -> Self {
        Self {
            spec: spec.clone(),
            agent: Process::new(programs.agent(spec), RestartPolicy::Always, tasks),
            guard: Process::watched(programs.guard(spec), watched(spec), tasks),
        }
    }

    /// Starts guard and the agent, as systemd does when the host has booted.
    pub fn start(&self) {
        self.guard.start();
        self.agent.start();
    }

    /// Stops agent, guard and PostgreSQL where they are.
    ///
    /// # Errors
    ///
    /// When agent or guard does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.guard.signal(Signal::SIGSTOP)?;
        self.agent.signal(Signal::SIGSTOP)?;
        signal_inside(&self.spec.data(), Signal::SIGSTOP)?;
        Ok(())
    }

    /// Ends everything on the node at once, as when the host is gone. It stays so until the node is
    /// started again.
    ///
    /// # Errors
    ///
    /// When something is still there after seconds.
    pub async fn lose(&self) -> anyhow::Result<()> {
        let data = self.spec.data();
        // PostgreSQL first: without its postmaster and with its backends gone, nothing answers a
        // client any more, whatever guard or the agent still say.
        let (server, agent, guard) =
            tokio::join!(kill_inside(&data), self.agent.kill(), self.guard.kill());
        server.and(agent).and(guard)?;
        // Guard may have started a server between the sweep and its own end.
        kill_inside(&data).await?;
        // What systemd keeps in a RuntimeDirectory is gone after a boot.
        empty(&self.spec.guard())
    }

    /// Returns the postmaster's process.
    ///
    /// # Errors
    ///
    /// When none is running.
    pub fn postmaster(&self) -> anyhow::Result<i32> {
        let path = self.spec.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("no PostgreSQL runs on `{}`", self.spec.node))?;
        let first = text.lines().next().unwrap_or_default();
        first
            .parse()
            .with_context(|| format!("`{}` begins with no process", path.display()))
    }

    /// Kills the postmaster, and nothing else.
    ///
    /// # Errors
    ///
    /// When none is running.
    pub fn kill_postmaster(&self) -> anyhow::Result<()> {
        let pid = self.postmaster()?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .with_context(|| format!("could not kill the postmaster (pid {pid})"))
    }

    /// Runs a statement on the node's own server as the superuser, and returns its first value.
    ///
    /// # Errors
    ///
    /// When the server does not answer in time, or refuses.
    pub async fn local_query(&self, statement: &str) -> anyhow::Result<Option<String>> {
        crate::cluster::sql::local(&self.spec, statement).await
    }

    /// Returns what the agent says of itself.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn status(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.get("/status").await?)?)
    }

    /// Returns what the agent answers to a path.
    ///
    /// # Errors
    ///
    /// When it does not respond in time, or responds with an error.
    pub async fn get(&self, path: &str) -> anyhow::Result<bytes::Bytes> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
        let address = self.spec.agent();
        let request = Request::get(format!("http://{address}{path}")).body(Empty::new())?;
        let ask = async {
            let answer = client.request(request).await?;
            if !answer.status().is_success() {
                bail!("the agent responded {}", answer.status());
            }
            Ok(answer.into_body().collect().await?.to_bytes())
        };
        time::timeout(TIMEOUT, ask)
            .await
            .context("the agent did not respond")?
    }

    /// Tests whether the node receives the log from its primary, as its agent says.
    ///
    /// # Errors
    ///
    /// When it does not, with what the agent says instead.
    pub async fn streams(&self) -> Result<(), String> {
        let node = &self.spec.node;
        match self.status().await {
            Ok(status) => {
                let field =
                    |name: &str| status.get(name).cloned().unwrap_or(serde_json::Value::Null);
                if field("streaming") == true {
                    return Ok(());
                }
                let (role, standby_setup) = (field("role"), field("standby_setup"));
                Err(format!(
                    "`{node}` is {role}, standby setup: {standby_setup}"
                ))
            }
            Err(error) => Err(format!(
                "`{node}`: {error:#}; agent {}, guard {}; the agent's log ends: {}",
                self.agent.state(),
                self.guard.state(),
                self.agent.last_words()
            )),
        }
    }
}

/// Returns how guard is watched: as by its unit, which sets the limit of a guard whose server cannot
/// write. Guard announces shorter ones itself.
fn watched(spec: &NodeSpec) -> WatchdogSettings {
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
