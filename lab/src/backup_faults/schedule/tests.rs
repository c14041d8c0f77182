//! Schedules: reproducible from their seeds, and with every step and target.

use std::collections::BTreeSet;

use super::*;

#[test]
fn same_seed_then_same_history() {
    for seed in 0..200 {
        assert_eq!(BackupSchedule::of(seed), BackupSchedule::of(seed));
    }
    let distinct: BTreeSet<_> = (0..200)
        .map(|seed| BackupSchedule::of(seed).to_string())
        .collect();
    assert_eq!(distinct.len(), 200);
}

#[test]
fn many_seeds_then_every_step_and_every_target() {
    let histories: Vec<String> = (0..400)
        .map(|history| BackupSchedule::of(history).to_string())
        .collect();
    let all = histories.join("\n");
    for text in [
        "roll a row back",
        "create a restore point",
        "base backup, killed",
        "kill the server, and promote it past 2 reserved",
        "promote two servers out of one segment",
        "kill PostgreSQL",
        "kill the archiving",
        "near loses everything",
        "backfill",
        "damage a Segment in both",
        "delete a Segment in far",
        "restore to End",
        "restore to Time",
        "restore to Lsn",
        "restore to Xid",
        "restore to Name",
        "from near",
        "and run again",
        "pausing",
        "SlowDown",
        "InternalError",
        "RequestTimeout",
        "ExpiredToken",
        "ClockSkew",
        "LateAnswer",
        "LateWrite",
        "SlowBody",
        "CutBody",
        "LostAnswer",
        "ErrorIn200 ",
        "ErrorIn200AfterEffect",
        "StaleList",
        "Refused",
        "Unresponsive",
        "requests a second",
    ] {
        assert!(all.contains(text), "no history has `{text}`");
    }
}
