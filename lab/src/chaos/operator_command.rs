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
const ENDS_WITHIN: Duration = Duration::from_mins(2);

/// Time after which the operator's process is killed, during a promotion.
const CUT_OFF_AFTER: Duration = Duration::from_secs(2);

/// Exit code that a shell reports for SIGKILL.
const KILLED: i32 = 137;

/// Timeout passed to `rejoin`.
const REJOIN_SECS: &str = "60";

/// Runs a command, waits for its end, and records its result.
pub(super) async fn give(
    lab: &Lab,
    history: &History,
    observer: &Observer,
    order: OperatorCommand,
    node: &NodeId,
) {
    let typed = typed(order, node);
    let arguments: Vec<&str> = typed.iter().map(String::as_str).collect();
    let program = lab.programs().failover_ctl(&arguments);
    let from = history.now();
    history.record_event(format!("`failover-ctl {}`", typed.join(" ")));
    let cut_off = order == OperatorCommand::PromoteCutOff;
    let timeout = if cut_off { CUT_OFF_AFTER } else { ENDS_WITHIN };
    let outcome = program.outcome(timeout).await;
    let to = history.now();
    let (code, printed, stdout) = match outcome {
        Ok(it) => (it.code, format!("{}{}", it.stdout, it.stderr), it.stdout),
        // A killed command reports nothing.
        Err(_) if cut_off => (Some(KILLED), "cut off".to_owned(), String::new()),
        Err(error) => (None, format!("{error:#}"), String::new()),
    };
    history.record_event(format!("`failover-ctl {}`: {code:?}", typed.join(" ")));
    // Commands without `--json` print no JSON.
    let answer: Value = serde_json::from_str(&stdout).unwrap_or(Value::Null);
    let claim = match (order, code) {
        (
            OperatorCommand::Promote
            | OperatorCommand::PromoteStopping
            | OperatorCommand::PromoteCutOff,
            _,
        ) => CommandClaim::Primary(node.clone()),
        (OperatorCommand::Rejoin | OperatorCommand::Rebuild, _) => {
            CommandClaim::Streams(node.clone())
        }
        (OperatorCommand::Resume, _) => resumed(&answer),
        (OperatorCommand::Abandon, Some(0)) => CommandClaim::NothingOpen {
            left: unfinished(lab).await,
        },
        (OperatorCommand::Status | OperatorCommand::PlanPromote | OperatorCommand::Abandon, _) => {
            CommandClaim::Nothing
        }
    };
    let mut seen = observer.seen();
    // A promotion states the loss before it starts; a plan states it at its output.
    let at = if order == OperatorCommand::PlanPromote {
        to
    } else {
        from
    };
    if let Some(rows) = rows_stated(&answer) {
        seen.stated.push(StatedRows { at, rows });
        seen.stated.sort_by_key(|statement| statement.at);
    }
    seen.commands.push(CommandObservation {
        typed: typed.join(" "),
        claim,
        from,
        to,
        code,
        printed,
    });
}

fn typed(order: OperatorCommand, node: &NodeId) -> Vec<String> {
    let node = node.as_str();
    let promote = ["promote", "--to", node];
    let accepted = ["--yes", "--accept-loss", "1GiB", "--json"];
    let rejoin = ["rejoin", "--node", node, "--timeout-secs", REJOIN_SECS];
    let typed: Vec<&str> = match order {
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
    typed.into_iter().map(str::to_owned).collect()
}

/// Returns the claim of `resume`: the operation's target is primary, if it was promoted.
fn resumed(journal: &Value) -> CommandClaim {
    let text = |path| journal.pointer(path).and_then(Value::as_str);
    let target = text("/plan/to").and_then(|text| text.parse().ok());
    match (text("/outcome/outcome"), target) {
        (Some("promoted"), Some(node)) => CommandClaim::Primary(node),
        _ => CommandClaim::Nothing,
    }
}

/// Returns the highest number of rows in a plan or a journal.
fn rows_stated(answer: &Value) -> Option<u64> {
    match answer {
        Value::Object(of) => of
            .iter()
            .filter_map(|(name, it)| {
                if name == "rows_at_most" {
                    it.as_u64()
                } else {
                    rows_stated(it)
                }
            })
            .max(),
        Value::Array(of) => of.iter().filter_map(rows_stated).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Returns the unfinished operations in `failover-ctl history`.
async fn unfinished(lab: &Lab) -> Vec<String> {
    let history = lab.programs().failover_ctl(&["history", "--json"]);
    let history = match history.run(None, ENDS_WITHIN).await {
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
    fn resumed_operation_then_its_target_if_it_was_promoted() {
        let journal = json!({"plan": {"to": "c"}, "outcome": {"outcome": "promoted"}});
        assert_eq!(
            resumed(&journal),
            CommandClaim::Primary("c".parse().unwrap())
        );
        let journal = json!({"plan": {"to": "c"}, "outcome": {"outcome": "overtaken", "epoch": 3}});
        assert_eq!(resumed(&journal), CommandClaim::Nothing);
    }

    #[test]
    fn plan_or_journal_then_the_most_that_it_states() {
        let journal =
            json!({"plan": {"data_loss": {"rows_at_most": 7}}, "entries": [{"rows_at_most": 9}]});
        assert_eq!(rows_stated(&journal), Some(9));
        assert_eq!(rows_stated(&json!({"error": "none"})), None);
    }
}
