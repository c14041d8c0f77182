//! The metrics of real runs, as `node_exporter` reads them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::agent::{World, as_postgres, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::postgres::Server;
use crate::wal::{host, object, segment};

#[tokio::test(flavor = "multi_thread")]
async fn no_backup_yet_then_zero_and_backup_then_its_figures() {
    let world = World::new().await;
    write_metrics(&world);
    let server = Server::create(&world).await;
    server.archive_all().await;
    let zero = [
        "backup_base_last_failed_timestamp_seconds",
        "backup_base_last_size_bytes",
        "backup_pitr_oldest_timestamp_seconds",
        "backup_wal_missing_segments",
        "backup_repository_bytes{bucket=\"near\"}",
        "backup_archive_foreign_prefix{bucket=\"near\"}",
        "backup_restore_verified_timestamp_seconds",
        "backup_restore_drill_duration_seconds",
        "backup_base_last_duration_seconds",
    ];
    for name in zero {
        assert_eq!(value(&world, name), Some(0), "{name}");
    }
    let info = "backup_bucket_info{bucket=\"far\",bucket_region=\"eu-central-1\"}";
    assert_eq!(value(&world, info), Some(1));

    let made = world.run(&["backup", "--json"]).await.ok().json();
    let stored = made["backup"]["stored-bytes"].as_i64();
    assert_eq!(value(&world, "backup_base_last_size_bytes"), stored);
    let stopped_at: jiff::Timestamp = made["backup"]["stopped-at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(oldest_recovery_point(&world), Some(stopped_at.as_second()));
    assert_eq!(value(&world, zero[0]), Some(0));
    for name in ["near", "far"] {
        let reachable = format!("backup_bucket_reachable{{bucket=\"{name}\"}}");
        assert_eq!(value(&world, &reachable), Some(1));
    }

    // A later listing has the WAL since, and no other bytes but those of small objects.
    server.archive_all().await;
    world.run(&["list"]).await.ok();
    let in_bucket: u64 = (world.near.objects().iter())
        .filter(|(key, _)| key.contains("/wal/") || key.contains("/pack/"))
        .map(|(_, path)| fs::metadata(path).unwrap().len())
        .sum();
    let listed = value(&world, "backup_repository_bytes{bucket=\"near\"}").unwrap();
    let in_bucket = i64::try_from(in_bucket).unwrap();
    assert!(
        listed > stored.unwrap() && listed <= in_bucket,
        "{listed} of {in_bucket}"
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_fails_then_time_recorded_and_last_success_kept() {
    let mut world = World::new().await;
    write_metrics(&world);
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    let size = value(&world, "backup_base_last_size_bytes");
    world.near.stop().await;
    world.far.stop().await;

    world.run(&["backup"]).await.fails_with(14, "bucket");
    let failed_at = value(&world, "backup_base_last_failed_timestamp_seconds").unwrap();
    let stored_at = "backup_base_last_stored_timestamp_seconds{bucket=\"near\"}";
    assert!(failed_at >= value(&world, stored_at).unwrap());
    assert_eq!(value(&world, "backup_base_last_size_bytes"), size);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn segment_missing_then_counted_and_earlier_backup_no_recovery_point() {
    let world = World::new().await;
    write_metrics(&world);
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    let first = oldest_recovery_point(&world).unwrap();
    for _ in 0..3 {
        server.archive_all().await;
    }
    let is_segment = |key: &String| key.contains("/wal/") && !key.ends_with(".backup");
    let segments: Vec<_> = world.near.keys().into_iter().filter(is_segment).collect();
    let (_, lost) = segments.split_last().unwrap();
    let lost = &lost[lost.len() - 2..];
    let again = object(&world, &world.near.objects(), &lost[0]);
    let content = fs::read(&again).unwrap();
    for name in lost {
        for store in [&world.near, &world.far] {
            fs::remove_file(object(&world, &store.objects(), name)).unwrap();
        }
    }

    world.run(&["check"]).await.fails_with(22, "checks failed");
    assert_eq!(value(&world, "backup_wal_missing_segments"), Some(2));
    assert_eq!(
        oldest_recovery_point(&world),
        Some(0),
        "recovery ends at the gap"
    );
    let made = world.run(&["backup", "--json"]).await;
    let made = made.fails_with(25, "has a gap").json();
    assert_eq!(made["backup"]["damaged-pages"], 0);
    assert!(oldest_recovery_point(&world).unwrap() >= first);
    assert_eq!(value(&world, "backup_wal_missing_segments"), Some(2));

    // What the silent bucket has is unknown, so nothing is claimed anew.
    let silent = Fault::Error(403, "AccessDenied");
    world.far.faults.add("GET", "list-type", usize::MAX, silent);
    fs::write(again, content).unwrap();
    world.run(&["check"]).await.fails_with(22, "checks failed");
    assert_eq!(value(&world, "backup_wal_missing_segments"), Some(2));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_fails_then_unreachable_until_the_next_request() {
    let mut world = host().await;
    write_metrics(&world);
    let reachable = |name: &str| format!("backup_bucket_reachable{{bucket=\"{name}\"}}");
    let mut number = 0;
    let mut push = async |world: &World| {
        number += 1;
        let path = segment(world, 1, number, b"rows");
        world.run(&["wal", "push", &path]).await
    };
    let denied = Fault::Error(403, "AccessDenied");
    world.far.faults.add("PUT", "", 1, denied);
    push(&world).await.ok();
    assert_eq!(value(&world, &reachable("near")), Some(1));
    wait_for("the backfill, which is allowed", async || {
        (value(&world, &reachable("far")) == Some(1)).then_some(())
    })
    .await;

    world.far.stop().await;
    push(&world).await.ok();
    assert_eq!(value(&world, &reachable("near")), Some(1));
    assert_eq!(value(&world, &reachable("far")), Some(0));
    world.near.stop().await;
    push(&world).await.fails_with(14, "bucket");
    assert_eq!(value(&world, &reachable("near")), Some(0));

    world.near.come_back().await;
    world.far.come_back().await;
    push(&world).await.ok();
    for name in ["near", "far"] {
        wait_for("each bucket to be reached", async || {
            (value(&world, &reachable(name)) == Some(1)).then_some(())
        })
        .await;
    }
    // An absent object is an answer.
    let to = world.path("data/pg_wal/RECOVERYXLOG");
    let absent = ["wal", "fetch", "000000010000000000000099", &to];
    world
        .run(&absent)
        .await
        .fails_with(1, "is not in the archive");
    assert_eq!(value(&world, &reachable("far")), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_of_another_server_then_one_until_stored() {
    let world = host().await;
    write_metrics(&world);
    let foreign = |name: &str| format!("backup_archive_foreign_prefix{{bucket=\"{name}\"}}");
    let path = segment(&world, 1, 1, b"first");
    world.run(&["wal", "push", &path]).await.ok();
    segment(&world, 1, 1, b"another server's");
    let refused = world.run(&["wal", "push", &path]).await;
    refused.fails_with(15, "with other content");
    let both = [
        value(&world, &foreign("near")),
        value(&world, &foreign("far")),
    ];
    assert!(both.contains(&Some(1)), "{both:?}");
    segment(&world, 1, 1, b"first");
    world.run(&["wal", "push", &path]).await.ok();
    for name in ["near", "far"] {
        assert_eq!(value(&world, &foreign(name)), Some(0), "{name}");
    }

    // The data directory is another database's, and its name is taken.
    let control = world.path("data/global/pg_control");
    let mut bytes = fs::read(&control).unwrap();
    bytes[..8].copy_from_slice(&7_u64.to_le_bytes());
    fs::write(&control, bytes).unwrap();
    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    assert!(checked.stdout.contains("and none of 7"), "{checked:?}");
    assert_eq!(value(&world, &foreign("near")), Some(1));
}

/// PostgreSQL and the units hide new files from other users.
#[tokio::test(flavor = "multi_thread")]
async fn umask_of_postgresql_then_textfile_readable_by_all() {
    let world = host().await;
    write_metrics(&world);
    let path = segment(&world, 1, 1, b"rows");
    let pushed = as_postgres("/bin/sh")
        .args([
            "-c",
            "umask 077; exec \"$0\" --config \"$1\" wal push \"$2\"",
        ])
        .args([world.program.as_os_str(), world.config.as_os_str()])
        .arg(&path)
        .current_dir(world.path("data"))
        .output()
        .await
        .unwrap();
    assert!(pushed.status.success(), "{pushed:?}");

    let mode = fs::metadata(textfile(&world)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    fs::set_permissions(textfile(&world), Permissions::from_mode(0o640)).unwrap();
    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    let named = "whose mode";
    assert!(!checked.stdout.contains(named), "{checked:?}");
    assert!(
        checked.stdout.contains("its mode is 0640: `chmod o+r "),
        "{checked:?}"
    );
}

/// PostgreSQL's archiver, an operator and the backfill run at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_commands_at_once_then_no_record_lost() {
    let world = host().await;
    write_metrics(&world);
    world
        .far
        .faults
        .add("PUT", "", usize::MAX, Fault::Error(403, "AccessDenied"));
    let mut pushes = Vec::new();
    for number in 1..=12 {
        let path = segment(&world, 1, number, b"rows");
        let mut command = world.command(&["wal", "push", &path]);
        pushes.push(command.stderr(Stdio::null()).spawn().unwrap());
    }
    for push in &mut pushes {
        assert!(push.wait().await.unwrap().success());
    }
    let lacking = "backup_bucket_lacking_files{bucket=\"far\"}";
    assert_eq!(value(&world, lacking), Some(12));
}

/// A frozen process that holds the records must not stop the archiver.
#[tokio::test(flavor = "multi_thread")]
async fn records_locked_by_a_frozen_process_then_push_succeeds() {
    let world = host().await;
    write_metrics(&world);
    fs::create_dir(world.path("state")).unwrap();
    give_to_postgres(world.path("state").as_ref());
    let lock = fs::File::create(world.path("state/health.lock")).unwrap();
    give_to_postgres(world.path("state/health.lock").as_ref());
    lock.lock().unwrap();
    let path = segment(&world, 1, 1, b"rows");
    let pushed = world.run(&["wal", "push", &path]).await.ok();
    assert!(
        pushed.stderr.contains("another process holds"),
        "{pushed:?}"
    );
    assert_eq!(world.near.keys(), world.far.keys());
}

fn textfile(world: &World) -> String {
    world.path("metrics/backup-agent.prom")
}

/// Configures a textfile in a directory that exists.
pub(crate) fn write_metrics(world: &World) {
    let directory = world.path("metrics");
    fs::create_dir(&directory).unwrap();
    give_to_postgres(directory.as_ref());
    let path = textfile(world);
    world.configure(|settings| format!("{settings}[metrics]\ntextfile = \"{path}\"\n"));
}

/// Returns the value of a series.
pub(crate) fn value(world: &World, series: &str) -> Option<i64> {
    let text = fs::read_to_string(textfile(world)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map(|line| {
        line.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{series}: {line}"))
    })
}

fn oldest_recovery_point(world: &World) -> Option<i64> {
    value(world, "backup_pitr_oldest_timestamp_seconds")
}
