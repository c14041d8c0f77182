//! Behavior of a restored server: as requested, whatever its restored settings are.

use std::fs;
use std::path::Path;

use crate::agent::{World, wait_for};
use crate::postgres::Server;

/// Settings of an earlier restore, of `ALTER SYSTEM` or of a standby, each of which changes the end
/// of recovery or affects another server. `MARKS` is a directory that only they write to.
const INHERITED: &str = "\
recovery_target = 'immediate'
recovery_target_time = '2020-01-01 00:00:00+00'
recovery_target_name = 'of an earlier restore'
recovery_target_inclusive = off
recovery_target_action = 'shutdown'
recovery_target_timeline = 'current'
recovery_end_command = 'touch MARKS/ended'
archive_cleanup_command = 'touch MARKS/cleaned'
archive_command = 'touch MARKS/archived'
external_pid_file = 'MARKS/pid'
promote_trigger_file = '/etc/passwd'
recovery_min_apply_delay = '1h'
synchronous_standby_names = 'nobody'
primary_conninfo = 'host=/nowhere'
primary_slot_name = 'of_another'
hot_standby = off
restore_command = 'touch MARKS/restored; false'";

#[tokio::test(flavor = "multi_thread")]
async fn inherited_settings_then_overridden() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept (t text)").await;
    let marks = world.path("marks");
    fs::create_dir(&marks).unwrap();
    crate::agent::give_to_postgres(Path::new(&marks));
    let file = world.path("data/postgresql.auto.conf");
    let own = fs::read_to_string(&file).unwrap();
    fs::write(&file, own.clone() + &INHERITED.replace("MARKS", &marks)).unwrap();
    world.run(&["backup"]).await.ok();
    fs::write(&file, own).unwrap();
    let insert = "WITH own AS (INSERT INTO kept VALUES ('at the target')) SELECT txid_current()";
    let xid = server.sql(insert).await;
    server.sql("INSERT INTO kept VALUES ('after it')").await;
    server.archive_all().await;

    let directory = world.path("copy");
    let ran = world
        .run(&[
            "restore",
            "--target-directory",
            &directory,
            "--target-xid",
            &xid,
        ])
        .await
        .ok();
    assert!(ran.stdout.contains("and then pauses"), "{ran:?}");
    assert!(ran.stdout.contains("does not archive"), "{ran:?}");
    let copy = Server::start_standby(&world, Path::new(&directory), 5433).await;
    let set = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings \
               WHERE name IN ('archive_mode', 'synchronous_standby_names', 'primary_slot_name', \
               'max_logical_replication_workers', 'recovery_min_apply_delay', \
               'archive_cleanup_command', 'recovery_end_command')";
    assert_eq!(
        copy.sql(set).await,
        "archive_cleanup_command= archive_mode=off max_logical_replication_workers=0 \
         primary_slot_name= recovery_end_command= recovery_min_apply_delay=0 \
         synchronous_standby_names="
    );
    let paused = "SELECT pg_get_wal_replay_pause_state()";
    wait_for("the pause at the target", async || {
        (copy.sql(paused).await == "paused").then_some(())
    })
    .await;
    let rows = "SELECT string_agg(t, ',') FROM kept";
    assert_eq!(copy.sql(rows).await, "at the target", "{}", copy.log());

    copy.sql("SELECT pg_wal_replay_resume()").await;
    wait_for("the promotion", async || {
        (copy.sql("SELECT pg_is_in_recovery()").await == "f").then_some(())
    })
    .await;
    // It would wait for `nobody`, or for the primary's archive to accept its WAL.
    copy.sql("INSERT INTO kept VALUES ('on the copy')").await;
    copy.sql("SELECT pg_switch_wal()").await;
    copy.stop();
    let left: Vec<_> = fs::read_dir(&marks).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn target_then_copy_ends_as_asked() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept (t text)").await;
    world.run(&["backup"]).await.ok();
    let insert = "INSERT INTO kept VALUES ('1'); SELECT pg_current_wal_insert_lsn()";
    server.sql(insert).await;
    let xid = "WITH own AS (INSERT INTO kept VALUES ('2')) SELECT txid_current()";
    let xid = server.sql(xid).await;
    server.archive_all().await;

    let exclusive = ["--target-exclusive", "--target-xid", &xid];
    let rows = "SELECT coalesce(string_agg(t, ','), '') FROM kept";
    for (name, target, expected) in [
        ("exclusive", &exclusive[..], "1"),
        ("immediate", &["--target-immediate"], ""),
        ("latest", &[], "1,2"),
    ] {
        let directory = world.path(name);
        let mut args = vec!["restore", "--target-directory", &directory];
        args.extend(target);
        if !target.is_empty() {
            args.extend(["--target-action", "promote"]);
        }
        let ran = world.run(&args).await.ok();
        assert!(ran.stdout.contains("and then is promoted"), "{ran:?}");
        let copy = Server::start(&world, Path::new(&directory), 5433).await;
        assert_eq!(copy.sql(rows).await, expected, "{name}: {}", copy.log());
        copy.stop();
    }
    server.stop();
}

/// Nothing is changed, and no bucket is queried: both are away.
#[tokio::test(flavor = "multi_thread")]
async fn options_without_effect_then_refused() {
    let mut world = World::new().await;
    world.near.stop().await;
    world.far.stop().await;
    let live = world.directory.path().join("data");
    fs::create_dir_all(live.join("global")).unwrap();
    fs::write(live.join("PG_VERSION"), "15\n").unwrap();
    let (copy, inside) = (world.path("copy"), world.path("data/copy"));
    let (a, below_a) = (world.path("a"), world.path("a/b"));
    let map = |new: &str| format!("--tablespace-mapping=/old={new}");
    let twice = format!("--tablespace-mapping=/other={below_a}");

    for (args, expected) in [
        (vec!["--target-action=pause"], "needs a target"),
        (vec!["--target-action=shutdown"], "needs a target"),
        (vec!["--target-exclusive"], "needs `--target-time`"),
        (
            vec!["--target-exclusive", "--target-name=x"],
            "needs `--target-time`",
        ),
        (vec!["--target-name="], "control characters"),
        (vec![&map("side")], "is not an absolute path"),
        (vec![&map("/a/../b")], "cannot be used as a directory"),
        (vec![&map(&a), &twice], "overlap"),
        (vec![&map(&a), &map(&below_a)], "twice"),
        (vec![&map(&world.path("copy/side"))], "overlap"),
        (
            vec![&map(&world.path("data/side"))],
            "is inside the data directory",
        ),
        (
            vec!["--tablespace-directory=side"],
            "is not an absolute path",
        ),
    ] {
        let mut all = vec!["restore", "--target-directory", &copy];
        all.extend(args);
        world.run(&all).await.fails_with(24, expected);
    }
    world
        .run(&["restore", "--target-directory", &inside])
        .await
        .fails_with(24, "is inside the data directory");
    for args in [
        &["--standby", "--target-action=promote"][..],
        &["--standby", "--target-immediate"],
        &["--target-immediate", "--target-xid=700"],
    ] {
        let mut all = vec!["restore", "--target-directory", &copy];
        all.extend(args);
        world.run(&all).await.fails_with(2, "cannot be used with");
    }
    assert!(!Path::new(&copy).exists());
}

/// `pg_ctl -D copy` would start the original's data directory.
#[tokio::test(flavor = "multi_thread")]
async fn own_conf_names_the_original_then_copy_starts() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let conf = world.path("data/postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let original = format!("{text}data_directory = '{}'\n", world.path("data"));
    fs::write(&conf, original).unwrap();
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    let directory = world.path("copy");
    let ran = world
        .run(&["restore", "--target-directory", &directory])
        .await
        .ok();
    assert!(
        ran.stdout.contains("may name another data directory"),
        "{ran:?}"
    );
    server.stop();
    let copy = Server::start(&world, Path::new(&directory), 5433).await;
    assert_eq!(copy.sql("SHOW data_directory").await, directory);
    copy.stop();
}
