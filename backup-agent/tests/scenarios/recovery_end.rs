//! `wal fetch` reports a file as absent only if it is; with `--recovery`, every other error stops
//! PostgreSQL.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::agent::{Run, World, give_to_postgres};
use crate::faults::Fault;
use crate::wal::{host, object, segment, segment_of};

const THIRD: &str = "000000010000000000000003";

#[tokio::test(flavor = "multi_thread")]
async fn absent_near_and_late_far_then_fetched() {
    let world = pushed(&[3]).await;
    fs::remove_file(object(&world, &world.near.objects(), THIRD)).unwrap();
    let late = Fault::Delay(Duration::from_secs(2));
    for (fault, mode) in [
        (late, None),
        (late, Some("--recovery")),
        (Fault::SlowBody(400), None),
        (Fault::SlowBody(400), Some("--recovery")),
    ] {
        world.far.faults.add("GET", THIRD, 1, fault);
        let fetched = fetch(&world, THIRD, mode).await;
        assert_eq!(fetched.code, Some(0), "{fault:?} {mode:?}: {fetched:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_holder_fails_once_then_fetched_every_time() {
    let world = pushed(&[3]).await;
    fs::remove_file(object(&world, &world.far.objects(), THIRD)).unwrap();
    for mode in [None, Some("--recovery")] {
        world
            .near
            .faults
            .add("GET", THIRD, 1, Fault::Error(503, "SlowDown"));
        for _ in 0..2 {
            fetch(&world, THIRD, mode).await.ok();
        }
    }
}

/// A file that only a recently unavailable bucket has is not absent.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_recently_away_then_still_queried() {
    let mut world = pushed(&[3]).await;
    fs::remove_file(object(&world, &world.far.objects(), THIRD)).unwrap();
    for (mode, code) in [(None, 14), (Some("--recovery"), 255)] {
        world.near.stop().await;
        fetch(&world, THIRD, mode).await.fails_with(code, "`near`");
        world.near.come_back().await;
        assert!(Path::new(&world.path("state/down/near")).exists());
        fetch(&world, THIRD, mode).await.ok();
    }
}

/// Each response has half of the remaining bytes.
#[tokio::test(flavor = "multi_thread")]
async fn body_cut_repeatedly_then_read_to_its_end() {
    let world = host().await;
    let path = segment_of(&world, 1, 3, 16 << 20);
    world.run(&["wal", "push", &path]).await.ok();
    let far = &world.far.faults;
    far.add("GET", THIRD, 1000, Fault::Error(503, "SlowDown"));
    for mode in [None, Some("--recovery")] {
        world.near.faults.add("GET", THIRD, 5, Fault::CutBody);
        fetch(&world, THIRD, mode).await.ok();
    }
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    assert!(fs::read(&fetched).unwrap() == fs::read(&path).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_archive_then_one_and_gap_then_recovery_stopped() {
    let world = pushed(&[1, 2, 3]).await;
    for absent in ["000000010000000000000004", "000000020000000000000003"] {
        let end = fetch(&world, absent, Some("--recovery")).await;
        end.fails_with(1, "is not in the archive");
    }
    for file in ["00000002.history", "000000010000000000000004.partial"] {
        let end = fetch(&world, file, Some("--recovery")).await;
        end.fails_with(1, "is not in the archive");
    }

    let second = "000000010000000000000002";
    for store in [&world.near, &world.far] {
        fs::remove_file(object(&world, &store.objects(), second)).unwrap();
    }
    let gap = fetch(&world, second, Some("--recovery")).await;
    gap.fails_with(255, "the WAL has a gap");
    fetch(&world, second, None).await.fails_with(1, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_branched_off_later_then_recovery_stopped() {
    let world = pushed(&[1]).await;
    let history = world.path("data/pg_wal/00000003.history");
    fs::write(&history, "1\t0/480000\tno recovery target specified\n").unwrap();
    give_to_postgres(history.as_ref());
    world.run(&["wal", "push", &history]).await.ok();

    let gap = fetch(&world, THIRD, Some("--recovery")).await;
    gap.fails_with(255, "branched off after it");
    // The segment of the branch is a copy on the new timeline, which was not archived yet.
    for at_the_branch in ["000000010000000000000004", "000000030000000000000004"] {
        let end = fetch(&world, at_the_branch, Some("--recovery")).await;
        end.fails_with(1, "is not in the archive");
    }
    // 2 was reserved and never written; 4 may follow.
    fetch(&world, "00000002.history", Some("--recovery"))
        .await
        .ok();
    let end = fetch(&world, "00000004.history", Some("--recovery")).await;
    end.fails_with(1, "is not in the archive");
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_not_answering_then_recovery_stopped() {
    let mut world = pushed(&[3]).await;
    for (store, part) in [(&world.near, "list-type"), (&world.far, "/wal/")] {
        store
            .faults
            .add("GET", part, 1000, Fault::Error(503, "SlowDown"));
        for absent in ["000000010000000000000004", "00000002.history"] {
            if part == "/wal/" && absent.ends_with("history") {
                continue;
            }
            let asked = fetch(&world, absent, Some("--recovery")).await;
            asked.fails_with(255, "recovery stopped");
        }
        store.faults.clear();
    }
    world.far.stop().await;
    let absent = fetch(&world, "000000010000000000000004", Some("--recovery")).await;
    let absent = absent.fails_with(255, "start PostgreSQL again");
    assert!(absent.stderr.contains("`far`"), "{absent:?}");
    // A standby retries, and must not be stopped.
    fetch(&world, "000000010000000000000004", None)
        .await
        .fails_with(14, "only 1 responded");
    fetch(&world, THIRD, Some("--recovery")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_in_one_bucket_then_other_and_in_both_then_stopped() {
    let world = pushed(&[3]).await;
    let near = object(&world, &world.near.objects(), THIRD);
    let far = object(&world, &world.far.objects(), THIRD);
    let mut damaged = fs::read(&near).unwrap();
    let place = damaged.len() - 20;
    damaged[place] ^= 1;
    fs::write(&near, &damaged).unwrap();
    fetch(&world, THIRD, Some("--recovery")).await.ok();

    fs::write(&far, &damaged).unwrap();
    let stopped = fetch(&world, THIRD, Some("--recovery")).await;
    stopped.fails_with(255, "was altered");
    // The other bucket's 404 must not hide the damage either.
    fs::remove_file(&far).unwrap();
    let stopped = fetch(&world, THIRD, Some("--recovery")).await;
    stopped.fails_with(255, "was altered");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_not_usable_then_recovery_stopped() {
    let world = pushed(&[3]).await;
    let nowhere = world.path("nowhere/RECOVERYXLOG");
    for (args, expected) in [
        (
            vec!["wal", "fetch", "--recovery", THIRD, &nowhere],
            "nowhere",
        ),
        (
            vec!["wal", "fetch", "--recovery", "--unknown", THIRD, &nowhere],
            "--unknown",
        ),
        (
            vec!["wal", "fetch", "--recovery", "no-wal-file", &nowhere],
            "no-wal-file",
        ),
        (
            vec!["wal", "fetch", "--recovery", "--from=x", THIRD, &nowhere],
            "neither a bucket",
        ),
    ] {
        world.run(&args).await.fails_with(255, expected);
    }
    let identity = world.path("identity.txt");
    fs::set_permissions(&identity, Permissions::from_mode(0o000)).unwrap();
    let unreadable = fetch(&world, THIRD, Some("--recovery")).await;
    unreadable.fails_with(255, "identity");
    fs::set_permissions(&identity, Permissions::from_mode(0o644)).unwrap();
    world.configure(|settings| settings.replace("cluster =", "clutser ="));
    let unusable = fetch(&world, THIRD, Some("--recovery")).await;
    unusable.fails_with(255, "clutser");
    world.configure(str::to_owned);
    fs::remove_file(world.path("data/global/pg_control")).unwrap();
    let no_control_file = fetch(&world, THIRD, Some("--recovery")).await;
    no_control_file.fails_with(255, "pg_control");
    let help = world.run(&["wal", "fetch", "--recovery", "--help"]).await;
    help.ok();
}

async fn fetch(world: &World, name: &str, mode: Option<&str>) -> Run {
    let path = world.path("data/pg_wal/RECOVERYXLOG");
    let mut args = vec!["wal", "fetch"];
    args.extend(mode);
    if mode.is_some() {
        args.push("--retry-timeout-secs=1");
    }
    args.extend([name, &path]);
    world.run(&args).await
}

/// Returns a host whose segments of timeline 1 with these numbers are in both buckets.
async fn pushed(numbers: &[u64]) -> World {
    let world = host().await;
    for number in numbers {
        let path = segment(&world, 1, *number, b"rows");
        world.run(&["wal", "push", &path]).await.ok();
        fs::remove_file(path).unwrap();
    }
    world
}

/// The settings were changed, or lead to another S3 service with buckets of the same names.
#[tokio::test(flavor = "multi_thread")]
async fn archive_of_another_cluster_then_recovery_stopped() {
    let world = host().await;
    let path = segment(&world, 1, 1, b"rows");
    world.run(&["wal", "push", &path]).await.ok();
    world.configure(|settings| settings.replace("cluster = \"main\"", "cluster = \"other\""));

    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let fetch = [
        "wal",
        "fetch",
        "--recovery",
        "000000010000000000000002",
        &fetched,
    ];
    let refused = world.run(&fetch).await;
    refused.fails_with(255, "no bucket has an object below `other/");
}

/// The endpoint leads to a stale replica, or the objects that `restore` found were removed.
#[tokio::test(flavor = "multi_thread")]
async fn known_end_of_wal_gone_then_recovery_stopped() {
    let world = host().await;
    for number in 1..=2 {
        let path = segment(&world, 1, number, b"rows");
        world.run(&["wal", "push", &path]).await.ok();
    }
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let fetch = async |known_end: &str, name: &str| {
        let target = [
            "--recovery",
            "--target-timeline=1",
            "--known-end",
            known_end,
        ];
        let fetch = [&["wal", "fetch"], &target[..], &[name, &fetched]].concat();
        world.run(&fetch).await
    };
    let name = |number: u32| format!("0000000100000000{number:08X}");

    fetch(&name(2), &name(3))
        .await
        .fails_with(1, "is not in the archive");
    for known_end in [3, 5] {
        let refused = fetch(&name(known_end), &name(3)).await;
        refused.fails_with(255, "was lost from every bucket");
    }
    fetch(&name(5), &name(2)).await.ok();
}

/// The copy's log is on a full disk.
#[tokio::test(flavor = "multi_thread")]
async fn standard_error_not_writable_then_recovery_stopped() {
    let mut world = host().await;
    world.near.stop().await;
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    for args in [
        &[
            "wal",
            "fetch",
            "--recovery",
            "--retry-timeout-secs=0",
            THIRD,
            &fetched,
        ][..],
        &["wal", "fetch", "--recovery", "--no-such-flag"],
    ] {
        let mut command = world.command(args);
        command.stderr(fs::File::options().write(true).open("/dev/full").unwrap());
        let status = command.status().await.unwrap();
        assert_eq!(status.code(), Some(255), "{args:?}");
    }
}
