//! Operations that were cut off: they are closed, and refused, without a node that answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::Host;
use crate::store::{Honesty, Store};

const LOCK: &str = "clusters/test/operation";

#[test]
fn released_operation_then_abandon_closes_and_reports_it() {
    let (store, host) = with_operation(&operation(0, "\"lease-expired\"", "\"its host was lost\""));
    let output = host.run(&["abandon", "--reason", "not needed"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for part in [
        "abandoned by",
        "not needed",
        "the lease is at epoch 0 (released), held by `a`",
        "has not taken it",
    ] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    let filed = store.object("clusters/test/operations/20261129T080000Z-0001.json");
    assert_eq!(filed, store.object(LOCK));
    assert!(filed.unwrap().contains("\"ended_at\": \"2"));
    host.refuses(&["abandon"], 23, &["no operation to abandon"]);
    host.refuses(&["resume", "--yes"], 23, &["no operation to resume"]);
}

#[test]
fn instance_stopped_then_abandon_reports_it() {
    let (_store, host) = with_operation(&operation(0, "\"instance-stopped\"", "\"cut off\""));
    let output = host.run(&["abandon"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("instance of `a` may have been stopped"),
        "{said}"
    );
}

#[test]
fn target_silent_then_resume_rejected_and_journal_unchanged() {
    let (store, host) = with_operation(&operation(0, "\"unfenced\"", "\"cut off\""));
    let before = store.object(LOCK);
    host.refuses(&["resume", "--yes"], 16, &["its agent does not answer"]);
    assert_eq!(store.object(LOCK), before);
}

#[test]
fn lease_gone_another_way_then_resume_closes_the_operation() {
    let (store, host) = with_operation(&operation(7, "\"lease-expired\"", "null"));
    let operation = store.object(LOCK).unwrap();
    store.put(
        LOCK,
        &operation.replace("\"left\": null", "\"left\": \"gone\""),
    );
    host.refuses(&["resume", "--yes"], 24, &["was overtaken", "`a` holds"]);
    host.refuses(&["resume", "--yes"], 23, &["no operation"]);
}

#[test]
fn heartbeat_arrives_then_operation_not_closed() {
    let (store, host) = with_operation(&operation(0, "\"lease-expired\"", "null"));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let operation = store.object(LOCK).unwrap();
            while !over.load(Ordering::Relaxed) {
                store.put(LOCK, &operation);
                thread::park_timeout(Duration::from_millis(100));
            }
        });
        host.refuses(&["abandon"], 20, &["`op@host process 1` is at work"]);
        host.refuses(&["resume"], 20, &["`op@host process 1` is at work"]);
        over.store(true, Ordering::Relaxed);
    });
    assert!(store.object(LOCK).unwrap().contains("\"ended_at\": null"));
}

/// Returns a cluster whose first lease is at epoch 0, and an operation.
fn with_operation(operation: &str) -> (Store, Host) {
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::with_store(&store.endpoint()).with_database(7);
    assert!(host.run(&["init", "--holder", "a"]).status.success());
    store.put(LOCK, operation);
    (store, host)
}

/// Returns an operation as a release wrote it that knew neither statements nor outcomes.
fn operation(planned: u64, fence: &str, left: &str) -> String {
    format!(
        r#"{{
  "format": 1,
  "id": "20261129T080000Z-0001",
  "operator": "op@host process 1",
  "started_at": "2026-11-29T08:00:00.000Z",
  "ended_at": null,
  "left": {left},
  "plan": {{
    "to": "c",
    "from": "a",
    "planned_epoch": {planned},
    "data_loss": null,
    "steps": [
      {{"step": "fence", "node": "a", "method": {fence}}},
      {{"step": "catch-up", "node": "c"}},
      {{"step": "take-lease", "node": "c", "epoch": 1}},
      {{"step": "promote", "node": "c", "timeline": 2}}
    ]
  }},
  "accepted_risks": [],
  "entries": [
    {{"step": 0, "started_at": "2026-11-29T08:00:00.000Z", "ended_at": null, "evidence": null, "completed": false}}
  ],
  "heartbeat": 1
}}"#
    )
}
