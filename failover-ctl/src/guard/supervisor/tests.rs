//! The guard's loop with real files, sockets and processes. The postmaster that it starts exits at once, because in a
//! unit test `/proc/self/exe` is the test itself.

mod faults;

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use causeway_core::guard::{DeadlineError, GuardDeadline};
use causeway_core::{Epoch, Timeline};

use super::*;
use crate::data_directory::timeline_history;
use crate::protocol::guard::{NO_STANDBY, SupervisorCommand};
use crate::test_server::{Nodes, TestNode};

const EPOCH: Epoch = Epoch::new(3);

/// Returns a node with a data directory that was last used by a standby, and the configuration that the guard requires.
fn standby(nodes: &Nodes) -> TestNode {
    let node = nodes.node("a");
    let data = node.data();
    let mut control = vec![0_u8; 512];
    control[..8].copy_from_slice(&7_u64.to_ne_bytes());
    control[16..20].copy_from_slice(&5_u32.to_ne_bytes());
    control[48..52].copy_from_slice(&1_u32.to_ne_bytes());
    fs::create_dir(data.join("global")).unwrap();
    fs::create_dir(data.join("pg_wal")).unwrap();
    fs::write(data.join("global/pg_control"), control).unwrap();
    fs::write(data.join("PG_VERSION"), "15\n").unwrap();
    fs::write(data.join("postgresql.auto.conf"), "").unwrap();
    fs::write(data.join("standby.signal"), "").unwrap();
    let host = node.host();
    let include = format!("include '{}'\n", host.guard_conf().display());
    fs::write(&host.postgres.config_file, include).unwrap();
    node
}

fn deadline() -> GuardDeadline {
    let now = clock::now();
    GuardDeadline {
        epoch: EPOCH,
        requested_at: now,
        stop_at: now + Duration::from_mins(1),
        kill_at: now + Duration::from_secs(70),
    }
}

/// Ticks until the guard reports the server as stopped.
#[track_caller]
fn tick_until_stopped(supervisor: &mut Supervisor<'_>) {
    for _ in 0..200 {
        supervisor.tick();
        if supervisor.server() == PostgresProcess::Stopped {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the server is `{:?}` after 10 s", supervisor.server());
}

#[test]
fn no_deadline_then_primary_not_started() {
    let nodes = Nodes::new();
    let node = standby(&nodes);
    let host = node.host();
    let mut supervisor = Supervisor::new(&host).unwrap();

    let command = SupervisorCommand::StartPrimary(EPOCH, Commits::Acknowledged);
    let rejection = supervisor.execute_command(command).unwrap_err();

    assert_eq!(rejection, GuardRejection::Refused(DeadlineError::NotArmed));
    assert!(node.data().join("standby.signal").exists());
    assert_eq!(supervisor.report(1, None).starts, 0);
}

#[test]
fn primary_exits_at_once_then_directory_marked_standby() {
    let nodes = Nodes::new();
    let node = standby(&nodes);
    let host = node.host();
    let mut supervisor = Supervisor::new(&host).unwrap();
    supervisor.core.accept_deadline(deadline()).unwrap();

    let command = SupervisorCommand::StartPrimary(EPOCH, Commits::HeldBack);
    supervisor.execute_command(command).unwrap();
    assert!(!node.data().join("standby.signal").exists());
    assert_eq!(supervisor.server(), PostgresProcess::MayWrite);

    tick_until_stopped(&mut supervisor);
    assert!(node.data().join("standby.signal").exists());
    assert_eq!(supervisor.report(1, None).starts, 1);
}

#[test]
fn primary_rejected_then_standby_holds_back_commits() {
    let nodes = Nodes::new();
    let node = standby(&nodes);
    let host = node.host();
    let mut supervisor = Supervisor::new(&host).unwrap();
    let holds_back = || {
        let text = fs::read_to_string(host.guard_conf()).unwrap();
        text.contains("synchronous_standby_names")
    };

    let primary = SupervisorCommand::StartPrimary(EPOCH, Commits::Acknowledged);
    supervisor.execute_command(primary).unwrap_err();
    assert!(
        !holds_back(),
        "settings are written before the deadline is checked"
    );
    supervisor
        .execute_command(SupervisorCommand::StartStandby)
        .unwrap();

    assert!(holds_back());
    tick_until_stopped(&mut supervisor);
}

#[test]
fn data_directory_empty_or_unreadable_then_start_rejected() {
    let nodes = Nodes::new();
    let host = nodes.node("a").host();
    let mut supervisor = Supervisor::new(&host).unwrap();

    let rejection = supervisor.execute_command(SupervisorCommand::StartStandby);

    let empty = GuardRejection::WrongDirectory(DataDirectoryState::Empty);
    assert_eq!(rejection, Err(empty));

    fs::create_dir_all(host.postgres.data_directory.join("global/pg_control")).unwrap();
    let rejection = supervisor.execute_command(SupervisorCommand::StartStandby);

    let unreadable = GuardRejection::WrongDirectory(DataDirectoryState::Unreadable);
    assert_eq!(rejection, Err(unreadable));
}

#[test]
fn server_stopped_then_promotion_rejected() {
    let nodes = Nodes::new();
    let node = standby(&nodes);
    let host = node.host();
    let mut supervisor = Supervisor::new(&host).unwrap();
    supervisor.core.accept_deadline(deadline()).unwrap();

    let rejection = supervisor.execute_command(SupervisorCommand::Promote {
        epoch: EPOCH,
        own: Timeline::FIRST,
        reserved: Timeline::FIRST.next(),
    });

    let stopped = GuardRejection::WrongState(PostgresProcess::Stopped);
    assert_eq!(rejection, Err(stopped));
}

#[test]
fn valid_message_answered_then_invalid_one_dropped() {
    let nodes = Nodes::new();
    let node = standby(&nodes);
    let host = node.host();
    let mut supervisor = Supervisor::new(&host).unwrap();
    let path = node.root.join("run/agent.sock");
    let agent = UnixDatagram::bind(&path).unwrap();
    agent
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let from = SocketAddr::from_pathname(&path).unwrap();
    let message = GuardMessage {
        number: 42,
        deadline: Some(deadline()),
        command: None,
    };

    supervisor.handle_message(b"{\"number\": 41", &from);
    supervisor.handle_message(&serde_json::to_vec(&message).unwrap(), &from);

    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    let length = agent.recv(&mut buffer).unwrap();
    let report: GuardReport = serde_json::from_slice(&buffer[..length]).unwrap();
    assert_eq!(report.in_reply_to, 42);
    assert_eq!(report.deadline, message.deadline);
    assert_eq!(report.rejection, None);
}

#[test]
fn postmaster_started_manually_then_killed() {
    let nodes = Nodes::new();
    let node = standby(&nodes);
    let host = node.host();
    let mut supervisor = Supervisor::new(&host).unwrap();
    let mut process = Command::new("sleep")
        .arg("600")
        .current_dir(node.data())
        .spawn()
        .unwrap();
    let lock = format!("{}\n{}\n", process.id(), node.data().display());
    fs::write(node.data().join("postmaster.pid"), lock).unwrap();
    assert_eq!(supervisor.server(), PostgresProcess::Unmanaged);

    for _ in 0..200 {
        supervisor.tick();
        if process.try_wait().unwrap().is_some() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    process.kill().unwrap();
    panic!("the process runs after 10 s");
}

#[test]
fn socket_file_removed_then_bound_again() {
    let nodes = Nodes::new();
    let host = nodes.node("a").host();
    let mut supervisor = Supervisor::new(&host).unwrap();
    fs::remove_file(host.guard_socket()).unwrap();

    supervisor.tick();

    assert!(host.guard_socket().exists());
}
