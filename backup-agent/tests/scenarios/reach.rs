//! Reach of the WAL in the archive, as `restore`, `list` and `check` report it, and targets beyond
//! it.

use std::fs;
use std::path::Path;

use crate::agent::World;
use crate::postgres::Server;

/// One segment of twenty is missing in both buckets: PostgreSQL would treat that as the end of the
/// WAL, and start with a third of the rows.
#[tokio::test(flavor = "multi_thread")]
async fn segment_missing_then_every_command_names_it() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept (g int)").await;
    world.run(&["backup"]).await.ok();
    for first in [1, 1001] {
        let last = first + 999;
        server
            .sql(&format!(
                "INSERT INTO kept SELECT generate_series({first}, {last})"
            ))
            .await;
        server.archive_all().await;
    }
    let listed = world.run(&["list", "--json"]).await.ok().json();
    let reach = &listed["backups"][0]["reach"];
    assert_eq!(reach["gap"], serde_json::Value::Null, "{listed}");
    world.run(&["check"]).await.ok();

    let last = reach["last-segment"].as_str().unwrap();
    let missing = segments(&world).into_iter().rev().nth(1).unwrap();
    for store in [&world.near, &world.far] {
        let objects = store.objects();
        let object = objects
            .iter()
            .find(|(key, _)| key.ends_with(&missing))
            .unwrap();
        fs::remove_file(&object.1).unwrap();
    }

    let listed = world.run(&["list", "--json"]).await.ok().json();
    let gap = &listed["backups"][0]["reach"]["gap"];
    assert_eq!(
        (gap["missing"].as_str(), gap["next-held"].as_str()),
        (Some(missing.as_str()), Some(last))
    );
    let listed = world.run(&["list"]).await.ok();
    assert!(
        listed
            .stdout
            .contains(&format!("GAP: `{missing}` is missing")),
        "{listed:?}"
    );
    // A host without an identity detects it as well.
    world.configure(|settings| settings.replace("identity-file", "#identity-file"));
    let listed = world.run(&["list"]).await.ok();
    assert!(
        listed
            .stdout
            .contains(&format!("GAP: `{missing}` is missing")),
        "{listed:?}"
    );
    world.configure(str::to_owned);
    let checked = world.run(&["check"]).await.fails_with(22, "1 of");
    let named = format!("FAILED WAL without a gap: `{missing}` is missing");
    assert!(checked.stdout.contains(&named), "{checked:?}");

    let directory = world.path("restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .fails_with(20, &format!("`{missing}` is missing"));
    assert!(
        !Path::new(&directory).exists(),
        "it was refused before anything was touched"
    );
    // The next backup succeeds, and reports the gap after the previous one.
    let nightly = world.run(&["backup", "--json"]).await;
    let nightly = nightly.fails_with(25, &format!("`{missing}` is missing"));
    assert_eq!(nightly.json()["wal-gaps"].as_array().unwrap().len(), 1);
    server.stop();
}

/// A bucket that lacks a segment is named, and the WAL is still complete.
#[tokio::test(flavor = "multi_thread")]
async fn segment_missing_in_one_bucket_then_check_names_the_bucket() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.archive_all().await;
    let missing = segments(&world).into_iter().rev().nth(1).unwrap();
    let objects = world.far.objects();
    let object = objects
        .iter()
        .find(|(key, _)| key.ends_with(&missing))
        .unwrap();
    fs::remove_file(&object.1).unwrap();

    let checked = world.run(&["check"]).await.fails_with(22, "1 of");
    assert!(
        checked.stdout.contains("is there in bucket `far`"),
        "{checked:?}"
    );
    let listed = world.run(&["list"]).await.ok();
    assert!(!listed.stdout.contains("GAP"), "{listed:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn target_past_the_end_then_refused_before_any_fetch() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept (g int)").await;
    world.run(&["backup"]).await.ok();
    server.sql("INSERT INTO kept VALUES (1)").await;
    let within = server.sql("SELECT pg_current_wal_lsn()").await;
    let time = "SELECT to_json(clock_timestamp()) #>> '{}'";
    let between = server.sql(time).await;
    server.sql("INSERT INTO kept VALUES (2)").await;
    server.archive_all().await;
    let late = server.sql(time).await;
    let beyond = server.sql("SELECT pg_current_wal_lsn() + 1000").await;

    let directory = world.path("restored");
    for (flag, target, expected) in [
        ("--target-time", &late, "ended after the target time"),
        ("--target-lsn", &beyond, "is after its last record"),
    ] {
        let args = ["restore", "--target-directory", &directory, flag, target];
        let refused = world.run(&args).await.fails_with(20, expected);
        assert!(refused.stderr.contains("WAL complete to `"), "{refused:?}");
        assert!(!Path::new(&directory).exists());
    }
    for (flag, target) in [("--target-time", &between), ("--target-lsn", &within)] {
        let directory = world.path(flag);
        let args = ["restore", "--target-directory", &directory, flag, target];
        let restored = world.run(&args).await.ok();
        assert!(
            restored.stderr.contains("last transaction at 20"),
            "{restored:?}"
        );
    }
    server.stop();
}

/// A lifecycle rule by age removes the histories first: they are the oldest objects of their
/// timelines.
#[tokio::test(flavor = "multi_thread")]
async fn history_lost_then_its_timeline_not_skipped() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();
    let data = world.directory.path().join("data");
    fs::write(data.join("standby.signal"), "").unwrap();
    let server = Server::start_standby(&world, &data, 5432).await;
    server.sql("SELECT pg_promote()").await;
    server.archive_all().await;
    for store in [&world.near, &world.far] {
        let objects = store.objects();
        let (_, history) = objects
            .iter()
            .find(|(key, _)| key.contains("/history/"))
            .unwrap();
        fs::remove_file(history).unwrap();
    }

    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    assert!(
        checked
            .stdout
            .contains("FAILED histories: timeline 2 has WAL"),
        "{checked:?}"
    );
    let directory = world.path("restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .fails_with(
            20,
            "timeline 2 has WAL in the archive, but its history is in no bucket",
        );
    let first = [
        "restore",
        "--target-directory",
        &directory,
        "--target-timeline",
        "1",
    ];
    world.run(&first).await.ok();
    server.stop();
}

/// Anyone with write access to a bucket can create an unreadable manifest.
#[tokio::test(flavor = "multi_thread")]
async fn manifest_unreadable_then_others_listed_and_restored() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    world.run(&["backup"]).await.ok();
    server.stop();
    let ids = ids(&world.run(&["list", "--json"]).await.ok().json());
    for store in [&world.near, &world.far] {
        let objects = store.objects();
        let mut objects = objects.iter();
        let newest = objects.find(|(key, _)| key.ends_with(&format!("{}/manifest", ids[1])));
        fs::write(&newest.unwrap().1, "no manifest").unwrap();
    }

    let listed = world.run(&["list", "--json"]).await.ok().json();
    assert_eq!(self::ids(&listed), ids[..1]);
    assert_eq!(listed["unreadable"].as_array().unwrap().len(), 2);
    assert_eq!(listed["unreadable"][0]["id"], ids[1].as_str());
    let shown = world.run(&["list"]).await.ok();
    assert!(shown.stdout.contains("UNREADABLE in far"), "{shown:?}");
    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    assert!(checked.stdout.contains("FAILED manifests"), "{checked:?}");
    let named = [
        "restore",
        "--target-directory",
        &world.path("named"),
        "--backup",
        &ids[1],
    ];
    world.run(&named).await.fails_with(17, "cannot be read");
    let other = [
        "restore",
        "--target-directory",
        &world.path("other"),
        "--backup",
        &ids[0],
    ];
    world.run(&other).await.ok();
    let any = world
        .run(&["restore", "--target-directory", &world.path("any")])
        .await
        .ok();
    assert!(
        any.stderr.contains(&ids[1]),
        "what was passed over is named: {any:?}"
    );
}

/// Objects that only the unavailable bucket has may be newer than all others.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_away_then_restore_needs_from() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.stop();
    world.near.stop().await;

    let directory = world.path("restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .fails_with(14, "bucket `near` does not respond");
    let listed = world.run(&["list"]).await.ok();
    assert!(
        listed.stdout.contains("bucket `near` DID NOT RESPOND"),
        "{listed:?}"
    );
    let from = [
        "restore",
        "--target-directory",
        &directory,
        "--from",
        "eu-central-1",
    ];
    world.run(&from).await.ok();
}

fn ids(listed: &serde_json::Value) -> Vec<String> {
    let backups = listed["backups"].as_array().unwrap().iter();
    backups
        .map(|backup| backup["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns the segments in the near bucket, in order.
fn segments(world: &World) -> Vec<String> {
    let keys = world
        .near
        .keys()
        .into_iter()
        .filter(|key| key.contains("/wal/"));
    let names = keys.map(|key| key.rsplit('/').next().unwrap().to_owned());
    names.filter(|name| name.len() == 24).collect()
}

/// Anyone with write access to a bucket can create an unreadable history with any number.
#[tokio::test(flavor = "multi_thread")]
async fn history_is_junk_then_restores_ignore_it() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept AS SELECT 1").await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();
    for store in [&world.near, &world.far] {
        let objects = store.objects();
        let (_, manifest) = objects
            .iter()
            .find(|(key, _)| key.ends_with("/manifest"))
            .unwrap();
        let histories = manifest
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .with_file_name("history");
        fs::create_dir_all(&histories).unwrap();
        fs::write(histories.join("00000007.history"), "junk").unwrap();
    }

    for (name, timeline) in [("any", &[][..]), ("named", &["--target-timeline", "1"])] {
        let directory = world.path(name);
        let mut args = vec!["restore", "--target-directory", &directory];
        args.extend(timeline);
        world.run(&args).await.ok();
        let restored = Server::start(&world, Path::new(&directory), 5433).await;
        assert_eq!(restored.sql("SELECT count(*) FROM kept").await, "1");
        // A used number is not used again.
        let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
        restored.sql("CHECKPOINT").await;
        assert_eq!(restored.sql(timeline).await, "8");
        restored.stop();
    }
}

/// The last segment is damaged in both buckets: earlier targets can still be restored.
#[tokio::test(flavor = "multi_thread")]
async fn last_segment_damaged_then_earlier_targets_restored() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE kept (g int)").await;
    world.run(&["backup"]).await.ok();
    server.sql("INSERT INTO kept VALUES (1)").await;
    let within = server.sql("SELECT pg_current_wal_lsn()").await;
    server.archive_all().await;
    server.archive_all().await;
    server.stop();
    let last = segments(&world).pop().unwrap();
    for store in [&world.near, &world.far] {
        let objects = store.objects();
        let object = objects
            .iter()
            .find(|(key, _)| key.ends_with(&last))
            .unwrap();
        let mut bytes = fs::read(&object.1).unwrap();
        let at = bytes.len() - 30;
        bytes[at] ^= 1;
        fs::write(&object.1, bytes).unwrap();
    }

    let directory = world.path("latest");
    let latest = ["restore", "--target-directory", &directory];
    world
        .run(&latest)
        .await
        .fails_with(20, &format!("`{last}` cannot be read"));
    for target in [
        &["--target-immediate"][..],
        &["--target-lsn", &within],
        &["--standby"],
    ] {
        let directory = world.path(target[0]);
        let mut args = vec!["restore", "--target-directory", &directory];
        args.extend(target);
        world.run(&args).await.ok();
    }
}
