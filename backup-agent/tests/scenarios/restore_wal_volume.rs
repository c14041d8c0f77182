//! Restore into a data directory whose `pg_wal` is on a volume of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::agent::{World, give_to_postgres};
use crate::faults::Fault;
use crate::postgres::Server;

#[tokio::test(flavor = "multi_thread")]
async fn target_with_linked_wal_then_restored_through_the_link() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.sql("CREATE TABLE kept AS SELECT 7 AS n").await;
    server.archive_all().await;
    server.stop();
    let (copy, wal) = (world.path("copy"), world.path("wal"));
    for directory in [&copy, &wal] {
        fs::create_dir(directory).unwrap();
        give_to_postgres(Path::new(directory));
    }
    let link = Path::new(&copy).join("pg_wal");
    symlink(&wal, &link).unwrap();
    let restore = ["restore", "--target-directory", &copy];

    let left = Path::new(&wal).join("left");
    fs::write(&left, "of another server").unwrap();
    let says = "which is not empty: empty it first";
    world.run(&restore).await.fails_with(24, says);
    assert!(left.exists());
    fs::remove_file(left).unwrap();
    fs::create_dir(Path::new(&wal).join("lost+found")).unwrap();
    let says = "is the root of a file system";
    world.run(&restore).await.fails_with(24, says);
    fs::remove_dir(Path::new(&wal).join("lost+found")).unwrap();

    world.run(&restore).await.ok();
    let copy = Server::start(&world, Path::new(&copy), 5433).await;
    assert_eq!(copy.sql("SELECT n FROM kept").await, "7");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(&wal));
    let segments = fs::read_dir(&wal).unwrap().count();
    assert!(segments > 1, "the WAL is elsewhere");
    copy.stop();
}

/// Segments on two volumes would be a server with half of its WAL.
#[tokio::test(flavor = "multi_thread")]
async fn link_of_wal_changed_between_runs_then_resumed_only_with_the_first() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept AS SELECT 7 AS n").await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();
    let (copy, wal, other) = (world.path("copy"), world.path("wal"), world.path("other"));
    for directory in [&copy, &wal, &other] {
        fs::create_dir(directory).unwrap();
        give_to_postgres(Path::new(directory));
    }
    let link = Path::new(&copy).join("pg_wal");
    symlink(&wal, &link).unwrap();
    let restore = [
        "restore",
        "--target-directory",
        &copy,
        "--retry-timeout-secs=0",
    ];
    for store in [&world.near, &world.far] {
        let away = Fault::Error(503, "SlowDown");
        store.faults.add("GET", "/pack/", 1000, away);
    }
    let resumes = "the same command resumes it";
    world.run(&restore).await.fails_with(14, resumes);
    for store in [&world.near, &world.far] {
        store.faults.clear();
    }

    let remedy = format!("link it there again (`ln -sfnT {wal} {}`)", link.display());
    fs::remove_file(&link).unwrap();
    world.run(&restore).await.fails_with(24, &remedy);
    assert!(!link.exists(), "nothing takes the place of the link");
    symlink(&other, &link).unwrap();
    world.run(&restore).await.fails_with(24, &remedy);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);

    fs::remove_file(&link).unwrap();
    symlink(&wal, &link).unwrap();
    world.run(&restore).await.ok();
    let copy = Server::start(&world, Path::new(&copy), 5433).await;
    assert_eq!(copy.sql("SELECT n FROM kept").await, "7");
    copy.stop();
}
