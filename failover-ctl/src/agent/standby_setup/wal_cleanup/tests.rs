//! Directories of real servers, into which WAL of another history has come.

use std::collections::BTreeSet;
use std::path::PathBuf;

use causeway_core::Lsn;
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::lsn::WalFileName;

use super::*;
use crate::agent::standby_setup::comparison::RejoinNeed;
use crate::agent::standby_setup::diverged_wal::DivergedWalSave;
use crate::agent::standby_setup::tests::{MARKER, assert_rejoins, diverged, pair, single_save};
use crate::test_server::{Nodes, TestNode, holds};

fn first() -> Timeline {
    Timeline::FIRST
}

fn second() -> Timeline {
    first().next()
}

/// Returns the history of a primary on timeline 2.
fn history(primary: &TestNode) -> [Ancestor; 1] {
    let text = fs::read_to_string(primary.data().join("pg_wal/00000002.history")).unwrap();
    causeway_core::lsn::parse_history(&text)
        .unwrap()
        .try_into()
        .unwrap()
}

/// Returns the segments of a node that hold records past the fork.
fn beyond(node: &TestNode, ancestors: &[Ancestor]) -> Vec<String> {
    let wal = WalDirectory::scan_all(&node.data().join("pg_wal")).unwrap();
    let files = wal.files_past_fork(Some((second(), ancestors))).unwrap();
    let segments = files.iter().filter(|file| file.segment().is_some());
    segments.map(|file| file.name.to_string()).collect()
}

fn names(node: &TestNode) -> BTreeSet<String> {
    let entries = fs::read_dir(node.data().join("pg_wal")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn index(save: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(save.join("index.json")).unwrap()).unwrap()
}

fn listed(index: &serde_json::Value, list: &str) -> Vec<String> {
    let files = index[list].as_array().unwrap();
    files
        .iter()
        .map(|file| file["name"].as_str().unwrap().to_owned())
        .collect()
}

fn save(node: &TestNode) -> PathBuf {
    let made = DivergedWalSave {
        data: &node.data(),
        state: &node.state(),
        node: &node.name.parse().unwrap(),
        source: &"b".parse().unwrap(),
        primary: None,
    }
    .make();
    made.unwrap().unwrap()
}

/// Copies another node's segment to the primary, as an earlier rewind or the archive does.
fn put_segment(primary: &TestNode, from: &TestNode, name: &str) {
    let [there, here] = [from, primary].map(|node| node.data().join("pg_wal").join(name));
    fs::copy(there, here).unwrap();
    primary.chown_to_postgres();
}

#[tokio::test]
async fn more_written_then_only_new_files_saved_and_others_named() {
    let nodes = Nodes::new();
    let (a, _b) = diverged(&nodes).await;
    let before = save(&a);
    let had = listed(&index(&before), "files");
    a.start();
    a.sql("insert into kept values ('grown'); select pg_switch_wal()");
    a.sql("insert into kept values ('next segment')");
    a.crash();

    let after = save(&a);

    assert_ne!(before, after);
    let written = index(&after);
    let (new, old) = (listed(&written, "files"), listed(&written, "elsewhere"));
    let [new_set, old_set] = [&new, &old].map(|names| names.iter().collect::<BTreeSet<_>>());
    assert!(new_set.is_disjoint(&old_set), "{written}");
    assert!(!old.is_empty() && old.iter().all(|name| had.contains(name)));
    let grown = had.iter().filter(|name| new.contains(name)).count();
    assert_eq!(grown, 1, "the last segment has grown: {written}");
    for name in &old {
        assert!(before.join(name).exists() && !after.join(name).exists());
    }
    assert!(new.iter().all(|name| after.join(name).exists()));
    let place = written["elsewhere"][0]["save"].as_str().unwrap();
    assert_eq!(Some(place), before.file_name().unwrap().to_str());
    assert!(holds(&after, "next segment"));
    // Every file is in one of the two.
    assert_eq!(save(&a), before, "nothing is new");
    // A deleted save is made again.
    fs::remove_dir_all(&before).unwrap();
    let again = save(&a);
    assert_ne!(again, after);
    assert_eq!(
        listed(&index(&again), "files").len(),
        old.len() + grown - 1,
        "the others are in the save before"
    );
}

#[tokio::test]
async fn leftovers_of_primary_brought_by_rewind_then_not_saved() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    let c = nodes.node("c");
    c.become_standby_of(&a).await;
    b.shut_down();
    c.shut_down();
    a.sql(&format!("insert into kept values ('{MARKER}')"));
    let name = a.sql("select pg_walfile_name(pg_current_wal_lsn())");
    a.crash();
    c.start();
    c.promote(1, 2);
    c.sql("insert into kept values ('only on c')");
    c.crash();
    b.start();
    b.promote(1, 3);
    put_segment(&b, &a, &name);
    let follower = c.follower(&b);

    follower
        .prepare(DataDirectoryState::Primary, false)
        .await
        .unwrap();

    assert!(
        holds(&c.data().join("pg_wal"), MARKER),
        "nothing was brought"
    );
    let examined = follower.compare_all().await.unwrap();
    assert!(
        !matches!(examined.need, RejoinNeed::Copy(_)),
        "there is nothing to copy"
    );
    let kept = single_save(&c);
    assert!(holds(&kept, "only on c"));
    assert!(!holds(&kept, MARKER), "the primary has it");
}

#[tokio::test]
async fn rewound_then_what_is_saved_is_gone_and_the_rest_stays() {
    let nodes = Nodes::new();
    let (a, b) = pair(&nodes).await;
    // The fork lies within a segment, and not where the copy has switched to the next.
    a.sql("insert into kept values ('before')");
    b.until("select count(*) from kept", "1");
    b.shut_down();
    a.sql(&format!("insert into kept values ('{MARKER}')"));
    a.crash();
    b.start();
    b.promote(1, 2);
    b.sql("insert into kept values ('on 2')");
    let ancestors = history(&b);
    let own = beyond(&a, &ancestors);
    put_segment(&b, &a, &own[0]);
    let follower = a.follower(&b);

    follower
        .prepare(DataDirectoryState::Primary, false)
        .await
        .unwrap();

    let kept = single_save(&a);
    let log = a.data().join("pg_wal");
    assert_eq!(beyond(&a, &ancestors), Vec::<String>::new());
    follower.compare_all().await.unwrap();
    assert_eq!(single_save(&a), kept);

    let again = || clean_wal(&a.data(), &a.state(), (second(), &ancestors)).unwrap();
    let before = names(&a);
    let put_back = || fs::copy(kept.join(&own[0]), log.join(&own[0])).unwrap();
    put_back();
    let ready = status(&log, &own[0], "ready");
    fs::write(&ready, "").unwrap();
    again();
    assert!(log.join(&own[0]).exists(), "the archive may want it");
    fs::remove_file(ready).unwrap();
    // Without the primary's own copy of the segment, recovery has to read the part before the fork here.
    let copy = log.join(own[0].replacen("00000001", "00000002", 1));
    let aside = a.root.join("aside");
    fs::rename(&copy, &aside).unwrap();
    again();
    assert!(log.join(&own[0]).exists(), "recovery may need it");
    fs::rename(&aside, &copy).unwrap();
    again();
    assert_eq!(names(&a), before, "that alone is gone");
    // A file that is in no save stays, whatever its name.
    put_back();
    fs::remove_dir_all(&kept).unwrap();
    again();
    assert!(log.join(&own[0]).exists(), "there is no other copy");
    fs::remove_file(log.join(&own[0])).unwrap();
    follower.write_replication_settings().unwrap();
    assert_rejoins(&a, "before,on 2");
}

#[test]
fn copied_file_changed_then_own_wal() {
    let root = tempfile::tempdir().unwrap();
    let name = WalFileName::Segment(SegmentName::containing(
        first(),
        Lsn::new(0),
        causeway_core::lsn::SegmentSize::DEFAULT,
    ));
    let path = root.path().join(name.to_string());
    fs::write(&path, "as it came").unwrap();
    let file = WalPastFork { name, bytes: 10 };
    let brought = CopiedWal {
        files: vec![content(root.path(), &file).unwrap()],
    };
    assert!(brought.has(root.path(), &file));
    fs::write(&path, "as it goes").unwrap();
    assert!(!brought.has(root.path(), &file));
    fs::write(root.path().join(REMEMBERED), "cut o").unwrap();
    assert_eq!(CopiedWal::read(root.path()), CopiedWal::default());
}
