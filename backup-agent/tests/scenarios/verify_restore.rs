//! A restore counts as verified once the restored database has answered.

use std::path::Path;

use crate::agent::World;
use crate::metrics::{value, write_metrics};
use crate::postgres::Server;

const VERIFIED: &str = "backup_restore_verified_timestamp_seconds";

#[tokio::test(flavor = "multi_thread")]
async fn restored_database_answers_then_recorded_once() {
    let world = World::new().await;
    write_metrics(&world);
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    let copy = world.path("copy");
    let socket = world.directory.path().to_str().unwrap().to_owned();
    let verify = [
        "verify-restore",
        "--target-directory",
        &copy,
        "--socket-directory",
        &socket,
    ];
    let there = [&verify[..], &["--port", "5433"]].concat();
    let nothing = "is not the last restore on this host";
    world.run(&there).await.fails_with(24, nothing);

    world
        .run(&["restore", "--target-directory", &copy])
        .await
        .ok();
    world.run(&there).await.fails_with(13, "");
    // The original answers, and is not the copy.
    world
        .run(&verify)
        .await
        .fails_with(12, "no server runs there");
    assert_eq!(value(&world, VERIFIED), Some(0));

    let restored = Server::start(&world, Path::new(&copy), 5433).await;
    let before = [&there[..], &["--answered-at", "1"]].concat();
    world
        .run(&before)
        .await
        .fails_with(24, "must be a time from then to now");
    let verified = world.run(&there).await.ok();
    assert!(
        verified.stdout.contains("restore verified: "),
        "{verified:?}"
    );
    assert!(value(&world, VERIFIED).unwrap() > 0);
    assert!(value(&world, "backup_restore_drill_duration_seconds").is_some());
    world
        .run(&there)
        .await
        .fails_with(24, "or is verified already");
    restored.stop();
    server.stop();
}

/// Recovery may still fail.
#[tokio::test(flavor = "multi_thread")]
async fn database_in_recovery_then_not_verified() {
    let world = World::new().await;
    write_metrics(&world);
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();
    let copy = world.path("copy");
    let restore = ["restore", "--standby", "--target-directory", &copy];
    world.run(&restore).await.ok();
    let restored = Server::start_standby(&world, Path::new(&copy), 5433).await;
    let socket = world.directory.path().to_str().unwrap().to_owned();
    let there = ["--port", "5433", "--socket-directory", &socket];
    let verify = [&["verify-restore", "--target-directory", &copy][..], &there].concat();
    world
        .run(&verify)
        .await
        .fails_with(24, "is still in recovery");
    assert_eq!(value(&world, VERIFIED), Some(0));
    restored.stop();
}
