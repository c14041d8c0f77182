//! Standby setup with real servers that have diverged, or fallen too far behind.

mod directory_kept;
mod examination;

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
    b.become_standby_of(&a).await;
    (a, b)
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
pub(super) fn single_save(node: &TestNode) -> std::path::PathBuf {
    let saves = fs::read_dir(node.state().join("diverged")).unwrap();
    let saves: Vec<_> = saves.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(saves.len(), 1, "{saves:?}");
    saves[0].clone()
}

pub(super) fn assert_rejoins(node: &TestNode, rows: &str) {
    node.start_standby();
    node.wait_until_streaming();
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

    let save = single_save(&a);
    assert!(holds(&save, MARKER), "the row is not in {save:?}");
    let index: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(save.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["fork"]["timeline"], 1, "{index}");
    assert_eq!(index["source"], "b");
    assert!(!index["files"].as_array().unwrap().is_empty());
    assert!(!a.host().rewinding_marker().exists());
    follower.write_replication_settings().unwrap();
    assert_rejoins(&a, "on 2");
}

#[tokio::test]
async fn nowhere_to_save_then_directory_untouched_and_tried_again() {
    let nodes = Nodes::new();
    let (a, b) = diverged(&nodes).await;
    let follower = a.follower(&b);
    fs::write(a.state().join("diverged"), "in the way").unwrap();
    let before = a.checksums();

    for rebuild in [false, true] {
        let refused = follower.prepare(DataDirectoryState::Primary, rebuild).await;
        assert!(
            matches!(refused, Err(StandbySetupError::NotSaved(_))),
            "{refused:?}"
        );
        assert_eq!(a.checksums(), before, "the directory was changed");
        assert!(!a.host().rewinding_marker().exists());
    }

    fs::remove_file(a.state().join("diverged")).unwrap();
    follower
        .prepare(DataDirectoryState::Primary, true)
        .await
        .unwrap();
    assert!(holds(&single_save(&a), MARKER));
    follower.write_replication_settings().unwrap();
    assert_rejoins(&a, "on 2");
}

#[tokio::test]
async fn primary_silent_then_directory_untouched() {
    let nodes = Nodes::new();
    let (a, b) = diverged(&nodes).await;
    b.shut_down();
    let before = a.checksums();

    for rebuild in [false, true] {
        let refused = a
            .follower(&b)
            .prepare(DataDirectoryState::Primary, rebuild)
            .await;
        assert!(
            matches!(refused, Err(StandbySetupError::PrimarySilent(_))),
            "{refused:?}"
        );
        assert_eq!(a.checksums(), before);
    }
}

/// The lost primary never checkpointed after its promotion: its control file names timeline 1, and its
/// rows are on 2, which the new primary's history does not have.
#[tokio::test]
async fn lost_before_first_checkpoint_then_unknown_timeline_saved() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    c.become_standby_of(&a).await;
    a.crash();
    c.shut_down();
    b.freeze_checkpointer();
    b.promote(1, 2);
    b.sql(&format!("insert into kept values ('{MARKER}')"));
    b.crash();
    let control = data_directory::read_control_file(&b.data()).unwrap();
    assert_eq!(control.timeline.unwrap().get(), 1, "it has checkpointed");
    c.start();
    c.promote(1, 3);

    b.follower(&c)
        .prepare(DataDirectoryState::Primary, true)
        .await
        .unwrap();

    let save = single_save(&b);
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

    assert!(holds(&single_save(&a), MARKER));
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

    // Another history with the same position: the earlier save stays unchanged.
    let file = fs::read_dir(&first)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = file
        .filter(|path| path.extension().is_none())
        .min()
        .unwrap();
    fs::write(&segment, "other rows").unwrap();
    let second = save().unwrap().unwrap();
    assert_ne!(first, second);
    assert_eq!(fs::read_to_string(&segment).unwrap(), "other rows");
    drop(b);
}
