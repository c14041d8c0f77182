//! PostgreSQL server of a history: starts, runs statements, stops and is killed.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::shutdown::Tasks;
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::time;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::sandbox::COMMAND_TIMEOUT;
use super::sandbox::{LAB_TIMEOUT, Sandbox};
use crate::cluster::process_table::{processes_inside, send_signal};
use crate::wait;

/// Timeout of a fast shutdown, which waits for the archiver.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Started server. Dropping this value kills it.
#[derive(Debug)]
pub(super) struct PostgresServer {
    child: Child,
    pid: i32,
    data: PathBuf,
    sockets: PathBuf,
    port: u16,
    client: Option<Client>,
    tasks: Tasks,
}

impl PostgresServer {
    /// Starts a server on a data directory, without waiting for connections.
    pub(super) fn spawn(
        sandbox: &Sandbox,
        data: &Path,
        port: u16,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let sockets = sandbox.sockets();
        let mut arguments: Vec<String> = vec![
            "-D".to_owned(),
            data.display().to_string(),
            "-k".to_owned(),
            sockets.display().to_string(),
            "-p".to_owned(),
            port.to_string(),
        ];
        for (name, value) in settings {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let name = data
            .file_name()
            .unwrap_or(data.as_os_str())
            .to_string_lossy();
        let program = sandbox.postgres(arguments, &format!("{name}.log"))?;
        let child = program
            .command()?
            .spawn()
            .context("could not start PostgreSQL")?;
        let pid = i32::try_from(child.id().context("PostgreSQL has no pid")?)?;
        Ok(Self {
            child,
            pid,
            data: data.to_owned(),
            sockets,
            port,
            client: None,
            tasks: Tasks::new(),
        })
    }

    /// Starts a server, and waits until it accepts connections.
    pub(super) async fn start(
        sandbox: &Sandbox,
        data: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut server = Self::spawn(sandbox, data, 5432, settings)?;
        let started_at = time::Instant::now();
        let deadline = started_at + LAB_TIMEOUT;
        while server.client().await.is_err() {
            if let Some(status) = server.exit_status()? {
                bail!("PostgreSQL exited ({status}) during start-up");
            }
            if time::Instant::now() > deadline {
                bail!("PostgreSQL does not respond");
            }
            if started_at.elapsed() > COMMAND_TIMEOUT {
                sandbox.heal();
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        Ok(server)
    }

    /// Returns the exit status of a server that has ended.
    pub(super) fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Returns an open connection: the existing one if it still works.
    pub(super) async fn client(&mut self) -> anyhow::Result<&Client> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut settings = tokio_postgres::Config::new();
            settings
                .host_path(&self.sockets)
                .port(self.port)
                .user("postgres")
                .dbname("postgres");
            let (client, connection) = settings.connect(NoTls).await?;
            self.tasks.start("connection", |stop| async move {
                if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
                    tracing::debug!(%error, "connection ended");
                }
            });
            self.client = Some(client);
        }
        self.client.as_ref().context("PostgreSQL is not connected")
    }

    /// Runs a statement, and returns its rows as text.
    pub(super) async fn query_rows(
        &mut self,
        sql: &str,
    ) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let client = self.client().await?;
        let response = time::timeout(STATEMENT_TIMEOUT, client.simple_query(sql)).await;
        let messages = response.with_context(|| format!("`{sql}` did not end"))??;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect(),
            ),
            SimpleQueryMessage::CommandComplete(_) | _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs a statement, and returns its first value.
    pub(super) async fn query_value(&mut self, sql: &str) -> anyhow::Result<String> {
        let rows = self.query_rows(sql).await?;
        let first = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next());
        first
            .flatten()
            .with_context(|| format!("`{sql}` returned no value"))
    }

    /// Promotes a standby, and waits until it accepts writes.
    pub(super) async fn promote(&mut self, sandbox: &Sandbox) -> anyhow::Result<()> {
        self.query_rows("SELECT pg_promote(false)").await?;
        let started_at = time::Instant::now();
        let deadline = started_at + LAB_TIMEOUT;
        while self.query_value("SELECT pg_is_in_recovery()").await? != "f" {
            if started_at.elapsed() > COMMAND_TIMEOUT {
                sandbox.heal();
            }
            if time::Instant::now() > deadline {
                bail!("the promotion did not complete");
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    /// Stops the server with a fast shutdown, and kills it after a timeout.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.client = None;
        send_signal(self.pid, Signal::SIGINT);
        if time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_ok() {
            return self.wait_for_exit().await;
        }
        self.kill().await
    }

    /// Kills the server and all its processes, as a host failure would.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        send_signal(self.pid, Signal::SIGKILL);
        self.child.wait().await?;
        self.wait_for_exit().await
    }

    async fn wait_for_exit(&self) -> anyhow::Result<()> {
        wait::until("PostgreSQL's processes to end", LAB_TIMEOUT, || async {
            let left = processes_inside(&self.data).map_err(|error| error.to_string())?;
            for pid in &left {
                send_signal(*pid, Signal::SIGKILL);
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
        .await?;
        self.tasks.stop(Duration::from_secs(1)).await;
        Ok(())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            send_signal(self.pid, Signal::SIGKILL);
        }
        match processes_inside(&self.data) {
            Ok(pids) => {
                for pid in pids {
                    send_signal(pid, Signal::SIGKILL);
                }
            }
            Err(error) => tracing::warn!(%error, "processes not listed"),
        }
    }
}
