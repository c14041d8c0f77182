//! Agents that hold the lease, or held it.

use super::*;
use crate::lease::WritePrecondition;

#[test]
fn store_refuses_at_once_then_writes_pause() {
    let mut agent = holder();
    // The server accepts writes, and the lease is not stored as `held` yet: that is written at once.
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
fn lease_deleted_then_only_the_holder_writes_it_again() {
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
fn lease_deleted_after_a_release_then_not_written_again() {
    let mut agent = holder();
    agent.release_lease(Epoch::new(2)).unwrap();
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    let release = only(written(
        agent.handle(at(1_000), AgentEvent::LocalObserved(Box::new(ended))),
    ));
    assert_eq!(release.record.state, LeaseState::Released);

    // It was stored, another node took over, and the object was deleted before the response arrived.
    agent.handle(at(2_500), unknown(&release));
    assert_eq!(written(agent.handle(at(2_600), missing(2_550))), []);
    assert_eq!(written(agent.handle(at(4_000), AgentEvent::Tick)), []);
}

#[test]
fn server_stopped_before_the_release_then_not_released() {
    let mut agent = holder();
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    agent.handle(
        at(1_000),
        AgentEvent::LocalObserved(Box::new(ended.clone())),
    );
    let start = Some(GuardCommand::StartPrimary(Epoch::new(2), Commits::HeldBack));
    assert_eq!(agent.guard_command(), start);

    // That observation led to the command to start, so the server may be starting.
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
fn agent_restarted_then_no_command_before_its_own_write() {
    let mut agent = adopter(&following());
    assert!(agent.holds());
    assert_eq!(agent.guard_command(), None);

    // The number in the record may be reserved for another holder, so the agent reserves one.
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

/// A new primary has no measurements yet, and the clients of the previous one.
#[test]
fn new_primary_then_inherited_rates_for_a_minute() {
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
    let takeover = only(written(agent.handle(
        at(0),
        AgentEvent::LeaseRead {
            requested_at,
            answer,
        },
    )));
    agent.handle(at(50), stored(&takeover, 1));
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

/// The response to a renewal arrived after the deadline, when PostgreSQL was a standby without a primary.
#[test]
fn late_renewal_stored_after_expiry_then_promoted_again() {
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
fn release_of_an_earlier_agent_stored_then_deposed() {
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

#[test]
fn primary_accepts_writes_then_record_has_its_history() {
    let mut agent = holder();
    let ancestry = TimelineHistory::new(position().timeline, Vec::new());
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
fn peer_with_a_higher_epoch_then_holder_yields() {
    let mut agent = holder();
    let peer = |epoch| {
        AgentEvent::PeersObserved(vec![PeerView {
            node: "b".parse().unwrap(),
            automatic: true,
            system_id: None,
            highest: Epoch::new(epoch),
            progress: None,
            primary_collations: None,
        }])
    };
    agent.handle(at(100), peer(2));
    assert!(agent.holds());
    agent.handle(at(200), peer(3));
    assert!(!agent.holds());
    // It does not take the lease back, automatically or by command.
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
