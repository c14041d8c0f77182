//! Record moves: what is changed, and what is left.

use super::*;

const NAME: &str = "db.example.com";

#[test]
fn what_somebody_else_has_moved_meanwhile_is_read_again() {
    for passes in [
        "InvalidChangeBatch",
        "PriorRequestNotComplete",
        "Throttling",
        "ThrottlingException",
        "ServiceUnavailable",
    ] {
        assert!(!is_final(passes), "{passes}");
    }
    assert!(is_final("AccessDenied") && is_final("NoSuchHostedZone"));
}

#[test]
fn record_at_the_right_place_under_this_epoch_or_a_later_one_then_it_stands() {
    for found in [8, 9] {
        let moved = changes("10.0.0.3", Some(("10.0.0.3", found)));
        assert!(matches!(moved, Ok(RecordChange::Already)), "{moved:?}");
    }
}

#[test]
fn record_elsewhere_under_a_later_epoch_then_it_is_left() {
    let moved = changes("10.0.0.3", Some(("10.0.0.2", 9)));
    assert!(matches!(
        moved,
        Err(RecordMoveError::Later { found, .. }) if found == Epoch::new(9)
    ));
}

#[test]
fn move_deletes_exactly_the_epoch_that_was_read() {
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

#[test]
fn alias_where_an_address_is_to_stand_then_it_is_deleted_with_it() {
    let records = records();
    let alias = records.record(NAME, "other.example.com").unwrap();
    let Ok(RecordChange::Batch(changes)) =
        records.changes(NAME, "10.0.0.3", Epoch::new(8), &[alias], &[])
    else {
        panic!("no batch");
    };
    let actions: Vec<_> = changes.iter().map(|change| change.action.as_str()).collect();
    assert_eq!(actions, ["DELETE", "CREATE", "UPSERT"]);
}

/// Returns what moves the record to `target` at epoch 8, from where it stands.
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

/// Returns records that nothing is asked of.
fn records() -> DnsRecords {
    let config = aws_sdk_route53::Config::builder()
        .behavior_version(aws_sdk_route53::config::BehaviorVersion::latest())
        .build();
    DnsRecords {
        client: Client::from_conf(config),
        zone: "Z1".to_owned(),
        elsewhere: None,
        ttl: 5,
    }
}
