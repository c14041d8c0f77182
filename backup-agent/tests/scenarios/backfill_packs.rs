//! The packs of a backup are compared between the buckets, and missing ones are reported and
//! copied.

use std::fs;
use std::path::PathBuf;

use crate::agent::{World, wait_for};
use crate::postgres::Server;
use crate::store::Store;

/// More than two packs of 8 MiB, the size in the settings.
const INCOMPRESSIBLE_BYTES: usize = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn pack_missing_then_check_names_it_and_backfill_copies_it() {
    let (world, server) = backed_up().await;
    world.run(&["check"]).await.ok();
    let whole = contents(&world.near);
    for has_identity in [true, false] {
        world.configure(|settings| identity(settings, has_identity));
        remove(&world.far, "/pack/00000001");

        let checked = world.run(&["check"]).await.fails_with(22, "1 of");
        let named =
            "FAILED packs of the newest backup: bucket `far` lacks pack 00000001 of the newest";
        assert!(checked.stdout.contains(named), "{checked:?}");
        world.run(&["wal", "backfill"]).await.ok();
        assert!(contents(&world.far) == whole);
        world.run(&["check"]).await.ok();
    }

    // Each bucket has what the other lacks.
    remove(&world.near, "/pack/00000000");
    remove(&world.far, "/pack/00000002");
    world.run(&["wal", "backfill"]).await.ok();
    assert!(contents(&world.near) == whole && contents(&world.far) == whole);

    // After each backup the buckets are compared in the background.
    remove(&world.far, "/pack/00000001");
    world.run(&["backup"]).await.ok();
    wait_for("the missing pack", async || {
        let keys = world.far.keys();
        let packs = keys.iter().filter(|key| key.ends_with("/pack/00000001"));
        (packs.count() == 2).then_some(())
    })
    .await;
    server.stop();
}

/// An existing pack cannot be overwritten: the right one, and the removal of the other, are
/// reported.
#[tokio::test(flavor = "multi_thread")]
async fn pack_of_another_length_then_named_until_it_is_gone() {
    let (world, server) = backed_up().await;
    server.stop();
    let whole = contents(&world.near);
    for (has_identity, name, store) in [(false, "far", &world.far), (true, "near", &world.near)] {
        world.configure(|settings| identity(settings, has_identity));
        let (_, path) = object(store, "/pack/00000001");
        let sound = fs::read(&path).unwrap();
        fs::write(&path, &sound[..1000]).unwrap();

        let text = "/pack/00000001` has ";
        let refused = world.run(&["wal", "backfill"]).await.fails_with(27, text);
        let lengths = format!("1000 bytes in `{name}`");
        assert!(refused.stderr.contains(&lengths), "{refused:?}");
        let line = format!("{name}: 0 objects copied, 1 lacking");
        assert!(refused.stdout.contains(&line), "{refused:?}");
        let health = fs::read_to_string(world.path("state/health.json")).unwrap();
        assert!(health.contains("\"lacking-files\": 1"), "{health}");
        let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
        let named = format!("FAILED packs of the newest backup: bucket `{name}` has ");
        assert!(checked.stdout.contains(&named), "{checked:?}");

        fs::remove_file(path).unwrap();
        world.run(&["wal", "backfill"]).await.ok();
        assert!(contents(&world.near) == whole && contents(&world.far) == whole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pack_in_no_bucket_then_named_and_no_manifest_copied() {
    let (world, server) = backed_up().await;
    // The far bucket has this backup, and no object of the next one.
    world.run(&["backup"]).await.ok();
    server.stop();
    let listed = world.run(&["list", "--json"]).await.ok().json();
    let newest = listed["backups"][1]["id"].as_str().unwrap().to_owned();
    for (key, path) in world.far.objects() {
        if key.contains(&newest) {
            fs::remove_file(path).unwrap();
        }
    }
    remove(&world.near, &format!("{newest}/pack/00000001"));

    for has_identity in [true, false] {
        world.configure(|settings| identity(settings, has_identity));
        let refused = world.run(&["wal", "backfill"]).await;
        let refused = refused.fails_with(27, "no bucket has every pack below");
        for name in ["near", "far"] {
            let line = format!("{name}: 0 objects copied, 1 lacking");
            assert!(refused.stdout.contains(&line), "{refused:?}");
        }
        let is_of_newest = |key: &String| key.contains(&newest);
        assert!(!world.far.keys().iter().any(is_of_newest));
        let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
        let lacks = "FAILED packs of the newest backup: bucket `near` lacks pack 00000001";
        assert!(checked.stdout.contains(lacks), "{checked:?}");
        let nowhere = format!("pack 00000001 of backup {newest} is complete in no bucket");
        assert_eq!(
            checked.stdout.contains(&nowhere),
            has_identity,
            "{checked:?}"
        );
    }
}

/// Returns a world with a backup of three packs in both buckets.
async fn backed_up() -> (World, Server) {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let bytes: Vec<u8> = words.take(INCOMPRESSIBLE_BYTES / 8).flatten().collect();
    fs::write(world.path("data/incompressible"), bytes).unwrap();
    world.run(&["backup"]).await.ok();
    // The comparison after the backup has ended, and does not affect the test.
    wait_for("the comparison after the backup", async || {
        let lock = fs::File::open(world.path("state/compare.lock")).ok()?;
        let log = fs::read_to_string(world.path("state/backfill.log")).ok()?;
        (log.contains("buckets compared") && lock.try_lock().is_ok()).then_some(())
    })
    .await;
    (world, server)
}

fn identity(settings: &str, has_identity: bool) -> String {
    if has_identity {
        return settings.to_owned();
    }
    settings.replace("identity-file", "#identity-file")
}

fn object(store: &Store, end: &str) -> (String, PathBuf) {
    let objects = store.objects().into_iter();
    let mut found = objects.filter(|(key, _)| key.ends_with(end));
    found.next().unwrap()
}

fn remove(store: &Store, end: &str) {
    fs::remove_file(object(store, end).1).unwrap();
}

fn contents(store: &Store) -> Vec<(String, Vec<u8>)> {
    let objects = store.objects().into_iter();
    let backups = objects.filter(|(key, _)| key.contains("/backup/"));
    let read = backups.map(|(key, path)| (key, fs::read(path).unwrap()));
    read.collect()
}
