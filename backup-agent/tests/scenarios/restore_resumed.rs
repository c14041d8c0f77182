//! A restore that is interrupted and run again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::agent::{World, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::postgres::Server;
use crate::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn killed_then_only_missing_packs_fetched() {
    let (world, server) = with_packs().await;
    let packs = packs(&world.near);
    assert!(packs >= 5, "{packs}");
    let copy = world.path("copy");
    let side = format!(
        "--tablespace-mapping={}={}",
        world.path("side"),
        world.path("copy-side")
    );
    let restore = [
        "restore",
        "--from",
        "near",
        "--target-directory",
        &copy,
        &side,
    ];

    // The rest arrives slowly enough to kill the restore meanwhile.
    let faults = &world.near.faults;
    faults.add("GET", "/pack/", 3, Fault::SlowBody(1 << 30));
    faults.add("GET", "/pack/", 100, Fault::SlowBody(1000));
    let mut killed = world.command(&restore).spawn().unwrap();
    let mut seen = BTreeSet::new();
    wait_for("the fifth pack to be asked for", async || {
        (asked(&world.near, &mut seen) >= 5).then_some(())
    })
    .await;
    killed.kill().await.unwrap();
    faults.clear();
    assert!(!Path::new(&copy).join("global/pg_control").exists());
    // Bytes that a power loss set to zero, a file that grew, and one that is not part of the
    // backup.
    let grown = Path::new(&copy).join("bulk/0");
    let mut bytes = fs::read(&grown).unwrap();
    let zeros = bytes.len().min(8192);
    bytes[..zeros].fill(0);
    bytes.resize(7 << 20, 1);
    fs::write(&grown, bytes).unwrap();
    fs::write(Path::new(&copy).join("recovery.signal"), "").unwrap();
    fs::write(Path::new(&copy).join("base/of_another"), "x").unwrap();

    asked_now(&world.near);
    let ran = world.run(&restore).await.ok();
    let again = asked_now(&world.near);
    assert!(again < packs, "{again} of {packs} packs: {ran:?}");
    assert!(!Path::new(&copy).join("base/of_another").exists());
    for place in [&copy, &world.path("copy-side")] {
        assert!(!Path::new(place).join("backup-agent.restore").exists());
    }
    is_whole(&world, &server, &copy).await;
    world.run(&restore).await.fails_with(21, "is not empty");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_responses_then_restored_without_a_second_run() {
    let (world, server) = with_packs().await;
    let side = format!("--tablespace-directory={}", world.path("sides"));
    let faults = &world.near.faults;
    for fault in [
        Fault::Error(503, "SlowDown"),
        Fault::CutBody,
        Fault::LostAnswer,
        Fault::Error(500, "InternalError"),
    ] {
        faults.add("GET", "/pack/", 1, fault);
        faults.add("GET", "/manifest", 1, fault);
    }
    let copy = world.path("copy");
    world
        .run(&[
            "restore",
            "--from",
            "near",
            "--target-directory",
            &copy,
            &side,
        ])
        .await
        .ok();
    is_whole(&world, &server, &copy).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_away_then_next_run_resumes() {
    let (world, server) = with_packs().await;
    let packs = packs(&world.near);
    let sides = format!("--tablespace-directory={}", world.path("sides"));
    let copy = world.path("copy");
    let mut restore = vec!["restore", "--target-directory", &copy, &sides];
    restore.extend(["--from", "near", "--retry-timeout-secs", "1"]);
    let faults = &world.near.faults;
    faults.add("GET", "/pack/", 3, Fault::SlowBody(1 << 30));
    faults.add("GET", "/pack/", 1000, Fault::Error(503, "SlowDown"));
    let ran = world
        .run(&restore)
        .await
        .fails_with(14, "the same command resumes it");
    assert!(ran.stderr.contains("/pack/"), "{ran:?}");
    faults.clear();

    // A newer backup is not the one in the directory.
    world.run(&["backup"]).await.ok();
    let (all, listed) = (world.run(&["list", "--json"]).await.ok().json(), "backups");
    let newest = all[listed][1]["id"].as_str().unwrap().to_owned();
    let mut other = restore.clone();
    other.extend(["--backup", &newest]);
    world
        .run(&other)
        .await
        .fails_with(24, "remove the directory");
    let elsewhere = format!("--tablespace-directory={}", world.path("elsewhere"));
    let mut moved = restore.clone();
    moved[3] = &elsewhere;
    world
        .run(&moved)
        .await
        .fails_with(24, "pass the same mappings");

    // One copy of a pack is damaged: the other bucket has a valid one.
    asked_now(&world.near);
    let first = world.near.objects();
    let pack = first
        .iter()
        .find(|(key, _)| key.ends_with("/pack/00000003"));
    let mut bytes = fs::read(&pack.unwrap().1).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&pack.unwrap().1, bytes).unwrap();
    let both = ["restore", "--target-directory", &copy, &sides];
    world.run(&both).await.ok();
    assert!(asked_now(&world.near) < packs);
    is_whole(&world, &server, &copy).await;
    server.stop();
}

/// The first region returns errors: that is detected once, and not once per pack.
#[tokio::test(flavor = "multi_thread")]
async fn first_region_fails_then_few_packs_requested_there() {
    let (world, server) = with_packs().await;
    let sides = format!("--tablespace-directory={}", world.path("sides"));
    let copy = world.path("copy");
    let away = Fault::Error(503, "SlowDown");
    world.near.faults.add("GET", "/pack/", 1000, away);
    asked_now(&world.near);
    let ran = world
        .run(&["restore", "--target-directory", &copy, &sides])
        .await
        .ok();
    // As many as are read concurrently.
    assert!(asked_now(&world.near) <= 2, "{ran:?}");
    server.stop();
}

/// Returns a server with a backup of several packs: files that PostgreSQL does not know produce no
/// WAL.
async fn with_packs() -> (World, Server) {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let side = world.path("side");
    let bulk = world.path("data/bulk");
    for path in [&side, &bulk] {
        fs::create_dir(path).unwrap();
        give_to_postgres(Path::new(path));
    }
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for number in 0..6 {
        let mut bytes = vec![0; 6 << 20];
        random.read_exact(&mut bytes).unwrap();
        fs::write(format!("{bulk}/{number}"), bytes).unwrap();
    }
    // Leftovers of a restore that was killed at its very end are not part of the backup.
    for left in ["backup-agent.restore", "global/pg_control.unfinished"] {
        fs::write(world.path(&format!("data/{left}")), "{}").unwrap();
    }
    server
        .sql(&format!("CREATE TABLESPACE side LOCATION '{side}'"))
        .await;
    server
        .sql("CREATE TABLE kept TABLESPACE side AS SELECT generate_series(1, 1000) g")
        .await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    (world, server)
}

/// Starts a copy, and compares it with the original.
async fn is_whole(world: &World, server: &Server, copy: &str) {
    for number in 0..6 {
        let of = |root: &str| fs::read(format!("{root}/bulk/{number}")).unwrap();
        assert!(of(copy) == of(&world.path("data")), "bulk/{number}");
    }
    let restored = Server::start(world, Path::new(copy), 5433).await;
    let sum = "SELECT count(*), sum(g) FROM kept";
    assert_eq!(restored.sql(sum).await, server.sql(sum).await);
    restored.stop();
}

fn packs(store: &Store) -> usize {
    let keys = store.keys();
    keys.iter().filter(|key| key.contains("/pack/")).count()
}

/// Returns the number of different packs requested since `seen` was empty.
fn asked(store: &Store, seen: &mut BTreeSet<String>) -> usize {
    let requests = store.faults.take_requests().into_iter();
    seen.extend(
        requests.filter(|request| request.starts_with("GET") && request.contains("/pack/")),
    );
    seen.len()
}

/// Returns the number of different packs requested since the last call.
fn asked_now(store: &Store) -> usize {
    asked(store, &mut BTreeSet::new())
}
