//! Faults and crashes between two writes of the guard's files: no server starts, and the next guard starts from what
//! is left, as a standby that holds back commits.

use super::*;

/// Files that a write needs and a directory in their place makes fail, in the order of the writes.
const FAULTS: [&str; 6] = [
    "data/postgresql.new",
    "data/pg_wal/00000005.history",
    "data/postmaster.pid",
    "data/postgresql.auto.new",
    "run/guard.new",
    "data/standby.signal",
];

/// Asserts that a new guard makes a standby of the node, whatever an earlier guard has left.
#[track_caller]
fn assert_starts_standby(node: &TestNode, left: &str) {
    let host = node.host();
    let mut supervisor = Supervisor::new(&host).unwrap();
    let data = node.data();
    assert!(data.join("standby.signal").is_file(), "{left}");
    assert_eq!(supervisor.server(), PostgresProcess::Stopped, "{left}");

    let primary = SupervisorCommand::StartPrimary(EPOCH, Commits::Acknowledged);
    let rejection = supervisor.execute_command(primary).unwrap_err();
    let not_armed = GuardRejection::Refused(DeadlineError::NotArmed);
    assert_eq!(rejection, not_armed, "{left}");
    let started = supervisor.execute_command(SupervisorCommand::StartStandby);
    assert_eq!(started, Ok(()), "{left}");

    let conf = fs::read_to_string(host.guard_conf()).unwrap();
    assert!(conf.contains(NO_STANDBY), "{left}: {conf}");
    let own = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    assert!(own.starts_with("include '"), "{left}: {own}");
    let auto = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("synchronous_standby_names"), "{left}");
    for leftover in ["postmaster.pid", "pg_wal/00000003.history"] {
        assert!(!data.join(leftover).exists(), "{left}: {leftover}");
    }
    tick_until_stopped(&mut supervisor);
}

/// Makes each write of a start have something to change.
fn outdated(nodes: &Nodes) -> TestNode {
    let node = standby(nodes);
    let data = node.data();
    fs::write(
        data.join("postgresql.auto.conf"),
        "synchronous_standby_names = ''\n",
    )
    .unwrap();
    fs::write(data.join("postmaster.pid"), "4711\n").unwrap();
    timeline_history::reserve_timelines(&data, Timeline::FIRST, Timeline::new(5).unwrap()).unwrap();
    node
}

#[test]
fn write_fails_then_no_primary_and_next_guard_starts_standby() {
    for fault in FAULTS {
        let nodes = Nodes::new();
        let node = outdated(&nodes);
        let host = node.host();
        let mut supervisor = Supervisor::new(&host).unwrap();
        supervisor.core.accept_deadline(deadline()).unwrap();
        let obstacle = node.root.join(fault);
        fs::remove_file(&obstacle).ok();
        fs::create_dir(&obstacle).unwrap();

        let primary = SupervisorCommand::StartPrimary(EPOCH, Commits::Acknowledged);
        let rejection = supervisor.execute_command(primary);

        assert!(
            matches!(rejection, Err(GuardRejection::Failed(_))),
            "{fault}: {rejection:?}"
        );
        assert_eq!(supervisor.server(), PostgresProcess::Stopped, "{fault}");
        drop(supervisor);
        fs::remove_dir(&obstacle).unwrap();
        assert_starts_standby(&node, fault);
    }
}

#[test]
fn guard_killed_between_writes_then_next_starts_standby() {
    let nodes = Nodes::new();
    let node = outdated(&nodes);
    // In the order of the writes of a start, then of a promotion.
    for (file, content) in [
        ("data/postgresql.new", Some("incl")),
        ("data/postgresql.auto.new", Some("")),
        ("run/guard.new", Some("# Written by")),
        ("run/guard.conf", None),
        ("run/guard.conf", Some("restart_after_crash = off\n")),
        ("data/standby.signal", None),
        ("data/pg_wal/00000002.history.new", Some("# Res")),
        ("data/promote", Some("")),
    ] {
        let path = node.root.join(file);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        assert_starts_standby(&node, &format!("{file}: {content:?}"));
    }
}
