//! Commands of an operator during a history, and the claim of each.

use std::time::Duration;

use causeway_core::NodeId;
use serde_json::Value;

use super::observations::{CommandClaim, CommandObservation, StatedRows};
use super::observer::Observer;
use super::schedule::OperatorCommand;
use crate::lab::Lab;
use crate::workload::history::History;

/// Timeout of a command. Commands have their own timeouts, of which `rejoin` has the longest.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(2);

/// Time after which the operator's process is killed, during a promotion.
const OPERATOR_KILLED_AFTER: Duration = Duration::from_secs(2);

/// Exit code that a shell reports for SIGKILL.
const SIGKILL_EXIT_CODE: i32 = 137;

/// Timeout passed to `rejoin`.
const REJOIN_TIMEOUT_SECS: &str = "60";

/// Runs a command, waits for its end, and records its result.
pub(super) async fn run_command(
    lab: &Lab,
    history: &History,
    observer: &Observer,
    command: OperatorCommand,
    node: &NodeId,
) {
    let command_line = command_line(command, node);
    let arguments: Vec<&str> = command_line.iter().map(String::as_str).collect();
    let program = lab.programs().failover_ctl(&arguments);
    let from = history.now();
    history.record_event(format!("`failover-ctl {}`", command_line.join(" ")));
    let killed = command == OperatorCommand::PromoteCutOff;
    let timeout = if killed {
        OPERATOR_KILLED_AFTER
    } else {
        COMMAND_TIMEOUT
    };
    let outcome = program.outcome(timeout).await;
    let to = history.now();
    let (code, output, stdout) = match outcome {
        Ok(outcome) => {
            let output = format!("{}{}", outcome.stdout, outcome.stderr);
            (outcome.code, output, outcome.stdout)
        }
        // A killed command reports nothing.
        Err(_) if killed => (Some(SIGKILL_EXIT_CODE), "killed".to_owned(), String::new()),
        Err(error) => (None, format!("{error:#}"), String::new()),
    };
    history.record_event(format!(
        "`failover-ctl {}`: {code:?}",
        command_line.join(" ")
    ));
    // Commands without `--json` print no JSON.
    let report: Value = serde_json::from_str(&stdout).unwrap_or(Value::Null);
    let claim = match (command, code) {
        (
            OperatorCommand::Promote
            | OperatorCommand::PromoteStopping
            | OperatorCommand::PromoteCutOff,
            _,
        ) => CommandClaim::Primary(node.clone()),
        (OperatorCommand::Rejoin | OperatorCommand::Rebuild, _) => {
            CommandClaim::Streams(node.clone())
        }
        (OperatorCommand::Resume, _) => resume_claim(&report),
        (OperatorCommand::Abandon, Some(0)) => CommandClaim::NoneUnfinished {
            unfinished: unfinished_operations(lab).await,
        },
        (OperatorCommand::Status | OperatorCommand::PlanPromote | OperatorCommand::Abandon, _) => {
            CommandClaim::Nothing
        }
    };
    let mut seen = observer.observations();
    // A promotion states the loss before it starts; a plan states it at its output.
    let at = if command == OperatorCommand::PlanPromote {
        to
    } else {
        from
    };
    if let Some(rows) = rows_stated(&report) {
        seen.stated.push(StatedRows { at, rows });
        seen.stated.sort_by_key(|statement| statement.at);
    }
    seen.commands.push(CommandObservation {
        command_line: command_line.join(" "),
        claim,
        from,
        to,
        code,
        output,
    });
}

fn command_line(command: OperatorCommand, node: &NodeId) -> Vec<String> {
    let node = node.as_str();
    let promote = ["promote", "--to", node];
    let accepted = ["--yes", "--accept-loss", "1GiB", "--json"];
    let rejoin = [
        "rejoin",
        "--node",
        node,
        "--timeout-secs",
        REJOIN_TIMEOUT_SECS,
    ];
    let arguments: Vec<&str> = match command {
        OperatorCommand::Status => vec!["status"],
        OperatorCommand::PlanPromote => vec!["plan", "promote", "--to", node, "--json"],
        OperatorCommand::Promote | OperatorCommand::PromoteCutOff => {
            [&promote[..], &accepted].concat()
        }
        OperatorCommand::PromoteStopping => {
            [&promote[..], &["--stop-instance"], &accepted].concat()
        }
        // `resume` does not inherit the accepted risks of the killed command.
        OperatorCommand::Resume => [&["resume"][..], &accepted].concat(),
        OperatorCommand::Abandon => vec!["abandon"],
        OperatorCommand::Rejoin => rejoin.to_vec(),
        OperatorCommand::Rebuild => [&rejoin[..], &["--rebuild"]].concat(),
    };
    arguments.into_iter().map(str::to_owned).collect()
}

/// Returns the claim of `resume`: the operation's target is primary, if it was promoted.
fn resume_claim(journal: &Value) -> CommandClaim {
    let text = |path| journal.pointer(path).and_then(Value::as_str);
    let target = text("/plan/to").and_then(|text| text.parse().ok());
    match (text("/outcome/outcome"), target) {
        (Some("promoted"), Some(node)) => CommandClaim::Primary(node),
        _ => CommandClaim::Nothing,
    }
}

/// Returns the highest number of rows in a plan or a journal.
fn rows_stated(report: &Value) -> Option<u64> {
    match report {
        Value::Object(fields) => fields
            .iter()
            .filter_map(|(name, value)| {
                if name == "rows_at_most" {
                    value.as_u64()
                } else {
                    rows_stated(value)
                }
            })
            .max(),
        Value::Array(elements) => elements.iter().filter_map(rows_stated).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Returns the unfinished operations in `failover-ctl history`.
async fn unfinished_operations(lab: &Lab) -> Vec<String> {
    let history = lab.programs().failover_ctl(&["history", "--json"]);
    let history = match history.run(None, COMMAND_TIMEOUT).await {
        Ok(history) => history,
        // An empty list would confirm a claim that was not checked.
        Err(error) => return vec![format!("unknown: {error:#}")],
    };
    let operations: Vec<Value> = match serde_json::from_str(&history) {
        Ok(operations) => operations,
        Err(error) => {
            return vec![format!(
                "unknown: `history --json` printed no list: {error}"
            )];
        }
    };
    let operations = operations.iter();
    let open = operations.filter(|operation| operation.get("ended_at").is_none_or(Value::is_null));
    open.map(|operation| operation.get("id").unwrap_or(&Value::Null).to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn resume_reports_promotion_then_target_claimed() {
        let journal = json!({"plan": {"to": "c"}, "outcome": {"outcome": "promoted"}});
        assert_eq!(
            resume_claim(&journal),
            CommandClaim::Primary("c".parse().unwrap())
        );
        let journal = json!({"plan": {"to": "c"}, "outcome": {"outcome": "overtaken", "epoch": 3}});
        assert_eq!(resume_claim(&journal), CommandClaim::Nothing);
    }

    #[test]
    fn plan_or_journal_then_highest_stated_rows() {
        let journal =
            json!({"plan": {"data_loss": {"rows_at_most": 7}}, "entries": [{"rows_at_most": 9}]});
        assert_eq!(rows_stated(&journal), Some(9));
        assert_eq!(rows_stated(&json!({"error": "none"})), None);
    }
}
