//! A timeline number that was reserved and never written is between the archive's timelines.

use std::fs;
use std::path::Path;

use crate::agent::{World, give_to_postgres, wait_for};
use crate::postgres::Server;

/// Text that the agent writes for a number that was reserved and never used
/// (`failover-ctl/src/data_directory/timeline_history.rs`).
const RESERVED: &str = "# Reserved by failover-ctl: this timeline was never written.\n";

#[tokio::test(flavor = "multi_thread")]
async fn reserved_number_then_restore_reaches_newest_timeline() {
    let (world, server) = across_a_reserved_number().await;

    let directory = world.path("restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .ok();
    let settings = fs::read_to_string(world.path("restored/postgresql.auto.conf")).unwrap();
    assert!(
        settings.contains("recovery_target_timeline = '3'"),
        "{settings}"
    );
    let restored = Server::start(&world, Path::new(&directory), 5433).await;
    assert_eq!(restored.sql(ROWS).await, "on 1,on 3", "{}", restored.log());
    // The restored server begins the number after the newest, and not the reserved one.
    let began = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    assert_eq!(restored.sql(began).await, "00000004");
    restored.stop();
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_number_and_lost_region_then_standby_catches_up() {
    let (mut world, server) = across_a_reserved_number().await;
    server.stop();
    // The region of the old primary is lost, with its bucket.
    world.near.stop().await;

    let directory = world.path("standby");
    let restore = ["restore", "--standby", "--target-directory", &directory];
    let refused = world.run(&restore).await;
    refused.fails_with(14, "read only from another bucket with `--from`");
    let from = ["--from", "eu-central-1"];
    world.run(&[&restore[..], &from].concat()).await.ok();
    let standby = Server::start_standby(&world, Path::new(&directory), 5433).await;
    wait_for("the rows of timeline 3", async || {
        (standby.sql(ROWS).await == "on 1,on 3").then_some(())
    })
    .await;
    standby.stop();
}

const ROWS: &str = "SELECT string_agg(t, ',' ORDER BY t) FROM kept";

/// Returns a server whose first timeline was followed by the third: its backup is on 1, and its
/// archive has no history of 2.
async fn across_a_reserved_number() -> (World, Server) {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept (t text)").await;
    world.run(&["backup"]).await.ok();
    server.sql("INSERT INTO kept VALUES ('on 1')").await;
    server.archive_all().await;
    server.stop();

    let placeholder = world.path("data/pg_wal/00000002.history");
    let signal = world.path("data/standby.signal");
    fs::write(&signal, "").unwrap();
    give_to_postgres(signal.as_ref());
    let data = world.directory.path().join("data");
    let server = Server::start_standby(&world, &data, 5432).await;
    fs::write(&placeholder, RESERVED).unwrap();
    give_to_postgres(placeholder.as_ref());
    server.sql("SELECT pg_promote()").await;
    server.sql("INSERT INTO kept VALUES ('on 3')").await;
    server.archive_all().await;
    let histories: Vec<String> = world.near.keys();
    let histories = histories.iter().filter(|key| key.contains("/history/"));
    assert_eq!(histories.count(), 1, "the placeholder was never archived");
    (world, server)
}
