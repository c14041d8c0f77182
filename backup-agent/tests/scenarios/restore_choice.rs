//! Choice of the backup to restore: an object that a bucket did not return is not absent.

use std::fs;
use std::path::Path;

use crate::agent::World;
use crate::faults::Fault;
use crate::postgres::Server;

const FAILS: Fault = Fault::Error(503, "SlowDown");

/// The bucket responds to everything else: the objects that it did not list may be newer than the
/// other bucket's.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_fails_during_one_listing_then_refused() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();

    let directory = world.path("restored");
    let restore = ["restore", "--target-directory", &directory];
    for listed in ["%2Fbackup%2F", "%2Fhistory%2F", "%2Fwal%2F"] {
        world.near.faults.add("GET", listed, 1000, FAILS);
        let refused = world.run(&restore).await;
        assert_eq!(refused.code, Some(14), "{listed}: {refused:?}");
        assert!(refused.stderr.contains("`near`"), "{listed}: {refused:?}");
        assert!(!Path::new(&directory).exists(), "{listed}");
        world.near.faults.clear();
    }
    world.run(&restore).await.ok();
}

/// An older backup is not restored while the newest may become readable.
#[tokio::test(flavor = "multi_thread")]
async fn manifest_unreachable_then_not_skipped() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    world.run(&["backup"]).await.ok();
    server.stop();
    let ids = ids(&world).await;
    let newest = format!("{}/manifest", ids[1]);
    let directory = world.path("restored");
    let mut restore = vec!["restore", "--target-directory", &directory];
    for fault in [FAILS, Fault::Error(403, "AccessDenied")] {
        for store in [&world.near, &world.far] {
            store.faults.clear();
            store.faults.add("GET", &newest, 1000, fault);
        }
        let refused = world.run(&restore).await;
        refused.fails_with(14, &format!("backup `{}`", ids[1]));
        assert!(!Path::new(&directory).exists());
    }
    restore.extend(["--backup", &ids[0]]);
    world.run(&restore).await.ok();
}

/// A proxy's own error page must not pass for an empty archive.
#[tokio::test(flavor = "multi_thread")]
async fn no_manifest_readable_then_not_reported_as_empty() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.stop();
    for store in [&world.near, &world.far] {
        for (key, path) in store.objects() {
            if key.ends_with("/manifest") {
                fs::write(path, "<html>please log in</html>").unwrap();
            }
        }
    }

    let listed = world.run(&["list"]).await.fails_with(17, "cannot be read");
    assert!(listed.stdout.contains("UNREADABLE in near"), "{listed:?}");
    let restore = ["restore", "--target-directory", &world.path("restored")];
    let refused = world.run(&restore).await;
    refused.fails_with(17, "cannot be read");
}

/// Its header is valid, and so is the part that `list` shows.
#[tokio::test(flavor = "multi_thread")]
async fn manifest_damaged_inside_then_check_names_it() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    let ids = ids(&world).await;
    for store in [&world.near, &world.far] {
        let objects = store.objects();
        let manifest = objects.iter().find(|(key, _)| key.ends_with("/manifest"));
        let (_, path) = manifest.unwrap();
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() - 30;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    let checked = world.run(&["check"]).await.fails_with(22, "1 of");
    let named = format!("FAILED manifests: backup {}", ids[0]);
    assert!(checked.stdout.contains(&named), "{checked:?}");
    server.stop();
}

async fn ids(world: &World) -> Vec<String> {
    let listed = world.run(&["list", "--json"]).await.ok().json();
    let backups = listed["backups"].as_array().unwrap().iter();
    backups
        .map(|backup| backup["id"].as_str().unwrap().to_owned())
        .collect()
}
