//! Tests of record moves.

use proptest::prelude::*;

use super::change::is_permanent;
use super::*;
use crate::damage::damaged_text;

const NAME: &str = "db.example.com";

#[test]
fn concurrent_change_or_throttling_then_transient() {
    for passes in [
        "InvalidChangeBatch",
        "PriorRequestNotComplete",
        "Throttling",
        "ThrottlingException",
        "ServiceUnavailable",
    ] {
        assert!(!is_permanent(passes), "{passes}");
    }
    assert!(is_permanent("AccessDenied") && is_permanent("NoSuchHostedZone"));
}

#[test]
fn target_already_set_under_this_or_later_epoch_then_no_change() {
    for found in [8, 9] {
        let moved = changes("10.0.0.3", Some(("10.0.0.3", found)));
        assert!(matches!(moved, Ok(RecordChange::Already)), "{moved:?}");
    }
}

#[test]
fn other_target_under_later_epoch_then_rejected() {
    let moved = changes("10.0.0.3", Some(("10.0.0.2", 9)));
    assert!(matches!(
        moved,
        Err(RecordMoveError::Later { found, .. }) if found == Epoch::new(9)
    ));
}

#[test]
fn move_then_epoch_that_was_read_deleted() {
    for at in ["10.0.0.2", "10.0.0.3"] {
        let Ok(RecordChange::Batch(changes)) = changes("10.0.0.3", Some((at, 7))) else {
            panic!("no batch");
        };
        let texts: Vec<_> = changes
            .iter()
            .map(|change| {
                let set = change.resource_record_set.as_ref().unwrap();
                format!("{} {}", change.action, values(set).join(" "))
            })
            .collect();
        assert_eq!(
            texts,
            [
                "DELETE \"epoch=7\"",
                "CREATE \"epoch=8\"",
                "UPSERT 10.0.0.3"
            ]
        );
    }
}

/// An epoch that cannot be read may be later than this one.
#[test]
fn epoch_unreadable_then_record_not_moved() {
    let records = records();
    for text in ["\"epoch=\"", "\"epoch=-1\"", "\"v=spf1\"", "\"epoch=9 \""] {
        let mark = records.set(&epoch_name(NAME), RrType::Txt, text.to_owned());
        let moved = records.changes(NAME, "10.0.0.3", Epoch::new(8), &[], &[mark.unwrap()]);
        assert!(
            matches!(moved, Err(RecordMoveError::Refused { .. })),
            "{moved:?}"
        );
    }
}

proptest! {
    #[test]
    fn damaged_epoch_record_then_no_panic(text in damaged_text("\"epoch=17\"")) {
        let records = records();
        let mark = records.set(&epoch_name(NAME), RrType::Txt, text).unwrap();
        if let Ok(epoch) = read_epoch(&mark) {
            let again = records.epoch_record(&epoch_name(NAME), epoch).unwrap();
            prop_assert_eq!(read_epoch(&again).unwrap(), epoch);
        }
    }
}

#[test]
fn cname_before_address_then_deleted_in_same_batch() {
    let records = records();
    let alias = records.record(NAME, "other.example.com").unwrap();
    let Ok(RecordChange::Batch(changes)) =
        records.changes(NAME, "10.0.0.3", Epoch::new(8), &[alias], &[])
    else {
        panic!("no batch");
    };
    let actions: Vec<_> = changes
        .iter()
        .map(|change| change.action.as_str())
        .collect();
    assert_eq!(actions, ["DELETE", "CREATE", "UPSERT"]);
}

/// Returns the change that moves the record to `target` at epoch 8, from `found`.
fn changes(target: &str, found: Option<(&str, u64)>) -> Result<RecordChange, RecordMoveError> {
    let records = records();
    let there = found.map(|(at, _)| records.record(NAME, at).unwrap());
    let mark = found.map(|(_, epoch)| {
        let beside = epoch_name(NAME);
        records.epoch_record(&beside, Epoch::new(epoch)).unwrap()
    });
    records.changes(
        NAME,
        target,
        Epoch::new(8),
        there.as_slice(),
        mark.as_slice(),
    )
}

/// Returns a client that sends no request.
fn records() -> DnsRecords {
    let config = aws_sdk_route53::Config::builder()
        .behavior_version(aws_sdk_route53::config::BehaviorVersion::latest())
        .build();
    DnsRecords {
        client: Client::from_conf(config),
        zone: "Z1".to_owned(),
        api_zone: None,
        ttl: 5,
    }
}
