//! Tests of the view that the nodes' responses give.

use causeway_core::Epoch;
use causeway_core::lease::SystemId;
use causeway_core::problem::ProblemKind;
use serde_json::json;

use super::*;
use crate::protocol::node_status::ProblemStatus;
use crate::test_lease::held_lease;

const SETTINGS: &str = r#"
cluster = "main"
primary-region = "eu-west-1"
command-signing-key-file = "/k"
[[nodes]]
name = "a"
region = "eu-west-1"
zone = "z"
address = "10.0.0.1"
agent = "10.0.0.1:1"
[[nodes]]
name = "b"
region = "eu-west-1"
zone = "z"
address = "10.0.0.2"
agent = "10.0.0.2:1"
[[nodes]]
name = "c"
region = "eu-central-1"
zone = "z"
address = "10.0.0.3"
agent = "10.0.0.3:1"
[lease]
bucket = "lease"
region = "eu-north-1"
"#;

fn settings() -> Settings {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SETTINGS).unwrap();
    Settings::read(file.path()).unwrap()
}

fn record(holder: &str) -> LeaseRecord {
    held_lease(holder, Epoch::new(3))
}

/// Status of standby `node`, which forecasts not to take over, for the reason `why`.
fn standby(node: &str, record: &LeaseRecord, why: Option<&str>) -> NodeStatus {
    let status = json!({
        "format": 1, "cluster": "main", "version": "0", "node": node, "region": "eu-west-1", "zone": "z",
        "host_id": "h", "role": "standby", "automatic_failover": true, "system_id": "1", "data_directory_state": "standby",
        "server": null, "progress": {"timeline": 1, "received_lsn": "0/64", "replayed_lsn": "0/64"}, "streaming": true,
        "replayed_commit_at_micros": null, "wal_position": null, "decision": null, "standby_setup": null,
        "lease": {"record": record, "age_secs": 1.0, "stood_secs": 1.0, "expired": false},
        "guard": {"responding": true, "epoch": null, "remaining_secs": 0.0}, "problems": [],
        "highest": {"epoch": 3, "sequence": 9}, "unproven_secs": null,
        "forecast": {"takes_over": why.is_none(), "why": why},
    });
    serde_json::from_value(status).unwrap()
}

fn silent() -> Result<NodeStatus, StatusError> {
    Err(StatusError::Unresponsive(anyhow::anyhow!("no answer")))
}

fn forecast(
    settings: &Settings,
    holder: &str,
    answers: [Option<NodeStatus>; 3],
) -> FailoverForecast {
    let answers = answers.map(|answer| answer.map_or_else(silent, Ok)).into();
    build_view(settings, answers, Ok(Some(record(holder)))).forecast()
}

#[test]
fn no_candidate_then_forecast_is_manual_with_reason() {
    let settings = settings();
    let there = record("c");
    let why = Some("`c` is in another region, which is left by command only");
    let answers = [
        Some(standby("a", &there, why)),
        Some(standby("b", &there, why)),
        None,
    ];
    let FailoverForecast::Manual { why, .. } = forecast(&settings, "c", answers) else {
        panic!("not by command");
    };
    assert!(why.contains("`a`: `c` is in another region"), "{why}");
}

#[test]
fn node_forecasts_a_takeover_then_forecast_is_automatic() {
    let settings = settings();
    let there = record("a");
    let answers = [None, Some(standby("b", &there, None)), None];
    assert!(matches!(
        forecast(&settings, "a", answers),
        FailoverForecast::Automatic { node, .. } if node.as_str() == "b"
    ));
}

/// A forecast about an older lease does not apply to the current one.
#[test]
fn forecast_about_an_older_epoch_then_not_automatic() {
    let settings = settings();
    let mut old = record("a");
    old.epoch = Epoch::new(2);
    let answers = [None, Some(standby("b", &old, None)), None];
    assert!(matches!(
        forecast(&settings, "a", answers),
        FailoverForecast::Manual { .. }
    ));
}

#[test]
fn database_is_another_then_its_status_is_not_used() {
    let settings = settings();
    let there = record("a");
    let mut foreign = standby("b", &there, None);
    foreign.system_id = Some(SystemId(2));
    let answers = vec![silent(), Ok(foreign), silent()];
    let cluster = build_view(&settings, answers, Ok(Some(there)));
    let b: NodeId = "b".parse().unwrap();
    assert!(cluster.status(&b).is_none());
    assert!(cluster.unknown_reason(&b).contains("system identifier 2"));
    assert!(matches!(
        cluster.forecast(),
        FailoverForecast::NoCandidate { .. }
    ));
}

#[test]
fn another_node_or_cluster_answers_then_refused() {
    let status = standby("b", &record("a"), None);
    let (b, c): (NodeId, NodeId) = ("b".parse().unwrap(), "c".parse().unwrap());
    assert_eq!(status.check_source("main", &b), Ok(()));
    assert!(matches!(
        status.check_source("main", &c),
        Err(StatusMismatch::Node { .. })
    ));
    assert!(matches!(
        status.check_source("test", &b),
        Err(StatusMismatch::Cluster { .. })
    ));
    let mut mixed = status;
    mixed.lease.as_mut().unwrap().record.cluster = "test".to_owned();
    assert!(matches!(
        mixed.check_source("main", &b),
        Err(StatusMismatch::Cluster { .. })
    ));
}

#[test]
fn node_without_an_answer_and_a_problem_then_runbooks() {
    let settings = settings();
    let there = record("a");
    let mut diverged = standby("b", &there, None);
    diverged.problems = vec![ProblemStatus {
        problem: ProblemKind::Diverged,
        detail: "forked at 0/64".to_owned(),
        since_secs: 3.0,
    }];
    let answers = vec![silent(), Ok(diverged), silent()];
    let view = build_view(&settings, answers, Ok(Some(there)));
    let pages = ["no-primary", "agent-absent", "timeline-diverged"];
    assert_eq!(
        view.runbooks(),
        pages.map(|page| format!("docs/runbooks/{page}.md"))
    );
}

#[test]
fn lease_store_does_not_answer_then_runbook() {
    let settings = settings();
    let answers = vec![silent(), silent(), silent()];
    let view = build_view(&settings, answers, Err("timed out".to_owned()));
    let pages = [
        "no-primary",
        "quorum-degraded",
        "failover-not-ready",
        "agent-absent",
    ];
    assert_eq!(
        view.runbooks(),
        pages.map(|page| format!("docs/runbooks/{page}.md"))
    );
}
