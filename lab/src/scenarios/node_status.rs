//! Waits on what an agent's `/status` reports.

use anyhow::Context as _;
use serde_json::Value;

use super::scenario_run::SCENARIO_TIMEOUT;
use crate::cluster::node::Node;
use crate::wait;

/// Waits until a node reports a problem, and returns its detail.
///
/// # Errors
///
/// When it does not in time.
pub(super) async fn wait_for_problem(node: &Node, kind: &str) -> anyhow::Result<String> {
    let what = format!("`{}` to name `{kind}`", node.spec.node);
    let found = wait::until(&what, SCENARIO_TIMEOUT, || async {
        let status = node.status().await.map_err(|error| format!("{error:#}"))?;
        problem_in(&status, kind).ok_or_else(|| status.to_string())
    });
    Ok(found.await?)
}

fn problem_in(status: &Value, kind: &str) -> Option<String> {
    let problems = status.pointer("/problems")?.as_array()?;
    let found = problems
        .iter()
        .find(|found| found.get("problem").is_some_and(|found| found == kind))?;
    Some(found.get("detail")?.as_str()?.to_owned())
}

/// Waits until a node no longer reports a problem.
///
/// # Errors
///
/// When it still does after the timeout.
pub(super) async fn wait_for_no_problem(node: &Node, kind: &str) -> anyhow::Result<()> {
    let what = format!("`{}` to name `{kind}` no longer", node.spec.node);
    let gone = wait::until(&what, SCENARIO_TIMEOUT, || async {
        let status = node.status().await.map_err(|error| format!("{error:#}"))?;
        problem_in(&status, kind).map_or(Ok(()), Err)
    });
    Ok(gone.await?)
}

/// Returns a string of a node's status.
///
/// # Errors
///
/// When its agent does not respond, or the status has no such string.
pub(super) async fn status_text(node: &Node, pointer: &str) -> anyhow::Result<String> {
    let status = node.status().await?;
    let found = status.pointer(pointer).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("no `{pointer}` in {status}"))?
        .to_owned())
}
