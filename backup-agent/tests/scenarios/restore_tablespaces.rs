//! Tablespaces of a copy on the host of the original.

use std::fs;
use std::path::Path;

use crate::agent::{World, as_postgres, give_to_postgres};
use crate::postgres::Server;

#[tokio::test(flavor = "multi_thread")]
async fn tablespace_made_after_the_backup_then_live_files_kept() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    let late = world.path("late");
    fs::create_dir(&late).unwrap();
    give_to_postgres(Path::new(&late));
    server
        .sql(&format!("CREATE TABLESPACE late LOCATION '{late}'"))
        .await;
    server
        .sql("CREATE TABLE kept TABLESPACE late AS SELECT 1 AS version, g FROM generate_series(1, 9000) g")
        .await;
    server.archive_all().await;
    // The live server's cache would hide changes to its files.
    server.sql("UPDATE kept SET version = 2; CHECKPOINT").await;
    let before = content(Path::new(&late));

    let copy = world.path("copy");
    world
        .run(&["restore", "--target-directory", &copy])
        .await
        .ok();
    let log = start_fails(&world, &copy).await;
    assert!(log.contains("creates tablespace"), "{log}");
    assert!(log.contains("where another server has its files"), "{log}");
    assert!(
        before == content(Path::new(&late)),
        "the live server's files"
    );
    let live = "SELECT count(*), min(version) FROM kept";
    assert_eq!(server.sql(live).await, "9000|2");

    // On another host the location is free, and the same recovery continues.
    server.stop();
    fs::rename(&late, world.path("elsewhere")).unwrap();
    fs::create_dir(&late).unwrap();
    give_to_postgres(Path::new(&late));
    let copy = Server::start(&world, Path::new(&copy), 5433).await;
    assert_eq!(copy.sql(live).await, "9000|1", "{}", copy.log());
    copy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespace_without_a_place_then_refused() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let side = world.path("side");
    fs::create_dir(&side).unwrap();
    give_to_postgres(Path::new(&side));
    server
        .sql(&format!("CREATE TABLESPACE side LOCATION '{side}'"))
        .await;
    server
        .sql("CREATE TABLE kept TABLESPACE side AS SELECT generate_series(1, 1000)")
        .await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;

    let copy = world.path("copy");
    let restore = ["restore", "--target-directory", &copy];
    let flag = format!("--tablespace-mapping '{side}=NEW'");
    world.run(&restore).await.fails_with(24, &flag);
    let sound = format!("{side}={side}-new");
    let of_nothing = format!("{side}/x={side}-other");
    let mut args = restore.to_vec();
    args.extend(["--tablespace-mapping", &sound]);
    args.extend(["--tablespace-mapping", &of_nothing]);
    let refused = world.run(&args).await;
    refused.fails_with(24, "has no tablespace in");
    for (mapping, code, expected) in [
        (format!("{side}/x={side}-new"), 24, "has no tablespace in"),
        (format!("{side}={side}"), 21, "is not empty"),
        (
            format!("{side}={side}/below"),
            24,
            "is inside the tablespace",
        ),
    ] {
        let mut args = restore.to_vec();
        args.extend(["--tablespace-mapping", &mapping]);
        world.run(&args).await.fails_with(code, expected);
    }
    assert!(!Path::new(&copy).exists());

    let all = world.path("all");
    let mut args = restore.to_vec();
    args.extend(["--tablespace-directory", &all]);
    world.run(&args).await.ok();
    let restored = Server::start(&world, Path::new(&copy), 5433).await;
    assert_eq!(restored.sql("SELECT count(*) FROM kept").await, "1000");
    let place = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'side'";
    assert!(restored.sql(place).await.starts_with(&all));
    restored.stop();
    server.stop();
}

/// Starts a server that stops during recovery, and returns its log.
async fn start_fails(world: &World, directory: &str) -> String {
    let socket = world.directory.path().display();
    let log = Path::new(directory).with_extension("log");
    let started = as_postgres("/usr/lib/postgresql/15/bin/pg_ctl")
        .args([
            "start",
            "--silent",
            "--wait",
            "--timeout=60",
            "-D",
            directory,
        ])
        .arg("-l")
        .arg(&log)
        .args(["-o", &format!("-k {socket} -p 5433")])
        .output()
        .await
        .unwrap();
    // It may accept connections as a standby until recovery reaches that point.
    if started.status.success() {
        crate::agent::wait_for("the end of the server", async || {
            let pid = Path::new(directory).join("postmaster.pid");
            (!pid.exists()).then_some(())
        })
        .await;
    }
    fs::read_to_string(log).unwrap()
}

/// Returns all files below a directory, with their content.
fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
