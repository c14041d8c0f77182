//! How the commands reach a lab that runs: JSON lines over a Unix socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::shutdown::Tasks;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tracing::debug;

use crate::fault::Fault;
use crate::lab::Lab;
use crate::progress::ProgressReporter;
use crate::scenarios::Scenario;
use crate::scenarios::scenario_run::ScenarioRun;

/// What a running lab is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRequest {
    /// Say how everything is.
    Status,
    /// Break something.
    Break(Fault),
    /// Put everything right.
    Heal,
    /// Play a story.
    Run(Scenario),
    /// End.
    Down,
}

/// What it answers, line by line. The last line is one of the latter two.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlResponse {
    /// What happens meanwhile.
    Said(String),
    /// It is done.
    Done(String),
    /// It was not done.
    Failed(String),
}

/// Takes orders for a lab until one of them is to end it, or the tasks are stopped.
///
/// # Errors
///
/// When the socket cannot be made.
pub fn serve(lab: Arc<Lab>, tasks: &Tasks) -> anyhow::Result<()> {
    let path = lab.topology().control_socket();
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("could not listen on `{}`", path.display()))?;
    // A drill and another order at once would measure one another.
    let one_scenario = Arc::new(Mutex::new(()));
    let connections = tasks.clone();
    tasks.start("control", |stop| async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            let (lab, one_scenario) = (Arc::clone(&lab), Arc::clone(&one_scenario));
            let all = connections.clone();
            connections.start("order", |_stop| async move {
                if let Err(error) = converse(stream, &lab, &one_scenario, &all).await {
                    debug!(error = format!("{error:#}"), "order cut off");
                }
            });
        }
    });
    Ok(())
}

/// Gives an order to the lab behind `socket`, and returns what it says in the end.
///
/// # Errors
///
/// When there is no such lab, or it could not do what it was asked.
pub async fn request(
    socket: &Path,
    request: &ControlRequest,
    progress: &ProgressReporter,
) -> anyhow::Result<String> {
    let no_lab = || {
        format!(
            "no lab answers on `{}`: start one with `lab up`",
            socket.display()
        )
    };
    let mut stream = UnixStream::connect(socket).await.with_context(no_lab)?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await?;
    let mut answers = BufReader::new(stream).lines();
    while let Some(line) = answers.next_line().await? {
        match serde_json::from_str(&line)? {
            ControlResponse::Said(line) => progress.report(line),
            ControlResponse::Done(text) => return Ok(text),
            ControlResponse::Failed(why) => bail!(why),
        }
    }
    bail!("the lab ended before it answered")
}

async fn converse(
    stream: UnixStream,
    lab: &Lab,
    one_scenario: &Mutex<()>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let line = lines.next_line().await?.context("no order")?;
    let request: ControlRequest = serde_json::from_str(&line)?;
    let (said, mut heard) = mpsc::unbounded_channel();
    let progress = ProgressReporter::new(move |line| {
        // Whoever gave the order may have left; the order is carried out all the same.
        let _left = said.send(ControlResponse::Said(line.to_owned()));
    });
    let carry_out = async {
        let result = carry_out(&request, lab, one_scenario, progress).await;
        result.map_or_else(
            |error| ControlResponse::Failed(format!("{error:#}")),
            ControlResponse::Done,
        )
    };
    tokio::pin!(carry_out);
    let answer = loop {
        tokio::select! {
            biased;
            Some(line) = heard.recv() => tell(&mut write, &line).await,
            answer = &mut carry_out => break answer,
        }
    };
    while let Ok(line) = heard.try_recv() {
        tell(&mut write, &line).await;
    }
    tell(&mut write, &answer).await;
    if matches!(request, ControlRequest::Down) {
        tasks.stopping().cancel();
    }
    Ok(())
}

async fn tell(to: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &ControlResponse) {
    let line = serde_json::to_string(answer).unwrap_or_default() + "\n";
    if let Err(error) = to.write_all(line.as_bytes()).await {
        debug!(%error, "nobody hears the answer");
    }
}

async fn carry_out(
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
            Ok("everything is put right; the nodes find their roles by themselves".to_owned())
        }
        ControlRequest::Run(scenario) => {
            let Ok(_alone) = one_scenario.try_lock() else {
                bail!("another drill is under way: wait until it has ended");
            };
            let mut run = ScenarioRun::start(lab, progress).await?;
            let played = scenario.play(&mut run).await;
            run.stop().await;
            Ok(serde_json::to_string_pretty(&played?)?)
        }
        ControlRequest::Down => {
            lab.stop().await?;
            Ok("the lab is down".to_owned())
        }
    }
}

/// How long `lab up` waits for the lab: three servers, two clones and the API, on a busy machine.
pub const UP_WITHIN: Duration = Duration::from_mins(8);
