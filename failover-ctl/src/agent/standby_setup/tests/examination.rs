//! Standbys compared with the primary's history before they start or while they do not stream.

use super::*;

/// A standby that has more than the new primary, and is examined while it is down.
#[tokio::test]
async fn diverged_standby_is_down_then_rewind_needed() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    c.become_standby_of(&a).await;
    b.shut_down();
    a.sql(&format!("insert into kept values ('{MARKER}')"));
    c.until(ROWS, MARKER);
    a.crash();
    c.crash();
    b.start();
    b.promote(1, 2);

    let follower = c.follower(&b);
    let examined = follower.examine(false).await.unwrap();
    let RejoinNeed::Rewind(Divergence::Past { timeline, .. }) = examined.need else {
        panic!("{examined:?}");
    };
    assert_eq!(timeline.get(), 1);
    follower
        .prepare(DataDirectoryState::Primary, false)
        .await
        .unwrap();
    assert!(holds(&single_save(&c), MARKER));
    let examined = follower.examine(false).await.unwrap();
    assert_eq!(examined.need, RejoinNeed::Ready, "after it was rewound");
    follower.write_replication_settings().unwrap();
    assert_rejoins(&c, "");
}

/// The same standby is started although the primary is unreachable, and finds the new timeline in the archive: no data
/// page had diverged, so PostgreSQL follows it, and leaves its own WAL behind.
#[tokio::test]
async fn diverged_tail_left_behind_then_saved() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    c.become_standby_of(&a).await;
    b.shut_down();
    a.sql(&format!("insert into kept values ('{MARKER}')"));
    c.until(ROWS, MARKER);
    a.crash();
    c.crash();
    b.start();
    b.promote(1, 2);
    b.sql("insert into kept values ('on 2')");
    let mut follower = c.follower(&b);
    let archive = b.data().join("pg_wal");
    follower.host.postgres.restore_command = Some(format!("cp '{}/%f' '%p'", archive.display()));
    follower.write_replication_settings().unwrap();
    c.start_standby();
    c.until(ROWS, "on 2");

    let examined = follower.compare_all().await.unwrap();

    assert_eq!(examined.need, RejoinNeed::Ready, "it follows already");
    assert!(holds(&single_save(&c), MARKER));
}

#[tokio::test]
async fn standby_that_stops_before_fork_then_ready() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    c.become_standby_of(&a).await;
    c.crash();
    a.sql("insert into kept values ('on 1')");
    b.until(ROWS, "on 1");
    a.crash();
    b.promote(1, 2);

    let follower = c.follower(&b);
    let examined = follower.examine(false).await.unwrap();
    assert_eq!(examined.need, RejoinNeed::Ready);
    follower.write_replication_settings().unwrap();
    assert_rejoins(&c, "on 1");
}

#[tokio::test]
async fn wal_removed_on_primary_then_copy_needed() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    b.shut_down();
    a.configure("wal_keep_size = 0\nmax_wal_size = 2MB");
    a.sql("select pg_reload_conf()");
    for _ in 0..6 {
        a.sql("insert into kept values ('x'); select pg_switch_wal()");
        a.sql("checkpoint");
    }
    b.start_standby();

    let examined = b.follower(&a).examine(true).await.unwrap();
    assert!(matches!(examined.need, RejoinNeed::Copy(_)), "{examined:?}");

    // With an archive that has the segment, PostgreSQL fetches it.
    let archive = b.root.join("archive");
    fs::create_dir(&archive).unwrap();
    let mut follower = b.follower(&a);
    follower.host.postgres.restore_command =
        Some(format!("touch '{}/%f' && touch '%p'", archive.display()));
    let examined = follower.examine(true).await.unwrap();
    assert_eq!(examined.need, RejoinNeed::Ready, "{examined:?}");

    b.shut_down();
    b.follower(&a)
        .prepare(DataDirectoryState::Standby, true)
        .await
        .unwrap();
    assert!(!b.state().join("diverged").exists(), "nothing had diverged");
    assert_rejoins(&b, "x,x,x,x,x,x");
}

#[tokio::test]
async fn replication_refused_then_reason_named() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    b.shut_down();
    a.sql("alter role replicator nologin");
    b.start_standby();

    let examined = b.follower(&a).examine(true).await.unwrap();
    let why = examined.why.unwrap();
    assert!(why.contains("not permitted to log in"), "{why}");
}

#[tokio::test]
async fn settings_below_primary_then_raised_and_started() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    b.shut_down();
    a.shut_down();
    a.configure("max_connections = 55\nmax_locks_per_transaction = 100");
    a.start();
    b.start_standby();
    // It replays the change and pauses.
    b.until("select pg_is_wal_replay_paused()", "t");
    b.shut_down();

    let follower = b.follower(&a);
    let raised = follower.raise_replication_settings().await.unwrap();
    b.chown_to_postgres();
    let raised: Vec<_> = raised
        .iter()
        .map(|setting| (setting.name, setting.required))
        .collect();
    assert_eq!(
        raised,
        [("max_connections", 55), ("max_locks_per_transaction", 100)]
    );
    assert_eq!(
        follower.raise_replication_settings().await.unwrap(),
        [],
        "it is enough"
    );
    assert!(
        !follower.write_replication_settings().unwrap(),
        "what was raised stays"
    );
    a.sql("insert into kept values ('after')");
    assert_rejoins(&b, "after");
    assert_eq!(b.sql("show max_connections"), "55");
}
