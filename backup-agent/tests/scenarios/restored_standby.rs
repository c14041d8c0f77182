//! A standby that was restored: it has only the archive, whose silence is not its end.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::agent::{World, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::postgres::Server;
use crate::wal::{host, segment};

const WAITS: &str = "waiting for a bucket, which may have the file";

/// Twice the time of a response.
const TWO_ANSWERS: Duration = Duration::from_secs(16);

/// The whole cluster was lost, and its new primary is promoted at the end of the archive.
#[tokio::test(flavor = "multi_thread")]
async fn buckets_silent_at_promotion_then_all_archived_rows_there() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept (t text)").await;
    world.run(&["backup"]).await.ok();
    server.sql("INSERT INTO kept VALUES ('first')").await;
    server.archive_all().await;
    let directory = world.path("copy");
    let restore = ["restore", "--standby", "--target-directory", &directory];
    world.run(&restore).await.ok();
    shorten_retries(&world.path("copy/postgresql.auto.conf"));
    let copy = Server::start_standby(&world, Path::new(&directory), 5433).await;
    wait_for("the first row", async || {
        (copy.sql(ROWS).await == "first").then_some(())
    })
    .await;

    for store in [&world.near, &world.far] {
        let never = Fault::HeldError(503, "SlowDown");
        store.faults.add("GET", "/wal/", usize::MAX, never);
    }
    server.sql("INSERT INTO kept VALUES ('second')").await;
    server.archive_all().await;
    copy.sql("SELECT pg_promote(wait => false)").await;
    let in_recovery = "SELECT pg_is_in_recovery()";
    wait_for("the silence to be noticed", async || {
        let noticed = copy.log().contains(WAITS) || copy.sql(in_recovery).await == "f";
        noticed.then_some(())
    })
    .await;
    for store in [&world.near, &world.far] {
        store.faults.clear();
    }

    wait_for("the promotion", async || {
        (copy.sql(in_recovery).await == "f").then_some(())
    })
    .await;
    assert_eq!(copy.sql(ROWS).await, "first,second", "{}", copy.log());
    copy.stop();
    server.stop();
}

/// Another bucket's response does not count: the file, or a later timeline, may be in the silent one.
#[tokio::test(flavor = "multi_thread")]
async fn one_bucket_silent_then_fetch_ends_once_it_responds() {
    let mut world = host().await;
    let path = segment(&world, 1, 1, b"rows");
    world.run(&["wal", "push", &path]).await.ok();
    for absent in ["000000010000000000000009", "00000002.history"] {
        world.near.fall_silent().await;
        let mut command = fetch(&world, absent);
        let mut waiting = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(waiting.stderr.take().unwrap()).lines();
        loop {
            let line = stderr.next_line().await.unwrap();
            if line.expect("the fetch waits").contains(WAITS) {
                break;
            }
        }
        assert_eq!(waiting.try_wait().unwrap(), None);
        world.near.come_back().await;
        while stderr.next_line().await.unwrap().is_some() {}
        let code = waiting.wait().await.unwrap().code();
        assert_eq!(code, Some(1), "{absent}");
    }
}

/// A promoted server's `restore_command` is copied to its standbys, whose promotion must not wait for a lost region.
#[tokio::test(flavor = "multi_thread")]
async fn server_on_a_later_timeline_then_silence_not_waited_for() {
    let mut world = host().await;
    let path = segment(&world, 1, 1, b"rows");
    world.run(&["wal", "push", &path]).await.ok();
    let control = world.path("data/global/pg_control");
    let mut bytes = fs::read(&control).unwrap();
    bytes[48..52].copy_from_slice(&2_u32.to_le_bytes());
    fs::write(&control, bytes).unwrap();
    give_to_postgres(control.as_ref());
    world.near.fall_silent().await;

    let ended = fetch(&world, "000000010000000000000009").output();
    let ended = tokio::time::timeout(TWO_ANSWERS, ended).await;
    let ended = ended.expect("the fetch does not wait").unwrap();
    assert_eq!(ended.status.code(), Some(14), "{ended:?}");
}

const ROWS: &str = "SELECT coalesce(string_agg(t, ',' ORDER BY t), '') FROM kept";

fn fetch(world: &World, name: &str) -> tokio::process::Command {
    let to = world.path("data/pg_wal/RECOVERYXLOG");
    let retries = "--retry-timeout-secs=1";
    world.command(&["wal", "fetch", "--restored-on=1", retries, name, &to])
}

/// Shortens the time after which `restore_command` reports that a bucket is silent.
fn shorten_retries(path: &str) {
    let settings = fs::read_to_string(path).unwrap();
    let shorter = settings.replace("--retry-timeout-secs 60", "--retry-timeout-secs 1");
    assert_ne!(settings, shorter);
    fs::write(path, shorter).unwrap();
}
