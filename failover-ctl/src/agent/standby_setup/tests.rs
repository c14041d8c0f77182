//! Directories of real servers that have diverged, or fallen too far behind.

use std::fs;
use std::os::unix::fs::symlink;

use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::rejoin::Divergence;

use super::StandbySetupError;
use super::comparison::RejoinNeed;
use crate::data_directory;
use crate::test_server::{Nodes, TestNode, give, holds};

pub(super) const MARKER: &str = "acknowledged-and-diverged";

const ROWS: &str = "select coalesce(string_agg(t, ',' order by t), '') from kept";

/// A primary and a standby of it, made by the agent's own means.
pub(super) async fn pair(nodes: &Nodes) -> (TestNode, TestNode) {
    let a = nodes.primary("a");
    let b = nodes.node("b");
    standby_of(&a, &b).await;
    (a, b)
}

/// Makes `node` a standby of `primary`, and waits until it streams.
pub(super) async fn standby_of(primary: &TestNode, node: &TestNode) {
    let follower = node.follower(primary);
    follower
        .prepare(DataDirectoryState::Empty, false)
        .await
        .unwrap();
    follower.write_replication_settings().unwrap();
    node.start_standby();
    streams(node);
}

fn streams(node: &TestNode) {
    node.until(
        "select count(*) from pg_stat_wal_receiver where status = 'streaming'",
        "1",
    );
}

/// Rows that only `a` has, after which it is lost and `b` promoted.
pub(super) async fn diverged(nodes: &Nodes) -> (TestNode, TestNode) {
    let (a, b) = pair(nodes).await;
    b.shut_down();
    a.sql(&format!("insert into kept values ('{MARKER}')"));
    a.crash();
    b.start();
    b.promote(1, 2);
    b.sql("insert into kept values ('on 2')");
    (a, b)
}

/// Returns the only save of a node.
#[track_caller]
pub(super) fn only_save(node: &TestNode) -> std::path::PathBuf {
    let saves = fs::read_dir(node.state().join("diverged")).unwrap();
    let saves: Vec<_> = saves.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(saves.len(), 1, "{saves:?}");
    saves[0].clone()
}

pub(super) fn comes_back(node: &TestNode, rows: &str) {
    node.start_standby();
    streams(node);
    node.until(ROWS, rows);
}

#[tokio::test]
async fn old_primary_diverged_then_saved_and_rewound() {
    let nodes = Nodes::new();
    let (a, b) = diverged(&nodes).await;
    let follower = a.follower(&b);

    follower
        .prepare(DataDirectoryState::Primary, false)
        .await
        .unwrap();

    let save = only_save(&a);
    assert!(holds(&save, MARKER), "the row is not in {save:?}");
    let index: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(save.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["fork"]["timeline"], 1, "{index}");
    assert_eq!(index["source"], "b");
    assert!(!index["files"].as_array().unwrap().is_empty());
    assert!(!a.host().rewinding_marker().exists());
    follower.write_replication_settings().unwrap();
    comes_back(&a, "on 2");
}

#[tokio::test]
async fn nowhere_to_save_then_directory_untouched_and_tried_again() {
    let nodes = Nodes::new();
    let (a, b) = diverged(&nodes).await;
    let follower = a.follower(&b);
    fs::write(a.state().join("diverged"), "in the way").unwrap();
    let before = a.picture();

    for rebuild in [false, true] {
        let refused = follower.prepare(DataDirectoryState::Primary, rebuild).await;
        assert!(
            matches!(refused, Err(StandbySetupError::NotSaved(_))),
            "{refused:?}"
        );
        assert_eq!(a.picture(), before, "the directory was changed");
        assert!(!a.host().rewinding_marker().exists());
    }

    fs::remove_file(a.state().join("diverged")).unwrap();
    follower
        .prepare(DataDirectoryState::Primary, true)
        .await
        .unwrap();
    assert!(holds(&only_save(&a), MARKER));
    follower.write_replication_settings().unwrap();
    comes_back(&a, "on 2");
}

#[tokio::test]
async fn primary_silent_then_directory_untouched() {
    let nodes = Nodes::new();
    let (a, b) = diverged(&nodes).await;
    b.shut_down();
    let before = a.picture();

    for rebuild in [false, true] {
        let refused = a
            .follower(&b)
            .prepare(DataDirectoryState::Primary, rebuild)
            .await;
        assert!(
            matches!(refused, Err(StandbySetupError::PrimarySilent(_))),
            "{refused:?}"
        );
        assert_eq!(a.picture(), before);
    }
}

/// The lost primary never checkpointed after its promotion: its control file names timeline 1, and its
/// rows are on 2, which the new primary's history does not have.
#[tokio::test]
async fn lost_before_first_checkpoint_then_rows_of_unknown_timeline_saved() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    standby_of(&a, &c).await;
    a.crash();
    c.shut_down();
    b.freeze_checkpointer();
    b.promote(1, 2);
    b.sql(&format!("insert into kept values ('{MARKER}')"));
    b.crash();
    let control = data_directory::control(&b.data()).unwrap();
    assert_eq!(control.timeline.unwrap().get(), 1, "it has checkpointed");
    c.start();
    c.promote(1, 3);

    b.follower(&c)
        .prepare(DataDirectoryState::Primary, true)
        .await
        .unwrap();

    let save = only_save(&b);
    assert!(holds(&save, MARKER), "the row is not in {save:?}");
    assert!(save.join("00000002.history").exists());
}

#[tokio::test]
async fn history_not_permitted_then_everything_saved_before_copy() {
    let nodes = Nodes::new();
    let (a, b) = diverged(&nodes).await;
    b.sql("revoke execute on function pg_read_binary_file(text) from rewinder");

    a.follower(&b)
        .prepare(DataDirectoryState::Primary, false)
        .await
        .unwrap();

    assert!(holds(&only_save(&a), MARKER));
}

#[tokio::test]
async fn nothing_diverged_then_nothing_saved() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    b.shut_down();
    let follower = b.follower(&a);
    follower
        .prepare(DataDirectoryState::Standby, true)
        .await
        .unwrap();
    assert!(!b.state().join("diverged").exists());
}

#[tokio::test]
async fn step_repeated_then_saved_once_and_other_save_kept() {
    let nodes = Nodes::new();
    let (a, b) = diverged(&nodes).await;
    let save = || {
        crate::agent::standby_setup::diverged_wal::DivergedWalSave {
            data: &a.data(),
            state: &a.state(),
            node: &"a".parse().unwrap(),
            source: &"b".parse().unwrap(),
            primary: None,
        }
        .make()
    };
    let first = save().unwrap().unwrap();
    assert_eq!(save().unwrap().as_ref(), Some(&first));

    // Another history of the same place: the earlier save stays as it is.
    let file = fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().path());
    let segment = file.filter(|path| path.extension().is_none()).min().unwrap();
    fs::write(&segment, "other rows").unwrap();
    let second = save().unwrap().unwrap();
    assert_ne!(first, second);
    assert_eq!(fs::read_to_string(&segment).unwrap(), "other rows");
    drop(b);
}

/// A standby that has more than the new primary, and is examined while it is down.
#[tokio::test]
async fn diverged_standby_is_down_then_rewind_needed() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    standby_of(&a, &c).await;
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
    assert!(holds(&only_save(&c), MARKER));
    let examined = follower.examine(false).await.unwrap();
    assert_eq!(examined.need, RejoinNeed::Ready, "after it was rewound");
    follower.write_replication_settings().unwrap();
    comes_back(&c, "");
}

/// The same standby is started although the primary could not be asked, and finds the new timeline in the
/// archive: no data page had diverged, so PostgreSQL follows, and leaves what it had behind.
#[tokio::test]
async fn diverged_tail_left_behind_then_saved() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    standby_of(&a, &c).await;
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

    let examined = follower.examine_whole().await.unwrap();

    assert_eq!(examined.need, RejoinNeed::Ready, "it follows already");
    assert!(holds(&only_save(&c), MARKER));
}

#[tokio::test]
async fn standby_that_stops_before_fork_then_ready() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    standby_of(&a, &c).await;
    c.crash();
    a.sql("insert into kept values ('on 1')");
    b.until(ROWS, "on 1");
    a.crash();
    b.promote(1, 2);

    let follower = c.follower(&b);
    let examined = follower.examine(false).await.unwrap();
    assert_eq!(examined.need, RejoinNeed::Ready);
    follower.write_replication_settings().unwrap();
    comes_back(&c, "on 1");
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

    // With an archive that has the segment, PostgreSQL gets it by itself.
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
    comes_back(&b, "x,x,x,x,x,x");
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
    b.own();
    let raised: Vec<_> = raised.iter().map(|setting| (setting.name, setting.required)).collect();
    assert_eq!(
        raised,
        [("max_connections", 55), ("max_locks_per_transaction", 100)]
    );
    assert_eq!(
        follower.raise_replication_settings().await.unwrap(),
        [],
        "it is enough"
    );
    assert!(!follower.write_replication_settings().unwrap(), "what was raised stays");
    a.sql("insert into kept values ('after')");
    comes_back(&b, "after");
    assert_eq!(b.sql("show max_connections"), "55");
}

#[tokio::test]
async fn tablespace_and_linked_wal_then_rebuild_keeps_both() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let [here, there, wal] = ["b-space", "a-space", "b-wal"].map(|name| nodes.root.path().join(name));
    for directory in [&here, &there, &wal] {
        fs::create_dir(directory).unwrap();
        give(directory);
    }
    b.shut_down();
    a.sql(&format!(
        "create tablespace side location '{}'",
        there.display()
    ));
    a.sql("create table aside (n int) tablespace side; insert into aside values (7)");
    let number = a.sql("select oid from pg_tablespace where spcname = 'side'");
    // As somebody has set the standby up by hand.
    symlink(&here, b.data().join(format!("pg_tblspc/{number}"))).unwrap();
    fs::create_dir(here.join("PG_15_202209061")).unwrap();
    fs::rename(b.data().join("pg_wal"), &wal).unwrap();
    symlink(&wal, b.data().join("pg_wal")).unwrap();
    fs::write(wal.join("left"), "over").unwrap();

    let follower = b.follower(&a);
    follower
        .prepare(DataDirectoryState::Standby, true)
        .await
        .unwrap();
    // Once more, as after a copy that was cut off: nothing of it is in the way.
    fs::write(b.host().rewinding_marker(), "{\"layout\":{}}").unwrap();
    follower
        .prepare(DataDirectoryState::Rewinding, false)
        .await
        .unwrap();

    let link = fs::read_link(b.data().join(format!("pg_tblspc/{number}"))).unwrap();
    assert_eq!(link, here);
    assert_eq!(fs::read_link(b.data().join("pg_wal")).unwrap(), wal);
    b.start_standby();
    streams(&b);
    b.until("select n from aside", "7");
}

/// The volume of `pg_wal` is not mounted: what it holds cannot be known, so nothing is proved absent.
#[tokio::test]
async fn wal_is_not_there_then_directory_kept() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    b.shut_down();
    let (log, aside) = (b.data().join("pg_wal"), nodes.root.path().join("volume"));
    fs::rename(&log, &aside).unwrap();
    let follower = b.follower(&a);
    let refused = async |why: &str| {
        for (directory, rebuild) in [
            (DataDirectoryState::Primary, false),
            (DataDirectoryState::Standby, true),
        ] {
            let trouble = follower.prepare(directory, rebuild).await.unwrap_err();
            assert!(
                matches!(trouble, StandbySetupError::NotSaved(_)),
                "{why}: {trouble:?}"
            );
            assert!(b.data().join("PG_VERSION").exists(), "{why}");
        }
    };
    refused("it is missing").await;
    symlink(nodes.root.path().join("nowhere"), &log).unwrap();
    refused("its link leads nowhere").await;
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    give(&log);
    refused("it is the empty place to mount at").await;

    fs::remove_dir(&log).unwrap();
    fs::rename(&aside, &log).unwrap();
    follower
        .prepare(DataDirectoryState::Standby, true)
        .await
        .unwrap();
    b.start_standby();
    streams(&b);
}

#[test]
fn label_of_exclusive_backup_then_directory_is_a_primarys() {
    let data = tempfile::tempdir().unwrap();
    let mut control = vec![0_u8; 512];
    control[16..20].copy_from_slice(&6_u32.to_ne_bytes());
    fs::create_dir(data.path().join("global")).unwrap();
    fs::write(data.path().join("global/pg_control"), control).unwrap();
    let marker = data.path().join("none");
    let kind = || data_directory::kind(data.path(), &marker);
    assert_eq!(kind(), DataDirectoryState::Primary);
    let label = data.path().join("backup_label");

    fs::write(
        &label,
        "START WAL LOCATION: 0/2000028\nBACKUP METHOD: streamed\n",
    )
    .unwrap();
    assert_eq!(kind(), DataDirectoryState::Standby);
    fs::write(
        &label,
        "START WAL LOCATION: 0/2000028\nBACKUP METHOD: pg_start_backup\n",
    )
    .unwrap();
    assert_eq!(kind(), DataDirectoryState::Primary);
}

/// A primary of another database is never rewound to, nor copied.
#[tokio::test]
async fn primary_of_another_database_then_directory_kept() {
    let nodes = Nodes::new();
    let a = nodes.primary("a");
    let b = nodes.node("b");
    let mut follower = b.follower(&a);
    follower.system_id = causeway_core::lease::SystemId(7);

    let refused = follower
        .prepare(DataDirectoryState::Empty, true)
        .await
        .unwrap_err();

    let said = causeway_runtime::telemetry::chain(&refused);
    assert!(
        matches!(refused, StandbySetupError::PrimarySilent(_)),
        "{said}"
    );
    assert!(said.contains("serves another database"), "{said}");
    assert!(!b.data().join("PG_VERSION").exists());
}
