//! Data directories that are kept, copied or refused.

use super::*;
use crate::agent::preconditions;

#[tokio::test]
async fn tablespace_and_linked_wal_then_rebuild_keeps_both() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let [here, there, wal] =
        ["b-space", "a-space", "b-wal"].map(|name| nodes.root.path().join(name));
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
    // As an operator sets a standby up by hand.
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
    b.wait_until_streaming();
    b.until("select n from aside", "7");
}

/// A new host with a volume for WAL: its data directory holds the link, and nothing else.
#[tokio::test]
async fn empty_directory_with_linked_wal_then_copied_and_rewound_through_the_link() {
    let nodes = Nodes::new();
    let a = nodes.primary("a");
    let b = nodes.node("b");
    let wal = nodes.root.path().join("b-wal");
    fs::create_dir(&wal).unwrap();
    give(&wal);
    symlink(&wal, b.data().join("pg_wal")).unwrap();
    preconditions::check_data_directory(&b.host()).unwrap();
    let state = data_directory::state(&b.data(), &b.host().rewinding_marker());
    assert_eq!(state, DataDirectoryState::Empty);
    let assert_linked = || {
        assert_eq!(fs::read_link(b.data().join("pg_wal")).unwrap(), wal);
        let entries = fs::read_dir(&wal).unwrap().count();
        assert!(entries > 1, "the WAL is elsewhere");
    };

    // What another server left there is not deleted.
    fs::write(wal.join("left"), "of another server").unwrap();
    let follower = b.follower(&a);
    let refused = follower.prepare(DataDirectoryState::Empty, false);
    let said = causeway_runtime::telemetry::chain(&refused.await.unwrap_err());
    assert!(
        said.contains("which is not empty: empty it first"),
        "{said}"
    );
    fs::remove_file(wal.join("left")).unwrap();

    b.become_standby_of(&a).await;
    assert_linked();

    a.shut_down();
    b.promote(1, 2);
    b.sql(&format!("insert into kept values ('{MARKER}')"));
    b.crash();
    a.start_standby();
    a.promote(1, 3);
    a.sql("insert into kept values ('on 3')");
    let follower = b.follower(&a);
    follower
        .prepare(DataDirectoryState::Primary, false)
        .await
        .unwrap();
    assert_linked();
    follower.write_replication_settings().unwrap();
    assert_rejoins(&b, "on 3");
    assert_linked();
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
    b.wait_until_streaming();
}

#[test]
fn label_of_exclusive_backup_then_directory_is_a_primarys() {
    let data = tempfile::tempdir().unwrap();
    let mut control = vec![0_u8; 512];
    control[16..20].copy_from_slice(&6_u32.to_ne_bytes());
    fs::create_dir(data.path().join("global")).unwrap();
    fs::write(data.path().join("global/pg_control"), control).unwrap();
    let marker = data.path().join("none");
    let kind = || data_directory::state(data.path(), &marker);
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
    assert!(said.contains("has another database"), "{said}");
    assert!(!b.data().join("PG_VERSION").exists());
}
