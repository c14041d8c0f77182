//! What an agent does and leaves, one situation at a time. What several do together is simulated.

use super::*;
use crate::failover::observation::ReplayProgress;
use crate::lease::{
    Ancestry, LEASE_FORMAT, LeaseHolder, PrimaryPosition, SystemId, WritePrecondition,
};
use crate::{Lsn, Timeline};

#[test]
fn a_store_that_refuses_at_once_is_not_hammered_however_urgent_the_write() {
    let mut agent = holder();
    // The server is up and the lease says so to nobody: that is written at once.
    let mut writes = written(agent.handle(at(1_000), AgentEvent::LocalObserved(Box::new(up()))));
    let mut count = 0;
    for millis in 1_001..2_000 {
        count += writes.len();
        writes = writes
            .into_iter()
            .flat_map(|write| written(agent.handle(at(millis), unknown(&write))))
            .collect();
        writes.extend(written(agent.handle(at(millis), AgentEvent::Tick)));
    }
    assert!((2..=5).contains(&count), "{count} writes in a second");
}

#[test]
fn a_challenger_pauses_after_a_refusal_too() {
    let mut agent = agent("b");
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(following())));
    agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    let challenge = only(written(agent.handle(at(10_000), AgentEvent::Tick)));

    let actions = agent.handle(at(10_001), unknown(&challenge));
    assert_eq!(written(actions), []);
    assert_eq!(written(agent.handle(at(10_100), AgentEvent::Tick)), []);
    assert_eq!(written(agent.handle(at(10_300), AgentEvent::Tick)).len(), 1);
}

#[test]
fn a_deleted_lease_is_written_again_by_its_holder_and_by_nobody_else() {
    let mut other = agent("b");
    other.handle(at(0), AgentEvent::LocalObserved(Box::new(following())));
    other.handle(at(0), found(0, 1, "a", LeaseState::Held));
    other.handle(at(600), missing(500));
    assert_eq!(written(other.handle(at(60_000), AgentEvent::Tick)), []);
    let hold = Decision::NoAction(NoAction::LeaseMissing);
    assert_eq!(other.decision(), Some(&hold));
    let taken = other.take_lease(
        at(60_000),
        Epoch::new(1),
        FencingProof::OperatorAsserted,
        None,
    );
    assert_eq!(taken, Err(CommandRejected::LeaseMissing));

    let mut holder = holder();
    let again = only(written(holder.handle(at(1_000), missing(900))));
    assert_eq!(again.condition, WritePrecondition::Missing);
    assert_eq!(again.record.epoch, Epoch::new(2));
}

#[test]
fn a_deleted_lease_is_not_written_again_by_a_holder_that_may_have_released_it() {
    let mut agent = holder();
    agent.release_lease(Epoch::new(2)).unwrap();
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    let release = only(written(
        agent.handle(at(1_000), AgentEvent::LocalObserved(Box::new(ended))),
    ));
    assert_eq!(release.record.state, LeaseState::Released);

    // It was stored, another node took over, the object was deleted; only then comes the answer.
    agent.handle(at(2_500), unknown(&release));
    assert_eq!(written(agent.handle(at(2_600), missing(2_550))), []);
    assert_eq!(written(agent.handle(at(4_000), AgentEvent::Tick)), []);
}

#[test]
fn an_end_seen_before_the_release_began_proves_nothing() {
    let mut agent = holder();
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    agent.handle(
        at(1_000),
        AgentEvent::LocalObserved(Box::new(ended.clone())),
    );
    let start = Some(GuardCommand::StartPrimary(Epoch::new(2), Commits::HeldBack));
    assert_eq!(agent.guard_command(), start);

    // The start was ordered on that look, so the server may be starting.
    agent.release_lease(Epoch::new(2)).unwrap();
    let renewals = written(agent.handle(at(2_500), AgentEvent::Tick));
    assert!(
        renewals
            .iter()
            .all(|write| write.record.state != LeaseState::Released)
    );
    for renewal in &renewals {
        let stored = stored(renewal, 7);
        agent.handle(at(2_520), stored);
    }
    let release = only(written(
        agent.handle(at(2_600), AgentEvent::LocalObserved(Box::new(ended))),
    ));
    assert_eq!(release.record.state, LeaseState::Released);
}

#[test]
fn a_restarted_agent_adopts_its_term_and_orders_nothing_before_a_write_of_its_own_is_stored() {
    let mut agent = adopter(&following());
    assert!(agent.holds());
    assert_eq!(agent.guard_command(), None);

    // The number in the record may be another holder's, so it reserves one.
    let renewal = only(written(agent.handle(at(2_600), AgentEvent::Tick)));
    let reserved = Timeline::FIRST.next();
    assert_eq!(renewal.record.highest_reserved_timeline, reserved);
    agent.handle(at(2_650), stored(&renewal, 2));
    agent.handle(
        at(2_700),
        AgentEvent::LocalObserved(Box::new(armed(&following()))),
    );
    let promote = GuardCommand::Promote(Epoch::new(1), reserved);
    assert_eq!(agent.guard_command(), Some(promote));
}

/// A primary that has just opened has measured nothing, and its clients are those of the one before.
#[test]
fn new_primary_then_the_rates_of_the_one_before_for_a_minute() {
    let mut agent = agent("a");
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(ended)));
    let AgentEvent::LeaseRead {
        requested_at,
        answer: LeaseReadResult::Found(etag, mut record),
    } = found(0, 1, "a", LeaseState::Held)
    else {
        panic!("a record is found");
    };
    record.last_position = Some(PrimaryPosition {
        wal_bytes_per_sec: 7_000,
        rows_per_sec: 70,
        ..position()
    });
    let answer = LeaseReadResult::Found(etag, record);
    let challenge = only(written(agent.handle(
        at(0),
        AgentEvent::LeaseRead {
            requested_at,
            answer,
        },
    )));
    agent.handle(at(50), stored(&challenge, 1));
    let rates = |write: &LeaseWrite| {
        let position = write.record.last_position.unwrap();
        (position.wal_bytes_per_sec, position.rows_per_sec)
    };

    let mut last = None;
    for second in 1..70 {
        for write in written(agent.handle(
            at(second * 1_000),
            AgentEvent::LocalObserved(Box::new(up())),
        )) {
            last = Some(rates(&write));
            let version = u32::try_from(second).unwrap() + 1;
            agent.handle(at(second * 1_000 + 50), stored(&write, version));
        }
        assert!(
            second > 59 || last == Some((7_000, 70)),
            "{second}: {last:?}"
        );
    }
    assert_eq!(last, Some((0, 0)));
}

/// A renewal whose answer came after the deadline: PostgreSQL is a standby by then, of nobody.
#[test]
fn late_renewal_is_stored_and_server_follows_then_it_is_promoted_anew() {
    let mut agent = holder();
    let renewal = only(written(
        agent.handle(at(1_000), AgentEvent::LocalObserved(Box::new(up()))),
    ));
    assert_eq!(renewal.record.state, LeaseState::Held);
    agent.handle(at(1_050), stored(&renewal, 2));
    let late = only(written(agent.handle(at(6_000), AgentEvent::Tick)));
    agent.handle(at(9_900), AgentEvent::Tick);
    assert!(!agent.holds());
    agent.handle(at(9_910), unknown(&late));
    agent.handle(at(10_000), AgentEvent::LocalObserved(Box::new(following())));

    let read = AgentEvent::LeaseRead {
        requested_at: at(10_100),
        answer: LeaseReadResult::Found(ETag("\"late\"".into()), Box::new(late.record)),
    };
    let renewal = only(written(agent.handle(at(10_170), read)));
    assert!(agent.holds());
    agent.handle(at(10_180), stored(&renewal, 3));
    let seen = AgentEvent::LocalObserved(Box::new(following()));
    let writing = only(written(agent.handle(at(10_200), seen.clone())));
    let reserved = Timeline::FIRST.next();
    assert_eq!(writing.record.highest_reserved_timeline, reserved);
    assert_eq!(writing.record.state, LeaseState::Acquiring);
    agent.handle(at(10_250), stored(&writing, 4));
    agent.handle(at(10_300), seen);
    let promote = GuardCommand::Promote(Epoch::new(2), reserved);
    assert_eq!(agent.guard_command(), Some(promote));
}

#[test]
fn a_release_that_an_earlier_agent_sent_ends_the_term_of_the_one_that_adopted_it() {
    let mut agent = adopter(&following());
    let actions = agent.handle(at(2_600), found(2_550, 2, "a", LeaseState::Released));
    assert!(!agent.holds());
    let deposed = |action: &AgentAction| {
        matches!(
            action,
            AgentAction::AlertOperator(OperatorAlert::Deposed { .. })
        )
    };
    assert!(actions.iter().any(deposed));
}

/// Returns an agent of node `a` that took the lease in epoch 2, with a request sent at 0.
fn holder() -> Agent {
    let mut agent = agent("a");
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(ended)));
    let actions = agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    let challenge = only(written(actions));
    agent.handle(at(50), stored(&challenge, 1));
    assert!(agent.holds());
    agent
}

/// Returns an agent of node `a` that was restarted while its guard goes on in epoch 1.
fn adopter(server: &LocalObservation) -> Agent {
    let mut agent = agent("a");
    agent.handle(
        at(2_500),
        AgentEvent::LocalObserved(Box::new(armed(server))),
    );
    let actions = agent.handle(at(2_500), found(2_400, 1, "a", LeaseState::Acquiring));
    assert_eq!(written(actions), []);
    agent
}

fn agent(node: &str) -> Agent {
    let identity = AgentIdentity {
        cluster: "causeway".into(),
        node: node.parse().unwrap(),
        host_id: format!("host-{node}"),
        boot_id: format!("{node}-1"),
        members: Vec::new(),
    };
    Agent::new(identity, settings(), (Epoch::new(0), 0), 1)
}

pub(super) fn settings() -> AgentConfig {
    AgentConfig {
        timing: LeaseTiming::default(),
        policy: FailoverPolicy {
            lease_duration: LeaseTiming::default().lease_duration,
            automatic: true,
            region_nodes: ["a", "b"].map(|name| name.parse().unwrap()).into(),
            max_loss_bytes: 0,
            peer_preference_timeout: Duration::from_secs(2),
        },
        write_probe_timeout: Duration::from_secs(5),
        write_stall_timeout: Duration::from_secs(20),
        start_timeout: Duration::from_mins(1),
        max_restarts_per_minute: 3,
    }
}

pub(super) fn at(millis: u64) -> HostInstant {
    HostInstant::at(Duration::from_millis(100_000 + millis))
}

fn found(requested_at: u64, sequence: u64, holder: &str, state: LeaseState) -> AgentEvent {
    let record = LeaseRecord {
        format: LEASE_FORMAT,
        cluster: "causeway".into(),
        system_id: SystemId(1),
        epoch: Epoch::new(1),
        sequence,
        nonce: NonceGenerator::new(u128::from(sequence) + 100).generate(),
        holder: LeaseHolder {
            node: holder.parse().unwrap(),
            host_id: format!("host-{holder}"),
            boot_id: format!("{holder}-1"),
        },
        state,
        last_position: Some(position()),
        last_primary: Some("a".parse().unwrap()),
        ancestry: None,
        highest_reserved_timeline: Timeline::FIRST,
        synchronous_standby: None,
        idle_millis: 0,
        members: Vec::new(),
        successor: None,
        unretired: None,
    };
    let etag = ETag(format!("\"{sequence}\""));
    AgentEvent::LeaseRead {
        requested_at: at(requested_at),
        answer: LeaseReadResult::Found(etag, Box::new(record)),
    }
}

fn missing(requested_at: u64) -> AgentEvent {
    AgentEvent::LeaseRead {
        requested_at: at(requested_at),
        answer: LeaseReadResult::Missing,
    }
}

fn stored(write: &LeaseWrite, version: u32) -> AgentEvent {
    AgentEvent::LeaseWritten {
        nonce: write.record.nonce.clone(),
        answer: LeaseWriteResult::Stored(ETag(format!("\"stored {version}\""))),
    }
}

fn unknown(write: &LeaseWrite) -> AgentEvent {
    AgentEvent::LeaseWritten {
        nonce: write.record.nonce.clone(),
        answer: LeaseWriteResult::Unknown,
    }
}

pub(super) fn observed(server: ServerView) -> LocalObservation {
    LocalObservation {
        server,
        armed: None,
        wants_renewal_since: None,
        primary: None,
        health: ServerHealth::Silent,
        replay: None,
        starts: None,
        system_id: Some(SystemId(1)),
        holds_position: true,
        holds_back: true,
        taken_timeline: None,
        ancestry: None,
    }
}

pub(super) fn up() -> LocalObservation {
    let primary = PrimaryView {
        position: position(),
        system_id: SystemId(1),
    };
    LocalObservation {
        primary: Some(primary),
        health: ServerHealth::Writes,
        ..observed(ServerView::MayWrite)
    }
}

fn following() -> LocalObservation {
    let PrimaryPosition {
        timeline,
        flush_lsn,
        ..
    } = position();
    observed(ServerView::Standby(ReplayProgress {
        timeline,
        received_lsn: flush_lsn,
        replayed_lsn: flush_lsn,
    }))
}

fn armed(local: &LocalObservation) -> LocalObservation {
    let timing = LeaseTiming::default();
    let deadline = GuardDeadline {
        epoch: Epoch::new(1),
        requested_at: at(0),
        stop_at: at(0) + timing.stop_deadline,
        kill_at: at(0) + timing.kill_deadline,
    };
    LocalObservation {
        armed: Some(deadline),
        ..local.clone()
    }
}

fn position() -> PrimaryPosition {
    PrimaryPosition {
        timeline: Timeline::FIRST,
        flush_lsn: Lsn::new(100),
        last_commit_at_micros: 0,
        wal_bytes_per_sec: 0,
        rows_per_sec: 0,
        age_millis: 0,
    }
}

fn written(actions: Vec<AgentAction>) -> Vec<LeaseWrite> {
    let write = |action| match action {
        AgentAction::WriteLease(write) => Some(*write),
        AgentAction::ReadLease | AgentAction::Remember(..) | AgentAction::AlertOperator(_) => None,
    };
    actions.into_iter().filter_map(write).collect()
}

fn only(writes: Vec<LeaseWrite>) -> LeaseWrite {
    let [write] = <[LeaseWrite; 1]>::try_from(writes).unwrap();
    write
}

#[test]
fn record_of_another_cluster_then_not_used_and_named_once() {
    let mut agent = agent("b");
    let AgentEvent::LeaseRead {
        requested_at,
        answer,
    } = found(0, 9, "a", LeaseState::Held)
    else {
        unreachable!()
    };
    let LeaseReadResult::Found(etag, mut record) = answer else {
        unreachable!()
    };
    record.cluster = "other".into();
    let read = AgentEvent::LeaseRead {
        requested_at,
        answer: LeaseReadResult::Found(etag, record),
    };
    let alarms = |actions: Vec<AgentAction>| {
        let is_alarm = |action: &AgentAction| {
            matches!(
                action,
                AgentAction::AlertOperator(OperatorAlert::LeaseMismatch(_))
            )
        };
        actions.iter().filter(|action| is_alarm(action)).count()
    };
    assert_eq!(alarms(agent.handle(at(10), read.clone())), 1);
    assert_eq!(alarms(agent.handle(at(600), read)), 0);
    assert_eq!(agent.highest(), (Epoch::default(), 0));
    let problems = agent.problems(at(700));
    let kind = ProblemKind::ClusterMismatch;
    assert!(problems.iter().any(|problem| problem.kind == kind), "{problems:?}");
}

#[test]
fn command_on_another_timeline_then_only_by_its_number() {
    let mut agent = agent("b");
    let here = Timeline::FIRST.next();
    let ServerView::Standby(own) = following().server else {
        unreachable!()
    };
    let elsewhere = ReplayProgress {
        timeline: here,
        ..own
    };
    let server = observed(ServerView::Standby(elsewhere));
    agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(server)));
    let mut take = |accepted| {
        let planned = Epoch::new(1);
        agent.take_lease(at(60_000), planned, FencingProof::LeaseExpired, accepted)
    };
    let refused = Err(CommandRejected::OnAnotherTimeline {
        here,
        there: Timeline::FIRST,
    });
    assert_eq!(take(None), refused);
    assert_eq!(take(Some(Timeline::FIRST)), refused);
    let write = only(written(take(Some(here)).unwrap()));
    assert_eq!(
        write.record.highest_reserved_timeline,
        Timeline::FIRST.next()
    );
}

#[test]
fn open_primary_then_the_record_says_where_its_timeline_comes_from() {
    let mut agent = holder();
    let ancestry = Ancestry {
        timeline: position().timeline,
        ancestors: Vec::new(),
    };
    let opened = LocalObservation {
        ancestry: Some(ancestry.clone()),
        ..up()
    };
    let actions = agent.handle(at(100), AgentEvent::LocalObserved(Box::new(opened)));
    let write = only(written(actions));
    assert_eq!(write.record.state, LeaseState::Held);
    assert_eq!(write.record.ancestry, Some(ancestry));
}

#[test]
fn peer_that_saw_a_higher_epoch_elsewhere_then_holder_gives_way() {
    let mut agent = holder();
    let peer = |epoch| {
        AgentEvent::PeersObserved(vec![PeerView {
            node: "b".parse().unwrap(),
            automatic: true,
            system_id: None,
            highest: Epoch::new(epoch),
            progress: None,
        }])
    };
    agent.handle(at(100), peer(2));
    assert!(agent.holds());
    agent.handle(at(200), peer(3));
    assert!(!agent.holds());
    // It does not take it back, by itself or by command.
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    agent.handle(at(60_000), AgentEvent::LocalObserved(Box::new(ended)));
    let superseded = NoAction::Superseded("b".parse().unwrap(), Epoch::new(3));
    assert_eq!(agent.decision(), Some(&Decision::NoAction(superseded)));
    let taken = agent.take_lease(
        at(60_000),
        Epoch::new(2),
        FencingProof::OperatorAsserted,
        None,
    );
    assert!(
        matches!(taken, Err(CommandRejected::NotThisLease(_))),
        "{taken:?}"
    );
}

#[test]
fn another_database_then_command_to_take_refused() {
    let mut agent = agent("b");
    agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    let foreign = LocalObservation {
        system_id: Some(SystemId(2)),
        ..following()
    };
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(foreign)));
    let taken = agent.take_lease(
        at(60_000),
        Epoch::new(1),
        FencingProof::OperatorAsserted,
        None,
    );
    assert_eq!(taken, Err(CommandRejected::OtherDatabase));
}

#[test]
fn lists_of_nodes_differ_then_named() {
    let mut agent = agent("b");
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(following())));
    let kind = ProblemKind::NodesDiffer;
    let differs = |agent: &Agent| {
        agent
            .problems(at(100))
            .into_iter()
            .find(|problem| problem.kind == kind)
    };
    agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    assert_eq!(differs(&agent), None);
    let AgentEvent::LeaseRead {
        requested_at,
        answer: LeaseReadResult::Found(etag, mut record),
    } = found(50, 2, "a", LeaseState::Held)
    else {
        unreachable!()
    };
    record.members = vec!["d".parse().unwrap()];
    let answer = LeaseReadResult::Found(etag, record);
    agent.handle(
        at(60),
        AgentEvent::LeaseRead {
            requested_at,
            answer,
        },
    );
    let problem = differs(&agent).unwrap();
    assert!(problem.detail.contains("lacks `d`"), "{problem:?}");
}
