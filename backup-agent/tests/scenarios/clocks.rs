//! Clocks that disagree: the one from which a backup's end is read, and the one of the commits.

use std::path::Path;

use crate::agent::{World, wait_for};
use crate::backup_source::{pg_basebackup, with_wal_senders};
use crate::postgres::Server;

/// Makes the clock that a backup reads from the server an hour slower than that of the commits: another function
/// takes its name.
const FALL_BEHIND: &str = "SET allow_system_table_mods = on; \
     ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO own_clock_timestamp; \
     CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
     $$ SELECT pg_catalog.own_clock_timestamp() - interval '1 hour' $$";

const TIME: &str = "SELECT to_json(pg_catalog.statement_timestamp()) #>> '{}'";

const ROWS: &str = "SELECT string_agg(n::text, ',' ORDER BY n) FROM t";

/// The backup's end time is an hour before the rows that are in it.
#[tokio::test(flavor = "multi_thread")]
async fn backup_ended_by_a_clock_behind_then_older_one_chosen() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE t (n int)").await;
    let older = world.run(&["backup", "--json"]).await.ok().json();
    server.sql("INSERT INTO t VALUES (1)").await;
    let between = server.sql(TIME).await;
    server.sql("INSERT INTO t VALUES (2)").await;
    server.sql(FALL_BEHIND).await;
    // The commits are in segments before the one in which the backup begins.
    server.archive_all().await;
    server.sql("SELECT pg_switch_wal(); CHECKPOINT").await;
    let newer = world.run(&["backup", "--json"]).await.ok().json();
    let after = server.sql(TIME).await;
    server.sql("INSERT INTO t VALUES (3)").await;
    server.archive_all().await;

    let named = world.path("named");
    let newer = newer["backup"]["id"].as_str().unwrap();
    let named = [
        "restore",
        "--target-directory",
        &named,
        "--backup",
        newer,
        "--target-time",
        &between,
    ];
    let refused = world.run(&named).await.fails_with(20, "after the target");
    assert!(refused.stderr.contains("its server's clock"), "{refused:?}");
    for (time, backup, rows) in [
        (&between, older["backup"]["id"].as_str().unwrap(), "1"),
        (&after, newer, "1,2"),
    ] {
        let directory = world.path(rows);
        let mut args = vec!["restore", "--json", "--target-directory", &directory];
        args.extend(["--target-time", time]);
        let restored = world.run(&args).await.ok().json();
        assert_eq!(restored["backup"]["id"], backup);
        let copy = Server::start_standby(&world, Path::new(&directory), 5433).await;
        wait_for("the target", async || {
            let sql = "SELECT pg_get_wal_replay_pause_state()";
            (copy.sql(sql).await == "paused").then_some(())
        })
        .await;
        assert_eq!(copy.sql(ROWS).await, rows);
        copy.stop();
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_clock_behind_then_end_time_not_before_replay() {
    let world = World::new().await;
    let primary = with_wal_senders(&world).await;
    primary.sql(FALL_BEHIND).await;
    let directory = world.path("standby");
    pg_basebackup(&world, &["-D", &directory, "-R", "-c", "fast"]).await;
    let standby = Server::start_standby(&world, Path::new(&directory), 5433).await;
    let before = primary.sql(TIME).await;
    primary.sql("CREATE TABLE t AS SELECT 1 AS n").await;
    let replayed = "SELECT count(*) FROM pg_class WHERE relname = 't'";
    wait_for("replay", async || {
        (standby.sql(replayed).await == "1").then_some(())
    })
    .await;
    world.configure_standby(&directory);

    let made = world.run(&["backup", "--json"]).await.ok().json();
    let ended = made["backup"]["stopped-at"].as_str().unwrap();
    let sql = format!("SELECT '{ended}'::timestamptz > '{before}'::timestamptz");
    assert_eq!(primary.sql(&sql).await, "t", "{ended} and {before}");
    standby.stop();
    primary.stop();
}
