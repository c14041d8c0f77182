//! A backup whose WAL is archived late, because the archiver is at earlier segments.

use std::path::Path;
use std::time::Duration;

use crate::agent::{World, wait_for};
use crate::backup_source::{pg_basebackup, with_wal_senders};
use crate::faults::Fault;
use crate::postgres::Server;

/// More segments than the archiver archives while a backup waits for one.
const BEHIND_BY: usize = 12;

/// Time that the archiver needs for a segment.
const SLOW: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn archiver_far_behind_then_backup_waits_while_it_archives() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.configure(|settings| settings.replace("wait-secs = 30", "wait-secs = 4"));
    fall_behind(&world, &server).await;

    world.run(&["backup"]).await.ok();
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn archiver_of_the_primary_far_behind_then_standby_waits_too() {
    let world = World::new().await;
    let primary = with_wal_senders(&world).await;
    let standby = world.path("standby");
    pg_basebackup(&world, &["-D", &standby, "-R", "-c", "fast"]).await;
    let standby = Server::start_standby(&world, Path::new(&standby), 5433).await;
    let data = format!("data-directory = \"{}\"", world.path("data"));
    let there = format!(
        "data-directory = \"{}\"\nport = 5433\n[postgres.primary]\nhost = \"{}\"\n",
        world.path("standby"),
        world.directory.path().display()
    );
    world.configure(|settings| {
        settings
            .replace(&data, "")
            .replace("[limits]", &format!("{there}[limits]"))
            .replace("wait-secs = 30", "wait-secs = 4")
    });
    fall_behind(&world, &primary).await;
    primary.sql("CHECKPOINT").await;
    let position = primary.sql("SELECT pg_current_wal_lsn()").await;
    wait_for("replay", async || {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        (standby.sql(&sql).await == "t").then_some(())
    })
    .await;

    world.run(&["backup"]).await.ok();
    standby.stop();
    primary.stop();
}

/// Makes the server end segments faster than its archiver archives them.
async fn fall_behind(world: &World, server: &Server) {
    for store in [&world.near, &world.far] {
        store
            .faults
            .add("PUT", "/wal/", 10 * BEHIND_BY, Fault::Delay(SLOW));
    }
    for number in 0..BEHIND_BY {
        server.sql(&format!("CREATE TABLE t{number} ()")).await;
        server.sql("SELECT pg_switch_wal()").await;
    }
}
