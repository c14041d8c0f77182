//! A primary fails over with its standby behind it: the archive has its WAL after the fork, which
//! does not belong to servers on the new timeline.

use std::path::Path;
use std::process::Command;

use crate::agent::{World, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::postgres::Server;

const ROWS: &str = "SELECT string_agg(t || ' ' || n, ', ' ORDER BY t) FROM \
                    (SELECT t, count(*) AS n FROM kept GROUP BY t) AS counted";

#[tokio::test(flavor = "multi_thread")]
async fn first_segment_not_archived_then_restore_ends_at_the_fork() {
    let forked = Forked::new(OldPrimary::WentOn).await;
    let world = &forked.world;

    let directory = world.path("latest");
    let restore = ["restore", "--target-directory", &directory];
    let refused = world.run(&restore).await;
    let refused = refused.fails_with(20, "the target does not select one");
    let reach = "no segment of timeline 2 is archived yet, and timeline 1 continues to";
    assert!(refused.stderr.contains(reach), "{refused:?}");
    let asked = [&restore[..], &["--target-timeline=2"]].concat();
    world.run(&asked).await.ok();
    let copy = Server::start(world, Path::new(&directory), 5440).await;
    assert_eq!(copy.sql(ROWS).await, "common 12", "{}", copy.log());
    copy.stop();

    for (number, target) in [
        ["--target-time", &forked.in_the_branch],
        ["--target-lsn", &forked.branch_end],
    ]
    .iter()
    .enumerate()
    {
        let directory = world.path(&format!("target-{number}"));
        let mut restore = vec!["restore", "--target-directory", &directory];
        restore.extend(target);
        world.run(&restore).await.fails_with(20, "timeline 2");
    }

    let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
    let named = "FAILED newest backup on the newest timeline: no segment of timeline 2 is archived";
    assert!(checked.stdout.contains(named), "{checked:?}");

    // A backup of the branch is not used, and `check` reports that, until its timeline is requested
    // by its number.
    let old = Server::start(world, Path::new(&world.path("data")), 5432).await;
    world.run(&["backup"]).await.ok();
    let checked = world.run(&["check"]).await.fails_with(22, "1 of");
    let named = "FAILED newest backup on the newest timeline: timeline 2 left timeline 1 before";
    assert!(checked.stdout.contains(named), "{checked:?}");
    old.stop();
    let directory = world.path("branch");
    world
        .run(&[
            "restore",
            "--target-timeline=1",
            "--target-directory",
            &directory,
        ])
        .await
        .ok();
    let copy = Server::start(world, Path::new(&directory), 5440).await;
    assert_eq!(copy.sql(ROWS).await, "common 12, lost 20", "{}", copy.log());
    copy.stop();
    forked.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn first_segment_not_archived_then_standby_waits_at_the_fork() {
    let forked = Forked::new(OldPrimary::WentOn).await;
    let world = &forked.world;
    let directory = world.path("standby");
    world
        .run(&["restore", "--standby", "--target-directory", &directory])
        .await
        .ok();
    let standby = Server::start_standby(world, Path::new(&directory), 5440).await;
    wait_for("the rows before the fork", async || {
        (standby.sql(ROWS).await == "common 12").then_some(())
    })
    .await;

    forked.new_primary.archive_all().await;
    wait_for("the rows of timeline 2", async || {
        (standby.sql(ROWS).await == "common 12, on 2 7").then_some(())
    })
    .await;
    standby.stop();
    forked.end();
}

/// PostgreSQL treats a history that it does not receive as absent.
#[tokio::test(flavor = "multi_thread")]
async fn history_in_one_bucket_that_fails_then_standby_follows_it() {
    let forked = Forked::new(OldPrimary::WentOn).await;
    let world = &forked.world;
    forked.new_primary.archive_all().await;
    let objects = world.near.objects();
    let history = objects.iter().find(|(key, _)| key.contains("/history/"));
    std::fs::remove_file(&history.unwrap().1).unwrap();
    let directory = world.path("standby");
    world
        .run(&["restore", "--standby", "--target-directory", &directory])
        .await
        .ok();

    let fails = Fault::Error(503, "SlowDown");
    world.far.faults.add("GET", "00000002.history", 8, fails);
    let standby = Server::start_standby(world, Path::new(&directory), 5440).await;
    wait_for("the rows of timeline 2", async || {
        (standby.sql(ROWS).await == "common 12, on 2 7").then_some(())
    })
    .await;
    standby.stop();
    forked.end();
}

/// The segment in which a server is promoted is archived as `.partial`, which recovery does not
/// request.
#[tokio::test(flavor = "multi_thread")]
async fn timeline_ends_in_a_partial_segment_then_end_reported() {
    let forked = Forked::new(OldPrimary::Ended).await;
    let world = &forked.world;
    forked.new_primary.archive_all().await;
    let history = std::fs::read_to_string(world.path("standby-of-old/pg_wal/00000002.history"));
    let history = history.unwrap();
    let fork = history.split_whitespace().nth(1).unwrap();

    let directory = world.path("end-of-1");
    let restore = ["restore", "--target-directory", &directory];
    let to_its_end = [&restore[..], &["--target-timeline=1"]].concat();
    let advice = format!("`--target-timeline 2 --target-lsn {fork} --target-exclusive`");
    let refused = world.run(&to_its_end).await;
    refused.fails_with(20, &advice);
    let advised = [
        "--target-timeline=2",
        "--target-lsn",
        fork,
        "--target-exclusive",
    ];
    let advised = [&restore[..], &advised].concat();
    world.run(&advised).await.ok();
    let copy = Server::start_standby(world, Path::new(&directory), 5440).await;
    wait_for("the end of timeline 1", async || {
        (copy.sql("SELECT pg_get_wal_replay_pause_state()").await == "paused").then_some(())
    })
    .await;
    assert_eq!(copy.sql(ROWS).await, "common 12", "{}", copy.log());
    copy.stop();
    forked.end();
}

/// State of the old primary after the standby had its last record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OldPrimary {
    /// It wrote other rows, and archived them.
    WentOn,
    /// It was lost.
    Ended,
}

/// Timeline 2 began within a segment, and only its history is archived.
struct Forked {
    world: World,
    new_primary: Server,
    in_the_branch: String,
    branch_end: String,
}

impl Forked {
    async fn new(old_primary: OldPrimary) -> Self {
        let world = World::new().await;
        let server = Server::create(&world).await;
        server.sql("CREATE TABLE kept (t text)").await;
        world.run(&["backup"]).await.ok();
        insert(&server, "common", 2).await;
        server.archive_all().await;
        insert(&server, "common", 10).await;
        server.stop();
        let (data, standby) = (world.path("data"), world.path("standby-of-old"));
        let copied = Command::new("cp").args(["-a", &data, &standby]).status();
        assert!(copied.unwrap().success());

        let (mut in_the_branch, mut branch_end) = (String::new(), String::new());
        if old_primary == OldPrimary::WentOn {
            let old = Server::start(&world, Path::new(&data), 5432).await;
            insert(&old, "lost", 10).await;
            in_the_branch = old.sql("SELECT clock_timestamp()").await;
            insert(&old, "lost", 10).await;
            branch_end = old.sql("SELECT pg_current_wal_lsn()").await;
            old.archive_all().await;
            old.stop();
        }

        let signal = format!("{standby}/standby.signal");
        std::fs::write(&signal, "").unwrap();
        give_to_postgres(signal.as_ref());
        let new_primary = Server::start_standby(&world, Path::new(&standby), 5433).await;
        new_primary.sql("SELECT pg_promote()").await;
        insert(&new_primary, "on 2", 7).await;
        wait_for("the history of timeline 2", async || {
            let keys = world.near.keys();
            keys.iter()
                .any(|key| key.ends_with("00000002.history"))
                .then_some(())
        })
        .await;
        let keys = world.near.keys();
        assert!(
            !keys.iter().any(|key| key.contains("/wal/00000002/")),
            "{keys:?}"
        );
        Self {
            world,
            new_primary,
            in_the_branch,
            branch_end,
        }
    }

    fn end(self) {
        self.new_primary.stop();
    }
}

async fn insert(server: &Server, text: &str, count: u32) {
    let sql = format!("INSERT INTO kept SELECT '{text}' FROM generate_series(1, {count})");
    server.sql(&sql).await;
}
