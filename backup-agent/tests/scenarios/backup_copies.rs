//! Copies of backups: copied in parallel with WAL, and not to a bucket in which they have expired.

use std::fs;
use std::time::Duration;

use crate::agent::{World, wait_for};
use crate::faults::Fault;
use crate::postgres::Server;
use crate::store::Store;

/// A process that copies a backup for hours also copies objects that are recorded meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn wal_missed_during_backup_copy_then_copied_in_parallel() {
    let (world, server) = copying_for_hours().await;
    let wal = |store: &Store| -> Vec<String> {
        let keys = store.keys().into_iter();
        keys.filter(|key| key.contains("/wal/")).collect()
    };
    wait_for("what was noted before", async || {
        (wal(&world.far) == wal(&world.near)).then_some(())
    })
    .await;

    let refused = Fault::Error(403, "AccessDenied");
    world.far.faults.add("PUT", "/wal/", 1, refused);
    server.archive_all().await;
    wait_for("the segment that the far bucket refused", async || {
        (wal(&world.far) == wal(&world.near)).then_some(())
    })
    .await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_expired_in_one_bucket_then_not_copied_back() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    world.run(&["backup"]).await.ok();
    server.stop();
    let listed = world.run(&["list", "--json"]).await.ok().json();
    let oldest = listed["backups"][0]["id"].as_str().unwrap().to_owned();
    let held = |store: &Store| -> Vec<(String, std::path::PathBuf)> {
        let objects = store.objects().into_iter();
        objects.filter(|(key, _)| key.contains(&oldest)).collect()
    };
    for (_, path) in held(&world.far) {
        fs::remove_file(path).unwrap();
    }

    let filled = world.run(&["wal", "backfill"]).await.ok();
    assert!(filled.stdout.contains("omitted as expired"), "{filled:?}");
    assert!(held(&world.far).is_empty(), "{filled:?}");

    world.run(&["wal", "backfill", "--all"]).await.ok();
    assert_eq!(held(&world.far).len(), held(&world.near).len());
}

/// Returns a server whose second backup is missing in the far bucket, and takes longer than any
/// test to copy.
pub(crate) async fn copying_for_hours() -> (World, Server) {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    world.far.stop().await;
    world.run(&["backup"]).await.ok();
    // The copy is retried in the background, and begins once the bucket is back.
    let slow = Fault::Delay(Duration::from_hours(1));
    world.far.faults.add("PUT", "/pack/", 1000, slow);
    world.far.faults.add("POST", "/pack/", 1000, slow);
    world.far.come_back().await;
    let is_pack = |request: &String| request.contains("/pack/") && !request.starts_with("GET");
    wait_for("the copy of the backup", async || {
        // A push skips a recently unavailable bucket for 15 s.
        drop(fs::remove_file(world.path("state/down/far")));
        server.archive_all().await;
        let requests = world.far.faults.take_requests();
        requests.iter().any(is_pack).then_some(())
    })
    .await;
    (world, server)
}
