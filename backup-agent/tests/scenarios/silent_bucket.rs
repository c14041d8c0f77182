//! The content of an unresponsive bucket is unknown: no command reports it as checked.

use std::fs;
use std::time::Duration;

use crate::agent::World;
use crate::faults::Fault;
use crate::postgres::Server;
use crate::wal::{host, object, segment};

/// Checks of the objects in each bucket.
const STORED: [&str; 5] = [
    "manifests",
    "backups in every bucket",
    "packs of the newest backup",
    "WAL without a gap",
    "histories",
];

/// Time that a WAL command waits for a response unless something shortens it.
const ANSWER: Duration = Duration::from_secs(8);

/// Twice the time of a response to a first small call, and of the work beside it. The transfer of
/// this backup could take another 40 s.
const FIRST_ANSWER_OF_AN_UPLOAD: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn bucket_away_then_no_check_of_stored_objects_passes() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    world.far.stop().await;

    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    for name in STORED {
        let line = checked.stdout.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("no check of {name}: {checked:?}"));
        assert!(
            line.starts_with("FAILED") && line.contains("`far`"),
            "{checked:?}"
        );
    }
    server.stop();
}

/// A segment that only the unresponsive bucket has is no gap, and is not ignored either.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_away_at_a_backup_then_older_wal_not_compared() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    let mut keys = world.near.keys();
    keys.retain(|key| key.contains("/wal/") && !key.ends_with(".backup"));
    let last = keys.pop().unwrap();
    server.archive_all().await;
    fs::remove_file(object(&world, &world.near.objects(), &last)).unwrap();
    world.far.stop().await;

    let made = world.run(&["backup", "--json"]).await.ok().json();
    assert_eq!(made["wal-gaps"], serde_json::json!([]));
    assert_eq!(made["wal-not-compared"][0], "bucket `far` did not respond");
    let made = world.run(&["backup"]).await.ok();
    let named = "WAL of older backups NOT COMPARED: bucket `far` did not respond";
    assert!(made.stdout.contains(named), "{made:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_does_not_list_its_wal_then_list_names_it() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.stop();
    let refused = Fault::Error(403, "AccessDenied");
    world.far.faults.add("GET", "%2Fwal%2F", 1000, refused);

    let listed = world.run(&["list"]).await.ok();
    let named = "bucket `far` DID NOT RESPOND";
    assert!(listed.stdout.contains(named), "{listed:?}");
    let listed = world.run(&["list", "--json"]).await.ok().json();
    assert_eq!(listed["silent-buckets"], serde_json::json!(["far"]));
}

/// A bucket that accepts connections and does not respond is not given the time of a transfer.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_silent_at_a_backup_then_skipped_at_its_first_timeout() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    server.archive_all().await;
    world.far.fall_silent().await;
    server.archive_all().await;

    let made = world.run(&["backup"]).await.ok();
    assert!(made.stdout.contains("NOT stored in far"), "{made:?}");
    eprintln!("measured: {:?} with a silent bucket", made.took);
    assert!(made.took < FIRST_ANSWER_OF_AN_UPLOAD, "{made:?}");
    server.stop();
}

/// A standby retries, and its promotion requests several absent files.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_silent_and_file_absent_then_fetch_ends_early() {
    let mut world = host().await;
    let path = segment(&world, 1, 1, b"rows");
    world.run(&["wal", "push", &path]).await.ok();
    world.near.fall_silent().await;

    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let fetch = ["wal", "fetch", "000000010000000000000009", &fetched];
    let absent = world.run(&fetch).await.fails_with(14, "only 1 responded");
    assert!(absent.took < ANSWER, "{absent:?}");
}
