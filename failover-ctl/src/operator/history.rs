//! `failover-ctl history`: operations with their plan, time and evidence.

use crate::clients::lease_store::LeaseStore;
use crate::config::Settings;
use crate::error::Error;
use crate::operator::journal::{self, Journal, OperationOutcome};
use crate::output;

/// Prints every operation, oldest first.
pub(crate) async fn run(settings: &Settings, json: bool) -> Result<(), Error> {
    let store = LeaseStore::open(settings).await;
    let journals = journal::list_journals(&store).await?;
    if json {
        let text = serde_json::to_string_pretty(&journals).map_err(anyhow::Error::from)?;
        output::print_data(&text);
        return Ok(());
    }
    if journals.is_empty() {
        output::print_progress("no operations; automatic failovers are in the logs of the agents");
    }
    for journal in &journals {
        output::print_data(&describe(journal));
    }
    Ok(())
}

/// Formats an operation for an operator.
pub(crate) fn describe(journal: &Journal) -> String {
    let ended = journal.ended_at.as_deref().unwrap_or("not ended");
    let mut lines = vec![format!(
        "operation {} by {}\n  began {}, {}\n{}",
        journal.id,
        journal.operator,
        journal.started_at,
        if journal.ended_at.is_some() {
            format!("ended {ended}")
        } else {
            ended.to_owned()
        },
        journal.plan
    )];
    for accepted in &journal.accepted_risks {
        lines.push(format!("  accepted: {accepted}"));
    }
    for statement in &journal.statements {
        lines.push(format!("  {}  stated {statement}", statement.at));
    }
    for entry in &journal.entries {
        let what = journal
            .plan
            .steps
            .get(entry.step)
            .map_or_else(|| "unknown step".to_owned(), ToString::to_string);
        let mark = if entry.completed { "done" } else { "NOT DONE" };
        lines.push(format!(
            "  {}  {mark}  {}. {what}\n      {}",
            entry.ended_at.as_deref().unwrap_or(&entry.started_at),
            entry.step + 1,
            entry.evidence.as_deref().unwrap_or("cut off")
        ));
    }
    lines.extend(journal.left.as_ref().map(|why| format!("  left: {why}")));
    lines.extend(journal.outcome.iter().flat_map(outcome));
    lines.join("\n")
}

fn outcome(of: &OperationOutcome) -> Vec<String> {
    match of {
        OperationOutcome::Promoted { records_not_moved } => {
            let mut lines = vec!["  outcome: promoted".to_owned()];
            lines.extend(records_not_moved.iter().map(|name| {
                format!("  NOT MOVED at the end: `{name}`; the primary's agent retries")
            }));
            lines
        }
        OperationOutcome::Refused { why } => vec![format!(
            "  outcome: refused, the lease was not taken: {why}"
        )],
        OperationOutcome::Abandoned {
            by,
            reason,
            left_behind,
        } => {
            let reason = reason
                .as_ref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            let mut lines = vec![format!("  outcome: abandoned by {by}{reason}")];
            lines.extend(
                left_behind
                    .iter()
                    .map(|item| format!("  left behind: {item}")),
            );
            lines
        }
        OperationOutcome::Replaced { by } => vec![format!("  outcome: replaced by operation {by}")],
        OperationOutcome::Overtaken { epoch } => vec![format!(
            "  outcome: overtaken, the lease was taken at epoch {epoch}"
        )],
    }
}
