//! Base backups of a real server, and their restores.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::agent::{World, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::postgres::Server;

const MARKER: &str = "causeway_plaintext_marker";

#[tokio::test(flavor = "multi_thread")]
async fn table_dropped_then_restored_to_the_end_and_to_before() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let elsewhere = world.directory.path().join("tablespace");
    create_tables(&server, &elsewhere).await;

    let early = server.sql("SELECT to_json(now()) #>> '{}'").await;
    let made = world
        .run(&["backup", "--label", MARKER, "--json"])
        .await
        .ok();
    assert_eq!(made.json()["left-out"], serde_json::json!([]));
    server
        .sql("INSERT INTO kept SELECT generate_series(1001, 2000)")
        .await;
    let before = server
        .sql("SELECT to_json(clock_timestamp()) #>> '{}'")
        .await;
    server.sql(&format!("DROP TABLE {MARKER}")).await;
    server
        .sql("INSERT INTO kept SELECT generate_series(2001, 3000)")
        .await;
    server.archive_all().await;

    let listed = world.run(&["list", "--json"]).await.ok().json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1);
    assert_eq!(listed["backups"][0]["label"], MARKER);
    assert_eq!(
        listed["backups"][0]["buckets"],
        serde_json::json!(["near", "far"])
    );
    world
        .run(&[
            "restore",
            "--target-time",
            &early,
            "--target-directory",
            &world.path("r0"),
        ])
        .await
        .fails_with(20, "possible from");

    let old = elsewhere.display();
    for (name, target, rows, dropped) in [
        ("latest", None, "3000", true),
        ("point", Some(&before), "2000", false),
    ] {
        let directory = world.path(name);
        let mapping = format!("{old}={}", world.path(&format!("{name}-side")));
        let mut args = vec!["restore", "--target-directory", &directory];
        args.extend(["--tablespace-mapping", &mapping]);
        let promote = ["--target-action", "promote", "--target-time"];
        args.extend(
            target
                .iter()
                .flat_map(|line| promote.into_iter().chain([line.as_str()])),
        );
        world.run(&args).await.ok();
        let restored = Server::start(&world, Path::new(&directory), 5433).await;
        check_tables(&restored, rows, dropped).await;
        restored.stop();
        world.run(&args).await.fails_with(21, "is not empty");
    }
    server.stop();
    check_nothing_readable(&world);
}

/// Creates the marker table, a table in a tablespace at `elsewhere`, and an unlogged one.
async fn create_tables(server: &Server, elsewhere: &Path) {
    fs::create_dir(elsewhere).unwrap();
    give_to_postgres(elsewhere);
    server
        .sql(&format!(
            "CREATE TABLESPACE side LOCATION '{}'",
            elsewhere.display()
        ))
        .await;
    server
        .sql(&format!(
            "CREATE TABLE {MARKER} AS SELECT g, '{MARKER}_' || g AS t FROM generate_series(1, 20000) g; \
             CREATE TABLE kept (g int) TABLESPACE side; \
             INSERT INTO kept SELECT generate_series(1, 1000); \
             CREATE UNLOGGED TABLE fleeting AS SELECT 1"
        ))
        .await;
}

/// Checks the tables of a restored server: `rows` in the tablespace, and the marker table unless it
/// was `dropped`.
async fn check_tables(restored: &Server, rows: &str, dropped: bool) {
    assert_eq!(restored.sql("SELECT count(*) FROM kept").await, rows);
    assert_eq!(restored.sql("SELECT count(*) FROM fleeting").await, "0");
    let there = format!("SELECT to_regclass('{MARKER}') IS NULL");
    assert_eq!(restored.sql(&there).await, if dropped { "t" } else { "f" });
    if !dropped {
        let sum = format!("SELECT count(*), sum(g) FROM {MARKER}");
        assert_eq!(restored.sql(&sum).await, "20000|200010000");
    }
}

/// Searches for text, names and page contents in all files of the two services.
fn check_nothing_readable(world: &World) {
    let mut seen = 0;
    for path in world
        .near
        .everything()
        .iter()
        .chain(&world.far.everything())
    {
        let bytes = fs::read(path).unwrap();
        for secret in [
            MARKER,
            "kept",
            "pg_class",
            "base/5",
            "PG_VERSION",
            "AGE-SECRET-KEY",
        ] {
            let found = bytes
                .windows(secret.len())
                .any(|bytes| bytes == secret.as_bytes());
            // Four letters occur by chance in a few megabytes; the longer texts do not.
            assert!(
                !found || secret.len() < 6,
                "`{secret}` in {}",
                path.display()
            );
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen} files were looked at");
}

/// Money is moved between accounts, in transactions, while the files are read: the restored tables
/// are consistent, whatever state each page was read in.
#[tokio::test(flavor = "multi_thread")]
async fn backup_under_writes_then_consistent_after_replay() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server
        .sql(
            "CREATE TABLE account AS SELECT g AS id, 100 AS balance FROM generate_series(1, 50000) g; \
             CREATE INDEX ON account (id); CREATE TABLE moved (n int); \
             CREATE PROCEDURE churn() LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..400 LOOP \
             UPDATE account SET balance = balance + CASE WHEN id % 2 = 0 THEN 1 ELSE -1 END \
             WHERE id BETWEEN n * 100 AND n * 100 + 199; \
             INSERT INTO moved VALUES (n); COMMIT; END LOOP; END $$",
        )
        .await;

    let (_, made) = tokio::join!(server.sql("CALL churn()"), world.run(&["backup"]));
    made.ok();
    let sums = "SELECT count(*), sum(balance), (SELECT count(*) FROM moved) FROM account";
    let expected = server.sql(sums).await;
    server.archive_all().await;

    let directory = world.path("restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .ok();
    let restored = Server::start(&world, Path::new(&directory), 5433).await;
    assert_eq!(restored.sql(sums).await, expected);
    assert_eq!(expected, "50000|5000000|400");
    let by_index = "SET enable_seqscan = off; SELECT balance FROM account WHERE id = 20000";
    assert_eq!(restored.sql(by_index).await, server.sql(by_index).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_away_then_backup_succeeds_and_reports_it() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.near.stop().await;

    let made = world.run(&["backup", "--json"]).await.ok();
    assert_eq!(made.json()["left-out"], serde_json::json!(["near"]));
    server.archive_all().await;
    assert!(world.near.keys().is_empty());

    let directory = world.path("restored");
    world
        .run(&["restore", "--from", "far", "--target-directory", &directory])
        .await
        .ok();
    let restored = Server::start(&world, Path::new(&directory), 5433).await;
    assert_eq!(
        restored.sql("SELECT to_regclass('tick') IS NULL").await,
        "f"
    );

    world.near.come_back().await;
    world.run(&["wal", "backfill"]).await.ok();
    let log = |keys: Vec<String>| -> Vec<String> {
        keys.into_iter()
            .filter(|key| key.contains("/wal/"))
            .collect()
    };
    assert_eq!(log(world.near.keys()), log(world.far.keys()));
    let states = fs::read_dir(world.path("state/lacking/near")).unwrap();
    assert_eq!(states.count(), 0, "what was brought is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_unreadable_then_older_wal_not_compared() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.configure(|settings| settings.replace("identity.txt", "missing.txt"));

    let made = world.run(&["backup", "--json"]).await.ok().json();
    let why = made["wal-not-compared"][0].as_str().unwrap();
    assert!(why.contains("missing.txt"), "{why}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_buckets_then_no_backup() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.configure(|settings| settings.replace("required-buckets = 1", "required-buckets = 2"));
    world.far.stop().await;

    world
        .run(&["backup"])
        .await
        .fails_with(14, "1 of 2 required buckets");

    assert!(
        !world
            .near
            .keys()
            .iter()
            .any(|key| key.ends_with("/manifest"))
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_killed_then_not_listed_and_next_one_succeeds() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let incompressible = "SELECT string_agg(sha512((g * 64 + i)::text::bytea), '') \
                          FROM generate_series(1, 60) i";
    server
        .sql(&format!(
            "CREATE TABLE bulk AS SELECT ({incompressible}) FROM generate_series(1, 12000) g"
        ))
        .await;

    let mut killed = world.command(&["backup"]).spawn().unwrap();
    wait_for("the first pack", async || {
        let keys = world.near.keys();
        keys.iter().any(|key| key.contains("/pack/")).then_some(())
    })
    .await;
    assert!(
        killed.try_wait().unwrap().is_none(),
        "it was killed in the middle"
    );
    killed.kill().await.unwrap();

    let listed = world.run(&["list", "--json"]).await.ok().json();
    assert_eq!(listed["backups"], serde_json::json!([]));
    let directory = world.path("restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .fails_with(20, "there is no backup");

    world.run(&["backup"]).await.ok();
    let listed = world.run(&["list", "--json"]).await.ok().json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1);
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .ok();
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_page_then_no_backup_damaged_pack_then_no_restore() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server
        .sql("CREATE TABLE t AS SELECT generate_series(1, 5000)")
        .await;
    world.run(&["backup"]).await.ok();
    let file = server
        .sql("CHECKPOINT; SELECT pg_relation_filepath('t')")
        .await;

    let pack = |store: &crate::store::Store| {
        let objects = store.objects();
        let pack = objects.iter().find(|(key, _)| key.contains("/pack/"));
        pack.unwrap().1.clone()
    };
    flip(&pack(&world.near), 100_000);
    // One good copy is enough; without one the restore fails, and what it leaves cannot be started.
    let directory = world.path("restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .ok();
    flip(&pack(&world.far), 100_000);
    let directory = world.path("not-restored");
    world
        .run(&["restore", "--target-directory", &directory])
        .await
        .fails_with(17, "was altered");
    assert!(!Path::new(&directory).join("global/pg_control").exists());

    flip(Path::new(&world.path("data")).join(file).as_path(), 5000);
    let refused = world.run(&["backup"]).await.fails_with(18, ": 1 block (0)");
    assert!(refused.stderr.contains("1 pages"), "{refused:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_away_then_check_names_the_bucket() {
    let mut world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["check"]).await.ok();

    world.far.stop().await;
    let checked = world.run(&["check"]).await.fails_with(22, "9 of 20 checks");
    assert!(checked.stdout.contains("FAILED bucket far"), "{checked:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_of_another_cluster_then_check_names_both_identifiers() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["check"]).await.ok();
    let objects = world.near.objects();
    let written = objects.iter().find(|(key, _)| key.ends_with("write-check"));
    let prefix = written.unwrap().1.parent().unwrap();
    fs::create_dir_all(prefix.join("7/wal")).unwrap();
    fs::write(prefix.join("7/wal/x"), "of another cluster").unwrap();

    let sql = "SELECT system_identifier FROM pg_control_system()";
    let own = server.sql(sql).await;
    let says = format!("holds objects of system identifier 7, and none of {own}");
    let checked = world.run(&["check"]).await.fails_with(22, "1 of 20 checks");
    assert!(checked.stdout.contains(&says), "{checked:?}");

    server.archive_all().await;
    world.run(&["backup"]).await.ok();
    let checked = world.run(&["check"]).await.ok();
    let note = "ok     system identifiers below `main/`: also 7: ";
    assert!(checked.stdout.contains(note), "{checked:?}");
    server.stop();
}

/// Of two writes of one key the second must be refused, and this store accepts it.
#[tokio::test(flavor = "multi_thread")]
async fn store_overwrites_then_check_names_it() {
    let world = crate::wal::host().await;
    let faults = &world.near.faults;
    faults.add("PUT", "write-check", 1, Fault::Delay(Duration::ZERO));
    faults.add(
        "PUT",
        "write-check",
        1,
        Fault::Delay(Duration::from_secs(4)),
    );
    let written = async || {
        let objects = world.near.objects();
        let first = objects.iter().find(|(key, _)| key.ends_with("write-check"));
        first.map(|(_, path)| path.clone())
    };
    let forget = async {
        let path = wait_for("the first write", written).await;
        fs::remove_file(path).unwrap();
    };
    let (checked, ()) = tokio::join!(world.run(&["check"]), forget);
    let checked = checked.fails_with(22, "checks failed");
    let named = "FAILED conditional write in bucket near: it overwrote";
    assert!(checked.stdout.contains(named), "{checked:?}");
    assert!(
        checked
            .stdout
            .contains("ok     conditional write in bucket far"),
        "{checked:?}"
    );
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}
