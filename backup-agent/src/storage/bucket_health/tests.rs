//! Tests of the records about buckets.

use proptest::prelude::*;

use super::*;
use crate::damage::damaged;

fn recorded(names: &[&str]) -> Vec<RecordedBucket> {
    let recorded = names.iter().map(|name| RecordedBucket {
        name: (*name).to_owned(),
        region: format!("region-of-{name}"),
    });
    recorded.collect()
}

#[test]
fn noted_then_kept_until_filled() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = directory.path().join("backup.prom");
    let health = BucketHealth::new(
        &directory.path().join("state"),
        Some(&metrics),
        recorded(&["a", "b"]),
    );
    assert!(!health.is_avoided("a") && !health.has_missing("a"));

    health.record_no_response("a");
    health.record_missing("a", "main/1/wal/2");
    health.record_missing("a", "main/1/wal/1");
    health.record_missing("a", "main/1/wal/1");
    health.stored("b", StoredKind::Wal);
    assert!(health.is_avoided("a") && !health.is_avoided("b"));
    assert_eq!(
        health.notes("a", NotedKind::Wal, 9, &BTreeSet::new()),
        ["main/1/wal/1", "main/1/wal/2"]
    );
    let report = health.report();
    assert_eq!(report.buckets["a"].lacking_files, 2);
    assert!(report.buckets["a"].lacking_since.is_some());
    assert!(report.buckets["b"].last_wal_stored_at.is_some());
    let text = fs::read_to_string(&metrics).unwrap();
    assert!(
        text.contains("backup_bucket_lacking_files{bucket=\"a\"} 2"),
        "{text}"
    );

    health.record_response("a");
    health.filled("a", "main/1/wal/1");
    health.filled("a", "main/1/wal/2");
    assert!(!health.is_avoided("a") && !health.has_missing("a"));
    assert_eq!(health.report().buckets["a"], BucketRecord::default());
}

/// Objects that may be missing must not be counted as filled.
#[test]
fn records_unreadable_then_bucket_not_complete() {
    let directory = tempfile::tempdir().unwrap();
    let health = BucketHealth::new(directory.path(), None, recorded(&["a"]));
    health.record_missing("a", "main/1/wal/1");
    let records = health.lacking("a");
    fs::remove_dir_all(&records).unwrap();
    std::os::unix::fs::symlink(&records, &records).unwrap();

    health.filled("a", "main/1/wal/2");

    assert!(health.has_missing("a"));
    assert_eq!(health.report().buckets["a"].lacking_files, 1);
}

proptest! {
    #[test]
    fn damaged_health_report_then_no_panic(
        text in damaged(br#"{"buckets":{"a":{"lacking-files":2,"lacking-since":1700000000,"last-wal-stored-at":null,"last-base-stored-at":null}},"known-gaps":["000000010000000000000001"]}"#),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let health = BucketHealth::new(directory.path(), None, recorded(&["a"]));
        fs::write(health.report_path(), text).unwrap();
        health.filled("a", "main/1/wal/1");
        health.close_gap("000000010000000000000001");
        prop_assert!(!health.report().known_gaps.contains("000000010000000000000001"));
    }
}

/// The next update would erase the known gaps.
#[test]
fn report_unreadable_then_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let health = BucketHealth::new(directory.path(), None, recorded(&["a"]));
    let report = health.report_path();
    std::os::unix::fs::symlink(&report, &report).unwrap();

    health.stored("a", StoredKind::Wal);

    assert!(fs::symlink_metadata(&report).unwrap().is_symlink());
}

/// A full or read-only disk loses the records and never fails the push.
#[test]
fn directory_not_writable_then_nothing_fails() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state");
    fs::write(&file, "").unwrap();
    let health = BucketHealth::new(&file, None, recorded(&["a"]));

    health.record_missing("a", "main/1/wal/1");
    health.stored("a", StoredKind::Wal);

    assert!(health.check().is_err() && !health.has_missing("a"));
}
