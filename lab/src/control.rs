//! Control socket of a running lab: JSON lines over a Unix socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::NodeId;
use causeway_runtime::shutdown::Tasks;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tracing::debug;

use crate::cluster::postgres::bin_directory;
use crate::exec::ExecEnvironment;
use crate::fault::Fault;
use crate::lab::Lab;
use crate::progress::ProgressReporter;
use crate::scenarios::Scenario;
use crate::scenarios::scenario_run::ScenarioRun;

/// Time for `lab up`: three servers, two clones and the API, on a busy machine.
pub const UP_TIMEOUT: Duration = Duration::from_mins(8);

/// A request to a running lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRequest {
    /// Show the state of every part.
    Status,
    /// Inject a fault.
    Break(Fault),
    /// Undo every fault.
    Heal,
    /// Run a scenario.
    Run(Scenario),
    /// Return the environment for `lab exec`.
    Environment {
        /// The node on whose host the program acts; none for an operator.
        node: Option<NodeId>,
    },
    /// Stop the lab.
    Down,
}

/// A line of the response. `Done` or `Failed` is the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlResponse {
    /// Progress.
    Progress(String),
    /// The request was carried out.
    Done(String),
    /// The request failed.
    Failed(String),
}

/// Serves requests for a lab until `Down`, or until the tasks are stopped.
///
/// # Errors
///
/// When the socket cannot be created.
pub fn serve(lab: Arc<Lab>, tasks: &Tasks) -> anyhow::Result<()> {
    let path = lab.topology().control_socket();
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("could not listen on `{}`", path.display()))?;
    // Two scenarios at once would measure each other.
    let one_scenario = Arc::new(Mutex::new(()));
    let connections = tasks.clone();
    tasks.start("control", |stop| async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            let lab = Arc::clone(&lab);
            let one_scenario = Arc::clone(&one_scenario);
            let all = connections.clone();
            connections.start("control request", |_stop| async move {
                if let Err(error) = serve_connection(stream, &lab, &one_scenario, &all).await {
                    debug!(error = format!("{error:#}"), "control request cut off");
                }
            });
        }
    });
    Ok(())
}

/// Sends a request to the lab behind `socket`, and returns its result.
///
/// # Errors
///
/// When no lab is up there, or the request failed.
pub async fn send(
    socket: &Path,
    request: &ControlRequest,
    progress: &ProgressReporter,
) -> anyhow::Result<String> {
    let no_lab = || {
        format!(
            "no lab is up at `{}`: start it with `lab up`, or select another with `--number`",
            socket.display()
        )
    };
    let mut stream = UnixStream::connect(socket).await.with_context(no_lab)?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await?;
    let mut responses = BufReader::new(stream).lines();
    while let Some(line) = responses.next_line().await? {
        match serde_json::from_str(&line)? {
            ControlResponse::Progress(line) => progress.report(line),
            ControlResponse::Done(text) => return Ok(text),
            ControlResponse::Failed(why) => bail!(why),
        }
    }
    bail!("the lab stopped before it responded: its log is `/tmp/causeway-lab-<number>.log`")
}

async fn serve_connection(
    stream: UnixStream,
    lab: &Lab,
    one_scenario: &Mutex<()>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let line = lines.next_line().await?.context("empty control request")?;
    let request: ControlRequest = serde_json::from_str(&line)?;
    let (sender, mut lines) = mpsc::unbounded_channel();
    let progress = ProgressReporter::new(move |line| {
        // The client may have disconnected; the request is executed all the same.
        let _disconnected = sender.send(ControlResponse::Progress(line.to_owned()));
    });
    let execution = async {
        let result = execute(&request, lab, one_scenario, progress).await;
        result.map_or_else(
            |error| ControlResponse::Failed(format!("{error:#}")),
            ControlResponse::Done,
        )
    };
    tokio::pin!(execution);
    let response = loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => respond(&mut write, &line).await,
            response = &mut execution => break response,
        }
    };
    while let Ok(line) = lines.try_recv() {
        respond(&mut write, &line).await;
    }
    respond(&mut write, &response).await;
    if matches!(request, ControlRequest::Down) {
        tasks.stopping().cancel();
    }
    Ok(())
}

async fn respond(to: &mut (impl tokio::io::AsyncWrite + Unpin), response: &ControlResponse) {
    let sent = async {
        let mut line = serde_json::to_string(response)?;
        line.push('\n');
        to.write_all(line.as_bytes()).await
    };
    if let Err(error) = sent.await {
        debug!(%error, "control response not delivered");
    }
}

async fn execute(
    request: &ControlRequest,
    lab: &Lab,
    one_scenario: &Mutex<()>,
    progress: ProgressReporter,
) -> anyhow::Result<String> {
    match request {
        ControlRequest::Status => Ok(lab.status().await),
        ControlRequest::Break(fault) => lab.break_with(fault).await,
        ControlRequest::Heal => {
            lab.heal().await?;
            Ok("every fault is undone: the nodes rejoin automatically".to_owned())
        }
        ControlRequest::Run(scenario) => {
            let Ok(_alone) = one_scenario.try_lock() else {
                bail!("another scenario is running: wait until it has finished");
            };
            let mut run = ScenarioRun::start(lab, progress).await?;
            let result = scenario.run(&mut run).await;
            run.stop().await;
            Ok(serde_json::to_string_pretty(&result?)?)
        }
        ControlRequest::Environment { node } => {
            let topology = lab.topology();
            let node = node
                .as_ref()
                .map(|name| topology.node_spec(name))
                .transpose()?;
            let environment = ExecEnvironment::new(
                topology,
                node,
                lab.programs().environment(),
                lab.database().password.reveal(),
                &bin_directory()?,
            );
            Ok(serde_json::to_string(&environment)?)
        }
        ControlRequest::Down => {
            lab.stop().await?;
            Ok("the lab is down".to_owned())
        }
    }
}
