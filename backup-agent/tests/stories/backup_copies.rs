//! In which buckets a backup is: what was expired in one stays away from it.

use std::fs;

use crate::agent::World;
use crate::postgres::Server;
use crate::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn backup_expired_in_one_bucket_then_it_stays_away() {
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
    assert!(filled.out.contains("left out as expired"), "{filled:?}");
    assert!(held(&world.far).is_empty(), "{filled:?}");

    world.run(&["wal", "backfill", "--all"]).await.ok();
    assert_eq!(held(&world.far).len(), held(&world.near).len());
}
