//! WAL of real servers, compared with the servers' own positions.

use causeway_core::lsn::{Ancestor, WalFileName};
use causeway_core::{Lsn, Timeline};

use crate::data_directory;
use crate::data_directory::wal::WalDirectory;
use crate::test_server::{Nodes, TestNode};

const NOW: &str = "select pg_current_wal_insert_lsn()";

fn lsn(node: &TestNode, sql: &str) -> Lsn {
    node.sql(sql).parse().unwrap()
}

#[test]
fn crashed_server_then_end_is_its_last_record() {
    let nodes = Nodes::new();
    let a = nodes.primary("a");
    // Records across pages and segments, a segment switch, and the WAL of a crash.
    a.sql("insert into kept select repeat(md5(i::text), 60) from generate_series(1, 3000) i");
    a.sql("select pg_switch_wal()");
    a.sql("select pg_logical_emit_message(false, 'x', repeat('y', 3000000))");
    a.crash();
    a.start();
    a.sql("insert into kept values ('after the crash')");
    let end = lsn(&a, NOW);
    a.crash();

    let found = WalDirectory::read(&a.data()).unwrap().end().unwrap();
    assert_eq!(found, Some((Timeline::FIRST, end)));
}

#[test]
fn control_file_then_read_as_the_server_reads_it() {
    let nodes = Nodes::new();
    let a = nodes.primary("a");
    a.sql("checkpoint");
    let control = data_directory::read_control_file(&a.data()).unwrap();

    let checkpoint = lsn(&a, "select checkpoint_lsn from pg_control_checkpoint()");
    assert_eq!(control.checkpoint, checkpoint);
    assert_eq!(control.timeline, Some(Timeline::FIRST));
    assert_eq!(control.must_reach, None);
    for (name, required) in data_directory::REQUIRED.into_iter().zip(control.required) {
        assert_eq!(
            a.sql(&format!("show {name}")),
            required.to_string(),
            "{name}"
        );
    }
}

#[test]
fn fork_at_end_then_nothing_beyond_and_one_record_more_is() {
    let nodes = Nodes::new();
    let a = nodes.primary("a");
    let fork = lsn(&a, NOW);
    a.sql("insert into kept values ('beyond')");
    let end = lsn(&a, NOW);
    a.crash();
    let wal = WalDirectory::read(&a.data()).unwrap();
    let second = Timeline::new(2).unwrap();
    let beyond = |left_at| {
        let timeline = Timeline::FIRST;
        let ancestors = [Ancestor { timeline, left_at }];
        wal.files_past_fork(Some((second, &ancestors))).unwrap()
    };

    assert_eq!(beyond(end), [], "there is none past the end");
    let found = beyond(fork);
    assert!(
        matches!(found[0].name, WalFileName::Segment(_)),
        "{found:?}"
    );
    assert!(wal.files_past_fork(None).unwrap().len() >= found.len());
    assert_eq!(
        wal.files_past_fork(Some((Timeline::FIRST, &[]))).unwrap(),
        [],
        "its own timeline"
    );
}
