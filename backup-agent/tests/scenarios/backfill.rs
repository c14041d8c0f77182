//! Objects that a bucket lacks are copied to it, and objects that have expired in it are not.

use std::fs;

use crate::agent::{World, wait_for};
use crate::backup_copies::copying_for_hours;
use crate::postgres::Server;
use crate::store::Store;
use crate::wal::{host, object, segment};

#[tokio::test(flavor = "multi_thread")]
async fn hole_and_end_missing_then_copied_and_expired_not() {
    let world = pushed(8).await;
    for number in [1, 2, 5, 8] {
        remove(&world, &world.far, number);
    }
    world.run(&["wal", "backfill"]).await.ok();
    let held = |store: &Store| -> Vec<String> {
        let keys = store.keys();
        let last = keys
            .iter()
            .filter_map(|key| Some(key.get(key.len() - 1..)?.to_owned()));
        last.collect()
    };
    assert_eq!(held(&world.far).concat(), "345678");

    world.run(&["wal", "backfill", "--all"]).await.ok();
    assert_eq!(world.near.keys(), world.far.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_bucket_then_filled_only_when_asked() {
    let world = pushed(2).await;
    for number in [1, 2] {
        remove(&world, &world.far, number);
    }
    world.run(&["wal", "backfill"]).await.ok();
    assert!(world.far.keys().is_empty());
    world.run(&["wal", "backfill", "--all"]).await.ok();
    assert_eq!(world.near.keys(), world.far.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_unreadable_then_backfill_and_list_refused() {
    let world = pushed(1).await;
    remove(&world, &world.far, 1);
    world.configure(|settings| settings.replace("identity.txt", "missing.txt"));
    let refused = world.run(&["wal", "backfill"]).await;
    refused.fails_with(11, "missing.txt");
    assert!(world.far.keys().is_empty(), "copied without the identity");

    let refused = world.run(&["list"]).await;
    refused.fails_with(11, "missing.txt");
}

/// Copying needs no identity, and no operator would see the error of a background process.
#[tokio::test(flavor = "multi_thread")]
async fn identity_unreadable_then_background_backfill_copies() {
    let mut world = host().await;
    world.configure(|settings| settings.replace("identity.txt", "missing.txt"));
    world.far.stop().await;
    let path = segment(&world, 1, 1, b"rows");
    world.run(&["wal", "push", &path]).await.ok();
    world.far.come_back().await;
    wait_for("the segment in the far bucket", async || {
        (world.far.keys().len() == 1).then_some(())
    })
    .await;
    let log = fs::read_to_string(world.path("state/backfill.log")).unwrap();
    assert!(log.contains("identity unreadable"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_source_then_not_copied_and_reported() {
    let world = pushed(3).await;
    remove(&world, &world.far, 2);
    let near = object(&world, &world.near.objects(), &name(2));
    let sound = fs::read(&near).unwrap();
    for damaged in [&sound[..sound.len() - 30], &sound[..200], b"garbage"] {
        fs::write(&near, damaged).unwrap();
        let refused = world.run(&["wal", "backfill"]).await;
        refused.fails_with(27, "far");
        assert_eq!(world.far.keys().len(), 2);
    }
    fs::write(&near, &sound).unwrap();
    world.run(&["wal", "backfill"]).await.ok();
    assert_eq!(world.near.keys(), world.far.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_missing_in_a_bucket_then_copied_there() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept AS SELECT 1 AS n").await;
    world.run(&["backup"]).await.ok();
    world.far.stop().await;
    world.run(&["backup"]).await.ok();
    world.far.come_back().await;

    // A backup of hours and its WAL are copied beside each other.
    wait_for("the backup and its WAL in the far bucket", async || {
        (world.far.keys() == world.near.keys()).then_some(())
    })
    .await;
    let listed = world.run(&["list", "--json"]).await.ok().json();
    let backups = listed["backups"].as_array().unwrap().clone();
    let both = |backup: &serde_json::Value| backup["buckets"].as_array().unwrap().len() == 2;
    assert!(backups.len() == 2 && backups.iter().all(both), "{listed}");
    server.stop();
    world.near.stop().await;
    let directory = world.path("restored");
    world
        .run(&["restore", "--from=far", "--target-directory", &directory])
        .await
        .ok();
}

/// The process that fills a bucket has begun with WAL when the backup is recorded, and no later
/// push would start another.
#[tokio::test(flavor = "multi_thread")]
async fn backup_noted_during_wal_copy_then_also_copied() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    // Only the records count: no comparison finds missing objects.
    let compared = fs::File::create(world.path("state/compare.lock")).unwrap();
    compared.lock().unwrap();
    world.far.stop().await;
    world.run(&["backup"]).await.ok();
    server.stop();
    world.far.come_back().await;

    wait_for("the backup in the far bucket", async || {
        let keys = world.far.keys();
        let manifests = keys.iter().filter(|key| key.ends_with("/manifest"));
        (manifests.count() == 2).then_some(())
    })
    .await;
}

/// A backup of a terabyte takes hours to copy.
#[tokio::test(flavor = "multi_thread")]
async fn backup_copied_slowly_then_wal_not_delayed() {
    let (world, server) = copying_for_hours().await;
    server.archive_all().await;
    let of = |store: &Store| store.keys().into_iter().rfind(|key| key.contains("/wal/"));
    let newest = of(&world.near);
    wait_for("the newest segment in the far bucket", async || {
        (of(&world.far) == newest).then_some(())
    })
    .await;
    let manifests = |store: &Store| {
        store
            .keys()
            .iter()
            .filter(|key| key.ends_with("/manifest"))
            .count()
    };
    assert_eq!((manifests(&world.near), manifests(&world.far)), (2, 1));
    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    assert!(
        checked.stdout.contains("bucket `far` lacks the newest, "),
        "{checked:?}"
    );
    server.stop();
}

/// The second bucket was emptied, or its name in the settings is another one's.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_emptied_then_named_until_it_is_filled() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();
    for (_, path) in world.far.objects() {
        fs::remove_file(path).unwrap();
    }

    let refused = world.run(&["wal", "backfill"]).await;
    refused.fails_with(27, "`wal backfill --all` copies everything");
    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    let named = "FAILED backups in every bucket: bucket `far` has none";
    assert!(checked.stdout.contains(named), "{checked:?}");
    world.run(&["wal", "backfill", "--all"]).await.ok();
    let stored = |store: &Store| -> Vec<String> {
        let keys = store.keys().into_iter();
        keys.filter(|key| !key.ends_with("write-check")).collect()
    };
    assert_eq!(stored(&world.near), stored(&world.far));
}

/// Anyone with write access to a bucket can create an object under the key of a future segment.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_object_in_one_bucket_then_reported_and_wal_archived() {
    let world = pushed(1).await;
    let first = object(&world, &world.far.objects(), &name(1));
    for (number, content) in [(2, &b"x"[..]), (3, b"")] {
        fs::write(first.with_file_name(name(number)), content.repeat(5000)).unwrap();
        let path = segment(&world, 1, number, b"rows");
        world.run(&["wal", "push", &path]).await.ok();
        object(&world, &world.near.objects(), &name(number));
    }

    let refused = world.run(&["wal", "backfill"]).await;
    refused.fails_with(27, "`far`");
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    for number in [2, 3] {
        let fetch = ["wal", "fetch", "--recovery", &name(number), &fetched];
        world.run(&fetch).await.ok();
    }
}

fn name(number: u64) -> String {
    format!("0000000100000000{number:08X}")
}

fn remove(world: &World, store: &Store, number: u64) {
    fs::remove_file(object(world, &store.objects(), &name(number))).unwrap();
}

async fn pushed(numbers: u64) -> World {
    let world = host().await;
    for number in 1..=numbers {
        let path = segment(&world, 1, number, b"rows");
        world.run(&["wal", "push", &path]).await.ok();
    }
    world
}
