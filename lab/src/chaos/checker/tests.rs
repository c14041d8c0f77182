//! Planted violations: each property fails on its violation, and only then.

use std::collections::BTreeMap;

use super::*;
use crate::chaos::observations::{AgentObservation, StatedRows, StatusObservation};
use crate::workload::checker::TimeSpan;

const HEALED: u64 = 60;

#[test]
fn correct_history_then_no_violation() {
    assert_eq!(check(&history()), []);
}

#[test]
fn two_writable_nodes_then_found_also_on_second_host() {
    for other in ["b", "a-clone"] {
        let mut history = history();
        history
            .accepted
            .insert(node(other), vec![Duration::from_millis(20_050)]);
        assert!(
            properties(&history).contains(&ChaosProperty::NoSplitBrain),
            "{other}"
        );
    }
}

#[test]
fn more_rows_lost_than_stated_then_found() {
    let mut history = history();
    history.rows_lost = Some(12);
    assert_eq!(properties(&history), []);
    history.rows_lost = Some(13);
    assert_eq!(properties(&history), [ChaosProperty::LossIsStated]);
}

#[test]
fn lost_row_not_saved_then_found() {
    let mut history = history();
    (history.rows_lost, history.rows_unsaved) = (Some(2), 1);
    assert_eq!(properties(&history), [ChaosProperty::LossIsSaved]);
}

#[test]
fn loss_stated_only_after_takeover_then_found() {
    let mut history = history();
    history.rows_lost = Some(1);
    history.stated = vec![stated(45, 1_000)];
    assert_eq!(properties(&history), [ChaosProperty::LossIsStated]);
}

#[test]
fn loss_without_takeover_then_found() {
    let mut history = history();
    history.rows_lost = Some(1);
    history.accepted = BTreeMap::from([(node("a"), tenths(0, 2_000))]);
    assert!(properties(&history).contains(&ChaosProperty::LossIsStated));
}

#[test]
fn no_node_writable_after_healing_then_found() {
    let mut history = history();
    for at in history.accepted.values_mut() {
        at.retain(|at| *at < secs(HEALED - 10));
    }
    assert!(properties(&history).contains(&ChaosProperty::RecoversAfterHealing));
}

#[test]
fn api_without_primary_then_not_recovered() {
    let mut history = history();
    history.through_api = tenths(0, 500);
    assert_eq!(properties(&history), [ChaosProperty::RecoversAfterHealing]);
}

#[test]
fn node_streams_too_late_or_never_then_found() {
    for (until, expected) in [(HEALED + 110, 0), (HEALED + 130, 1), (u64::MAX, 1)] {
        let mut history = history();
        for round in &mut history.rounds {
            if (HEALED..until).contains(&round.at.as_secs()) {
                let seen = round.nodes.get_mut(&node("c")).unwrap();
                seen.server.as_mut().unwrap().receives = false;
                report_problem(seen);
            }
        }
        log_problem(&mut history, "c");
        let found = properties(&history);
        let found = found
            .iter()
            .filter(|property| **property == ChaosProperty::RecoversAfterHealing);
        assert_eq!(found.count(), expected, "{until}");
    }
}

#[test]
fn old_timeline_or_no_replay_then_not_recovered() {
    let history = history();
    let pair = |change: fn(&mut ServerObservation)| {
        let mut two = history.rounds[150].clone();
        let seen = two.nodes.get_mut(&node("c")).unwrap();
        change(seen.server.as_mut().unwrap());
        unrecovered_reason(&history, &history.rounds[149], &two)
    };
    assert_eq!(pair(|_| {}), None);
    assert!(
        pair(|pair| pair.timeline = 1)
            .unwrap()
            .contains("does not stream")
    );
    assert!(
        pair(|pair| pair.position -= 2_000)
            .unwrap()
            .contains("does not replay")
    );
    assert!(pair(|pair| pair.in_recovery = false).is_some());
}

#[test]
fn reason_missing_in_one_place_then_that_place_found() {
    // Node c does not stream for 50 s before healing, and reports the reason in all places but one.
    for missing in ["metric", "log", "status", ""] {
        let mut history = history();
        for round in &mut history.rounds {
            if (5..55).contains(&round.at.as_secs()) {
                let seen = round.nodes.get_mut(&node("c")).unwrap();
                seen.server.as_mut().unwrap().receives = false;
                if missing != "metric" {
                    report_problem(seen);
                }
            }
        }
        log_problem(&mut history, "c");
        match missing {
            "log" => history.logged.clear(),
            "status" => history.statuses.clear(),
            _ => {}
        }
        let expected: &[ChaosProperty] = match missing {
            "metric" => &[ChaosProperty::MetricNamesReason],
            "log" => &[ChaosProperty::LogNamesReason],
            "status" => &[ChaosProperty::StatusNamesReason],
            _ => &[],
        };
        assert_eq!(properties(&history), expected, "{missing}");
    }
}

#[test]
fn agent_does_not_respond_then_that_is_the_reason() {
    let mut history = history();
    for round in &mut history.rounds {
        if (5..55).contains(&round.at.as_secs()) {
            *round.nodes.get_mut(&node("c")).unwrap() = ObservedNode::default();
        }
    }
    history.statuses = vec![StatusObservation {
        at: secs(10),
        reasons: BTreeMap::from([(node("c"), vec!["no response".to_owned()])]),
        ..StatusObservation::default()
    }];
    assert_eq!(properties(&history), []);
    history.statuses.clear();
    assert_eq!(properties(&history), [ChaosProperty::StatusNamesReason]);
}

#[test]
fn out_of_service_briefly_then_no_reason_required() {
    let mut history = history();
    for round in &mut history.rounds {
        if (2..12).contains(&round.at.as_secs()) {
            let seen = round.nodes.get_mut(&node("c")).unwrap();
            seen.server = None;
        }
    }
    assert_eq!(properties(&history), []);
}

#[test]
fn false_report_of_a_command_then_found() {
    let unfinished = |operations: &[&str]| CommandClaim::NoneUnfinished {
        unfinished: operations
            .iter()
            .map(|operation| (*operation).to_owned())
            .collect(),
    };
    for (claim, code, expected) in [
        (CommandClaim::Primary(node("b")), Some(0), None),
        (
            CommandClaim::Primary(node("c")),
            Some(0),
            Some(ChaosProperty::ReportIsTrue),
        ),
        (CommandClaim::Primary(node("c")), Some(22), None),
        (
            CommandClaim::Primary(node("b")),
            None,
            Some(ChaosProperty::CommandEnds),
        ),
        (CommandClaim::Streams(node("c")), Some(0), None),
        (
            CommandClaim::Streams(node("b")),
            Some(0),
            Some(ChaosProperty::ReportIsTrue),
        ),
        (CommandClaim::Streams(node("b")), Some(30), None),
        (unfinished(&[]), Some(0), None),
        (
            unfinished(&["operation"]),
            Some(0),
            Some(ChaosProperty::ReportIsTrue),
        ),
        (CommandClaim::Nothing, Some(0), None),
    ] {
        let mut history = history();
        history.commands.push(CommandObservation {
            command_line: "command".to_owned(),
            claim: claim.clone(),
            from: secs(50),
            to: secs(52),
            code,
            output: String::new(),
        });
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(properties(&history), expected, "{claim:?} {code:?}");
    }
}

/// Node a accepts writes until 30 s, node b takes over at 40 s, and the others stream from it.
fn history() -> Observations {
    let rounds = (0..200).map(|at| {
        let (primary, timeline) = if at < 40 { ("a", 1) } else { ("b", 2) };
        let seen = |name: &str| {
            let server = ServerObservation {
                in_recovery: name != primary,
                timeline,
                position: 1_000_000 + 1_000 * at,
                receives: name != primary,
            };
            let agent = AgentObservation {
                role: "standby".to_owned(),
                ..AgentObservation::default()
            };
            let seen = ObservedNode {
                agent: Some(agent),
                server: Some(server),
            };
            (node(name), seen)
        };
        ObservationRound {
            at: secs(at),
            nodes: ["a", "b", "c"].map(seen).into(),
        }
    });
    Observations {
        rounds: rounds.collect(),
        accepted: BTreeMap::from([(node("a"), tenths(0, 300)), (node("b"), tenths(400, 2_000))]),
        through_api: tenths(0, 300)
            .into_iter()
            .chain(tenths(420, 2_000))
            .collect(),
        stated: vec![stated(1, 5), stated(20, 12), stated(45, 1_000)],
        rows_lost: Some(0),
        healed_at: secs(HEALED),
        ended_at: secs(200),
        ..Observations::default()
    }
}

/// Adds a problem to an agent's status and metrics.
fn report_problem(seen: &mut ObservedNode) {
    let agent = seen.agent.as_mut().unwrap();
    agent.alerts = vec!["not-streaming".to_owned()];
}

/// Adds a problem of a node to log and status, for the whole history.
fn log_problem(history: &mut Observations, name: &str) {
    let always = TimeSpan {
        from: secs(0),
        to: secs(200),
    };
    history.logged.insert(node(name), vec![always]);
    history.statuses = vec![StatusObservation {
        at: secs(1),
        reasons: BTreeMap::from([(node(name), vec!["not-streaming".to_owned()])]),
        ..StatusObservation::default()
    }];
}

fn properties(history: &Observations) -> Vec<ChaosProperty> {
    check(history)
        .into_iter()
        .map(|violation| violation.property)
        .collect()
}

fn stated(at: u64, rows: u64) -> StatedRows {
    StatedRows { at: secs(at), rows }
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn tenths(from: u64, to: u64) -> Vec<Duration> {
    (from..to)
        .map(|tenth| Duration::from_millis(100 * tenth))
        .collect()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
