//! Backups of a standby during which a server is promoted: its primary's successor, or the standby.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::agent::{World, as_postgres, wait_for};
use crate::backup_source::{copied, pg_basebackup, with_wal_senders};
use crate::gate::{Gate, Running};
use crate::postgres::Server;

/// The old primary has archived its timeline beyond the fork, so the archive has every segment that
/// a backup of the old timeline would need.
#[tokio::test(flavor = "multi_thread")]
async fn primary_fails_over_during_the_backup_then_refused() {
    let (world, primary, standby) = primary_and_standby().await;
    let (running, gate) = frozen_backup(&world, &standby).await;

    primary.stop();
    drop(gate);
    copied(&world.path("data"), &world.path("abandoned")).await;
    let abandoned = world.directory.path().join("abandoned");
    let abandoned = Server::start(&world, &abandoned, 5434).await;
    abandoned
        .sql("INSERT INTO t SELECT generate_series(1, 300000)")
        .await;
    abandoned.archive_all().await;
    abandoned.stop();
    let data = world.directory.path().join("data");
    fs::write(data.join("standby.signal"), "").unwrap();
    let primary = Server::start_standby(&world, &data, 5432).await;
    // The standby has replayed the lock, at which a new connection would wait, and holds it until
    // then.
    let mut promote = as_postgres("/usr/lib/postgresql/15/bin/pg_ctl");
    let promoted = promote.args(["promote", "-D"]).arg(&data).output().await;
    assert!(
        promoted
            .as_ref()
            .is_ok_and(|output| output.status.success()),
        "{promoted:?}"
    );
    primary
        .sql("INSERT INTO t SELECT generate_series(1, 100000)")
        .await;
    // Its cache is small: writing evicted pages moves the minimum recovery point, and not the
    // timeline of its last checkpoint.
    wait_for("the rows of timeline 2", async || {
        let sql =
            "SELECT count(*) FROM t, pg_control_recovery() WHERE min_recovery_end_timeline = 2";
        (standby.sql(sql).await == "100001").then_some(())
    })
    .await;
    primary.sql("CHECKPOINT").await;
    running.signal(Signal::SIGCONT);

    let (code, stderr) = running.ended().await;
    assert_eq!(code, Some(19), "{stderr}");
    assert!(stderr.contains("the primary failed over"), "{stderr}");
    assert_eq!(manifests(&world), 0);
    let again = world.run(&["backup", "--json"]).await.ok().json();
    assert_eq!(again["backup"]["timeline"], 2);
    standby.stop();
    primary.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_is_promoted_during_the_backup_then_refused() {
    let (world, primary, standby) = primary_and_standby().await;
    let (running, gate) = frozen_backup(&world, &standby).await;

    standby.sql("SELECT pg_promote()").await;
    running.signal(Signal::SIGCONT);

    let (code, stderr) = running.ended().await;
    assert_eq!(code, Some(19), "{stderr}");
    assert!(stderr.contains("the server was promoted"), "{stderr}");
    assert_eq!(manifests(&world), 0);
    drop(gate);
    primary.stop();
}

/// Returns a primary and a standby, for which the settings are.
async fn primary_and_standby() -> (World, Server, Server) {
    let world = World::new().await;
    let primary = with_wal_senders(&world).await;
    primary.sql("CREATE TABLE t AS SELECT 1 AS n").await;
    let directory = world.path("standby");
    pg_basebackup(&world, &["-D", &directory, "-R", "-c", "fast"]).await;
    let path = Path::new(&directory).join("postgresql.conf");
    let settings = "wal_retrieve_retry_interval = '100ms'\nshared_buffers = '1MB'\n";
    fs::write(&path, fs::read_to_string(&path).unwrap() + settings).unwrap();
    let standby = Server::start_standby(&world, Path::new(&directory), 5433).await;
    // The first connection reads every system catalog into a file.
    standby.sql("SELECT 1").await;
    world.configure_standby(&directory);
    (world, primary, standby)
}

/// Returns a frozen backup of the standby that has begun. A standby takes the locks of its primary.
async fn frozen_backup(world: &World, standby: &Server) -> (Running, Gate) {
    let gate = Gate::close(world).await;
    wait_for("the lock", async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' \
                   AND relation = 'pg_tablespace'::regclass";
        (standby.sql(sql).await == "1").then_some(())
    })
    .await;
    let (running, _) = gate.hold_backup(world).await;
    running.signal(Signal::SIGSTOP);
    (running, gate)
}

fn manifests(world: &World) -> usize {
    let keys = world.near.keys();
    keys.iter().filter(|key| key.ends_with("/manifest")).count()
}
