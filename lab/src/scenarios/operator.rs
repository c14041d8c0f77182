//! Operators: their commands and results, and an operator who cannot reach a node.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_core::NodeId;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time;

use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use crate::aws::route53::python_of_moto;
use crate::cluster::node::Node;
use crate::cluster::program::{Program, RunAs};
use crate::cluster::settings;
use crate::wait;
use crate::workload::checker::Expectation;

/// Terminal for a program that asks only on one. Its exit code is passed on.
const TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// Result of a command.
#[derive(Debug)]
pub(super) struct CommandOutput {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl CommandOutput {
    /// Checks the exit code, and a text in standard error.
    pub(super) fn refused(&self, code: i32, says: &str) -> anyhow::Result<()> {
        ensure!(
            self.code == Some(code) && self.err.contains(says),
            "expected exit code {code} and `{says}`: {self:?}"
        );
        Ok(())
    }

    /// Returns the JSON of a successful command.
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        ensure!(self.code == Some(0), "the command failed: {self:?}");
        Ok(serde_json::from_str(&self.out)?)
    }
}

/// Runs a command to its end, with any exit code.
pub(super) async fn run_command(program: Program) -> anyhow::Result<CommandOutput> {
    let mut command = program.command()?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let output = time::timeout(SCENARIO_TIMEOUT, child.wait_with_output())
        .await
        .with_context(|| format!("{:?} did not end", program.arguments))??;
    Ok(CommandOutput {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs `failover-ctl` as an operator does.
pub(super) async fn failover_ctl(
    run: &ScenarioRun<'_>,
    arguments: &[&str],
) -> anyhow::Result<CommandOutput> {
    run.announce(&format!(
        "an operator runs `failover-ctl {}`",
        arguments.join(" ")
    ));
    run_command(run.lab.programs().failover_ctl(arguments)).await
}

/// Returns `failover-ctl` for an operator who cannot reach a node's agent.
pub(super) fn operator_without_agent(
    run: &ScenarioRun<'_>,
    node: &NodeId,
    arguments: &[&str],
) -> anyhow::Result<Program> {
    let topology = run.lab.topology();
    let sighted = settings::operator(topology);
    let agent = topology.node_spec(node)?.agent();
    let text = std::fs::read_to_string(&sighted)?;
    // Nothing listens on the discard port of the address.
    let elsewhere = format!("{}:9", agent.ip());
    let text = text.replace(&agent.to_string(), &elsewhere);
    let path = sighted.with_file_name("blind-operator.toml");
    std::fs::write(&path, text)?;
    let mut program = run.lab.programs().failover_ctl(arguments);
    let config = program.arguments.get_mut(1);
    *config.context("`failover-ctl` without settings")? = path.into();
    Ok(program)
}

/// Command that waits for an operator's confirmation.
#[derive(Debug)]
pub(super) struct PendingConfirmation {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    said: String,
}

/// Runs a program on a terminal until it asks.
pub(super) async fn run_until_question(program: Program) -> anyhow::Result<PendingConfirmation> {
    let mut arguments = vec!["-c".into(), TERMINAL.into(), program.executable.into()];
    arguments.extend(program.arguments);
    let on_terminal = Program {
        executable: python_of_moto()?,
        arguments,
        run_as: RunAs::Oneself,
        ..program
    };
    let mut command = on_terminal.command()?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().context("no input")?;
    let stdout = child.stdout.take().context("no output")?;
    let mut asked = PendingConfirmation {
        child,
        stdin,
        stdout: BufReader::new(stdout),
        said: String::new(),
    };
    let asking = async {
        while !asked.said.contains("(yes/no)") {
            let read = asked.stdout.read_line(&mut asked.said).await?;
            ensure!(read > 0, "it exited without asking: {}", asked.said);
        }
        anyhow::Ok(())
    };
    time::timeout(SCENARIO_TIMEOUT, asking)
        .await
        .context("no question")??;
    Ok(asked)
}

impl PendingConfirmation {
    /// Answers, and returns the result.
    pub(super) async fn answer(mut self, answer: &str) -> anyhow::Result<CommandOutput> {
        self.stdin.write_all(answer.as_bytes()).await?;
        self.stdin.write_all(b"\n").await?;
        let ending = async {
            self.stdout.read_to_string(&mut self.said).await?;
            self.child.wait().await
        };
        let status = time::timeout(SCENARIO_TIMEOUT, ending)
            .await
            .context("no end")??;
        Ok(CommandOutput {
            code: status.code(),
            out: String::new(),
            err: self.said,
        })
    }
}

/// Starts a command, and kills it once this many steps of its plan have started, as if the
/// operator's machine were lost.
pub(super) async fn killed_after(
    run: &ScenarioRun<'_>,
    program: Program,
    steps: usize,
) -> anyhow::Result<()> {
    let before = history(run).await?.len();
    let mut child = program.command()?.spawn()?;
    wait::until(
        "the operation to get that far",
        SCENARIO_TIMEOUT,
        || async {
            let history = history(run).await.map_err(|error| format!("{error:#}"))?;
            let start = history.get(before..).and_then(<[Value]>::last);
            let entries = start
                .and_then(|operation| operation.pointer("/entries"))
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            if entries < steps {
                return Err(format!("{entries} steps are begun"));
            }
            Ok(())
        },
    )
    .await?;
    child.kill().await?;
    run.announce(&format!("the operator's process is killed in step {steps}"));
    Ok(())
}

/// Returns every operation, oldest first.
pub(super) async fn history(run: &ScenarioRun<'_>) -> anyhow::Result<Vec<Value>> {
    let history = ["history", "--json"];
    let history = run.lab.programs().failover_ctl(&history);
    Ok(serde_json::from_str(
        &history.run(None, SCENARIO_TIMEOUT).await?,
    )?)
}

/// Returns the last operation.
pub(super) async fn last_operation(run: &ScenarioRun<'_>) -> anyhow::Result<Value> {
    let last = history(run).await?.pop();
    last.context("there was no operation")
}

/// Returns a string in a JSON value; empty if there is none.
pub(super) fn text_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// Returns the data loss that a journal states after catch-up, in rows.
pub(super) fn rows_stated(journal: &Value) -> anyhow::Result<u64> {
    let statements = journal.pointer("/statements").and_then(Value::as_array);
    let last = statements.and_then(|list| list.last());
    last.filter(|value| text_at(value, "/after") == "catch-up")
        .and_then(|value| value.pointer("/data_loss/rows_at_most"))
        .and_then(Value::as_u64)
        .with_context(|| format!("no loss is stated after catch-up: {journal}"))
}

/// Returns the epoch of the lease in a node's status.
pub(super) async fn epoch(run: &ScenarioRun<'_>, node: &NodeId) -> anyhow::Result<u64> {
    let status = run.lab.node(node)?.status().await?;
    let epoch = status
        .pointer("/lease/record/epoch")
        .and_then(Value::as_u64);
    epoch.with_context(|| format!("no epoch in the status of `{node}`: {status}"))
}

/// Minimum time that an operator takes to confirm: rows are written meanwhile.
pub(super) const CONFIRMATION_DELAY: Duration = Duration::from_secs(3);

/// Maximum downtime: operators wait for each other, and for lost nodes.
pub(super) const OPERATION_DOWNTIME: Duration = Duration::from_mins(3);

/// Accepted data loss in scenarios that do not test the amount.
pub(super) const ACCEPTED_LOSS: &str = "1GiB";

pub(super) const fn operation_expectation(rows_lost: u64) -> Expectation {
    Expectation {
        downtime: OPERATION_DOWNTIME,
        rows_lost,
    }
}

/// Returns the node of the other region.
pub(super) fn dr_node<'a>(run: &'a ScenarioRun<'_>) -> anyhow::Result<&'a Node> {
    let dr = &run.lab.topology().dr;
    let node = run.lab.nodes().iter().find(|node| node.spec.region == *dr);
    node.context("the other region has no node")
}
