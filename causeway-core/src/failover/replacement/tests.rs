//! Replacement of a lease, one situation at a time.

use super::draft::{EPOCH_GAP, TIMELINE_GAP};
use super::*;
use crate::Lsn;
use crate::lease::{NonceGenerator, PrimaryPosition};

fn store(bucket: &str) -> LeaseStoreId {
    LeaseStoreId {
        bucket: bucket.to_owned(),
        region: "eu-north-1".to_owned(),
        endpoint: None,
    }
}

fn timeline(number: u32) -> Timeline {
    Timeline::new(number).unwrap()
}

fn record(epoch: u64) -> Box<LeaseRecord> {
    let replacement = LeaseReplacement {
        epoch: Epoch::new(epoch),
        sequence: 90,
        highest_reserved_timeline: timeline(4),
        retire: Vec::new(),
        unretired: None,
        risks: Vec::new(),
    };
    let nonce = NonceGenerator::new(1).generate();
    let node = "a".parse().unwrap();
    let mut record = replacement.record("main", SystemId(1), &node, Vec::new(), nonce);
    record.last_position = Some(PrimaryPosition {
        timeline: timeline(5),
        flush_lsn: Lsn::new(100),
        last_commit_at_micros: 0,
        wal_bytes_per_sec: 0,
        rows_per_sec: 0,
        age_millis: 0,
    });
    Box::new(record)
}

fn facts(bucket: &str, highest: u64) -> NodeFacts {
    NodeFacts {
        store: Some(store(bucket)),
        may_write: false,
        highest: Epoch::new(highest),
        timeline: Some(timeline(3)),
    }
}

fn evidence() -> ReplacementEvidence {
    ReplacementEvidence {
        target: store("new"),
        stores: vec![
            (store("new"), StoreFacts::Holds(None)),
            (store("old"), StoreFacts::Holds(Some(record(7)))),
        ],
        nodes: vec![
            ("a".parse().unwrap(), Some(facts("new", 7))),
            ("b".parse().unwrap(), Some(facts("new", 8))),
        ],
        timeline: timeline(2),
        dns: Ok(Some(Epoch::new(6))),
        system_id: SystemId(1),
        holds_position: true,
    }
}

#[test]
fn old_store_responds_then_retired_and_numbers_unused() {
    let plan = plan_replacement(&evidence(), &OperatorAssertions::default()).unwrap();

    assert_eq!(plan.retire, [store("old")]);
    assert_eq!(plan.risks, Vec::<String>::new());
    assert!(plan.epoch > Epoch::new(8), "{plan:?}");
    assert!(plan.sequence > 91);
    assert_eq!(plan.highest_reserved_timeline, timeline(5));
    let retired = record(7).retired(&store("new"), NonceGenerator::new(2).generate());
    assert!(retired.order() > record(7).order() && retired.epoch < plan.epoch);
    assert_eq!(retired.state, LeaseState::Retired);
}

#[test]
fn old_store_silent_then_allowed_by_name_with_a_gap() {
    let mut seen = evidence();
    seen.stores[1].1 = StoreFacts::Unresponsive("no answer".into());
    let refused = plan_replacement(&seen, &OperatorAssertions::default()).unwrap_err();
    assert!(
        matches!(refused[..], [ReplacementObstacle::StoreSilent(..)]),
        "{refused:?}"
    );

    let lost = OperatorAssertions {
        store_lost: true,
        ..OperatorAssertions::default()
    };
    let replaced = plan_replacement(&seen, &lost).unwrap();
    assert_eq!(replaced.unretired, Some(store("old")));
    assert!(replaced.epoch.get() > 8 + EPOCH_GAP, "{replaced:?}");
    assert!(replaced.highest_reserved_timeline > timeline(3 + TIMELINE_GAP - 1));
    assert_eq!(replaced.risks.len(), 1);

    // The node may write until its guard's deadline, and no retired record deposes it.
    seen.nodes[0].1.as_mut().unwrap().may_write = true;
    let refused = plan_replacement(&seen, &lost).unwrap_err();
    assert_eq!(
        refused,
        [ReplacementObstacle::MayWrite("a".parse().unwrap())]
    );
}

#[test]
fn node_on_the_old_store_or_silent_then_rejected() {
    let mut seen = evidence();
    seen.nodes[0].1 = Some(facts("old", 7));
    seen.nodes[1].1 = None;
    let refused = plan_replacement(&seen, &OperatorAssertions::default()).unwrap_err();
    let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
    let expected = [
        ReplacementObstacle::OtherStore(a.clone(), Some(store("old"))),
        ReplacementObstacle::Unresponsive(b.clone()),
    ];
    assert_eq!(refused, expected);

    // A node that responds is an obstacle even if it is named.
    let named = OperatorAssertions {
        without: BTreeSet::from([a.clone(), b]),
        ..OperatorAssertions::default()
    };
    let refused = plan_replacement(&seen, &named).unwrap_err();
    assert_eq!(
        refused,
        [ReplacementObstacle::OtherStore(a, Some(store("old")))]
    );
}

#[test]
fn recorded_wal_missing_then_allowed_only_as_restored() {
    let mut seen = evidence();
    seen.holds_position = false;
    let refused = plan_replacement(&seen, &OperatorAssertions::default()).unwrap_err();
    assert_eq!(refused, [ReplacementObstacle::WalMissing]);
    let restored = OperatorAssertions {
        restored: true,
        ..OperatorAssertions::default()
    };
    assert_eq!(plan_replacement(&seen, &restored).unwrap().risks.len(), 1);
}

#[test]
fn no_record_left_then_numbers_from_the_operator() {
    let seen = ReplacementEvidence {
        target: store("new"),
        stores: vec![(store("new"), StoreFacts::Holds(None))],
        nodes: vec![("a".parse().unwrap(), Some(facts("new", 0)))],
        timeline: timeline(2),
        dns: Err("no answer".into()),
        system_id: SystemId(1),
        holds_position: true,
    };
    let asserted = OperatorAssertions {
        highest_epoch: Some(Epoch::new(40)),
        highest_reserved_timeline: Some(timeline(9)),
        ..OperatorAssertions::default()
    };
    let refused = plan_replacement(&seen, &OperatorAssertions::default()).unwrap_err();
    assert!(
        matches!(refused[..], [ReplacementObstacle::DnsSilent(_)]),
        "{refused:?}"
    );
    let replaced = plan_replacement(&seen, &asserted).unwrap();
    assert!(replaced.epoch > Epoch::new(40));
    assert_eq!(replaced.highest_reserved_timeline, timeline(9));
}
