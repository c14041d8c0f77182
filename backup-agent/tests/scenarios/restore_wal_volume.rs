//! Restore into a data directory whose `pg_wal` is on a volume of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::agent::{World, give_to_postgres};
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
