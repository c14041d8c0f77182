//! An object counts as a copy only if its content is the same, and a bucket's own backups determine
//! the WAL that it should have.

use std::fs;

use crate::agent::{World, give_to_postgres, wait_for};
use crate::postgres::Server;
use crate::wal::{host, object, segment};

const NAME: &str = "000000010000000000000003";

/// Two servers archive under one name, each while the other's bucket is away.
#[tokio::test(flavor = "multi_thread")]
async fn other_content_in_one_bucket_then_named_until_it_is_gone() {
    for has_identity in [true, false] {
        let world = pushed_apart(b"one server's", b"the other's", has_identity).await;
        let refused = world.run(&["wal", "backfill"]).await;
        let refused = refused.fails_with(27, NAME);
        let why = if has_identity {
            "they contain different WAL"
        } else {
            "only a host with an identity can compare them"
        };
        assert!(refused.stderr.contains(why), "{refused:?}");
        assert!(
            refused
                .stdout
                .contains("far: 0 objects copied, 1 lacking since"),
            "{refused:?}"
        );
        let metrics = fs::read_to_string(world.path("metrics.prom")).unwrap();
        let lacking = "backup_bucket_lacking_files{bucket=\"far\"} 1";
        assert!(metrics.contains(lacking), "{metrics}");

        let (near, far) = (&world.near, &world.far);
        fs::remove_file(object(&world, &far.objects(), NAME)).unwrap();
        world.run(&["wal", "backfill"]).await.ok();
        let read =
            |store: &crate::store::Store| fs::read(object(&world, &store.objects(), NAME)).unwrap();
        assert!(read(near) == read(far));
    }
}

/// A segment is archived again after a crash between the push and PostgreSQL's record of it.
#[tokio::test(flavor = "multi_thread")]
async fn same_content_of_two_pushes_then_filled() {
    let world = pushed_apart(b"same", b"same", true).await;
    world.run(&["wal", "backfill"]).await.ok();

    let world = pushed_apart(b"same", b"same", false).await;
    world.run(&["wal", "backfill"]).await.fails_with(27, NAME);
    let path = segment(&world, 1, 3, b"same");
    wait_for("a push that reaches the far bucket", async || {
        // A push skips a recently unavailable bucket for 15 s.
        drop(fs::remove_file(world.path("state/down/far")));
        world.run(&["wal", "push", &path]).await.ok();
        let mut noted = fs::read_dir(world.path("state/lacking/far")).unwrap();
        noted.next().is_none().then_some(())
    })
    .await;
    world.run(&["wal", "backfill"]).await.ok();
}

/// The records of the host that pushed are lost, so only a comparison finds it.
#[tokio::test(flavor = "multi_thread")]
async fn object_of_another_length_without_a_note_then_named() {
    for (name, foreign) in [("far", &b"x"[..]), ("near", b"")] {
        let world = host().await;
        let path = segment(&world, 1, 3, b"rows");
        world.run(&["wal", "push", &path]).await.ok();
        let store = if name == "far" {
            &world.far
        } else {
            &world.near
        };
        fs::write(
            object(&world, &store.objects(), NAME),
            foreign.repeat(50_000),
        )
        .unwrap();
        let refused = world.run(&["wal", "backfill"]).await;
        let text = format!("`{name}` has another object under ");
        let refused = refused.fails_with(27, &text);
        let line = format!("{name}: 0 objects copied, 1 lacking");
        assert!(refused.stdout.contains(&line), "{refused:?}");
    }
}

/// A difference that the listing does not show: both have the same length.
#[tokio::test(flavor = "multi_thread")]
async fn other_history_in_one_bucket_then_named() {
    let mut world = host().await;
    let path = world.path("data/pg_wal/00000002.history");
    let write = |lsn: &str| {
        fs::write(&path, format!("1\t{lsn}\tno recovery target specified\n")).unwrap();
        give_to_postgres(path.as_ref());
    };
    world.configure(without_near);
    write("0/480000");
    world.run(&["wal", "push", &path]).await.ok();
    world.configure(str::to_owned);
    world.far.stop().await;
    write("0/580000");
    world.run(&["wal", "push", &path]).await.ok();
    world.forget("state");
    world.far.come_back().await;

    let refused = world.run(&["wal", "backfill"]).await;
    let refused = refused.fails_with(27, "they contain different WAL");
    let line = "far: 0 objects copied, 1 lacking";
    assert!(refused.stdout.contains(line), "{refused:?}");
}

/// A conflicting object does not delay the copies of others.
#[tokio::test(flavor = "multi_thread")]
async fn conflicting_object_then_others_copied() {
    let mut world = pushed_apart(b"one server's", b"the other's", true).await;
    fs::write(object(&world, &world.far.objects(), NAME), "another's").unwrap();
    world.far.stop().await;
    for number in 4..7 {
        let path = segment(&world, 1, number, b"rows");
        world.run(&["wal", "push", &path]).await.ok();
    }
    world.far.come_back().await;
    wait_for("the other segments", async || {
        (world.far.keys().len() == 4).then_some(())
    })
    .await;
    assert_eq!(world.near.keys(), world.far.keys());
}

/// One bucket has lost the first segments that the backup needs, and has no older ones.
#[tokio::test(flavor = "multi_thread")]
async fn wal_missing_for_the_buckets_own_backup_then_copied() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.archive_all().await;
    server.archive_all().await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();
    let listed = world.run(&["list", "--json"]).await.ok().json();
    let lsn = listed["backups"][0]["start-lsn"].as_str().unwrap();
    let (_, low) = lsn.split_once('/').unwrap();
    let first = u64::from_str_radix(low, 16).unwrap() >> 20;
    let name = |timeline: u32, number: u64| format!("{timeline:08X}00000000{number:08X}");
    for number in first - 2..=first + 1 {
        let path = object(&world, &world.far.objects(), &name(1, number));
        fs::remove_file(path).unwrap();
    }
    // A branch that was abandoned before the backup, and that only one bucket still has.
    let near = object(&world, &world.near.objects(), &name(1, first - 1));
    let branch = near.parent().unwrap().with_file_name("00000002");
    fs::create_dir(&branch).unwrap();
    fs::copy(&near, branch.join(name(2, first - 1))).unwrap();
    world.configure(|settings| settings.replace("identity-file", "#identity-file"));

    world.run(&["wal", "backfill"]).await.ok();
    let held = world.far.keys();
    let holds = |name: String| held.iter().any(|key| key.ends_with(&name));
    assert!(
        holds(name(1, first)) && holds(name(1, first + 1)),
        "{held:?}"
    );
    assert!(
        !holds(name(1, first - 2)) && !holds(name(1, first - 1)),
        "{held:?}"
    );
    assert!(!holds(name(2, first - 1)), "{held:?}");
}

/// Returns a world in which the far bucket has a segment from a push of its own, which is recorded
/// as missing.
async fn pushed_apart(near: &[u8], far: &[u8], has_identity: bool) -> World {
    let mut world = host().await;
    world.configure(without_near);
    let path = segment(&world, 1, 3, far);
    world.run(&["wal", "push", &path]).await.ok();
    let metrics = world.path("metrics.prom");
    world.configure(|settings| {
        let settings = format!("{settings}[metrics]\ntextfile = \"{metrics}\"\n");
        if has_identity {
            return settings;
        }
        settings.replace("identity-file", "#identity-file")
    });
    world.far.stop().await;
    let path = segment(&world, 1, 3, near);
    world.run(&["wal", "push", &path]).await.ok();
    world.far.come_back().await;
    world
}

fn without_near(settings: &str) -> String {
    let (top, buckets) = settings.split_once("[[buckets]]\nname = \"near\"").unwrap();
    let (_, far) = buckets.split_once("[[buckets]]").unwrap();
    format!("{top}[[buckets]]{far}")
}
