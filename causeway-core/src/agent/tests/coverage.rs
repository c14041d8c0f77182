//! Evidence that a standby has the commits of its primary, and the responses of the lease store.

use super::*;

/// Time from a position to its observation by a poll right after the renewal: the timeout of the renewal, and the
/// interval since the poll before.
const OBSERVED: u64 = 1_500 + 500;

/// Response to a read sent at `requested_at`: the version of a renewal of `a` with the WAL position `flush_lsn`.
fn renewal(requested_at: u64, sequence: u64, flush_lsn: u64) -> AgentEvent {
    renewal_in(LeaseState::Held, requested_at, sequence, flush_lsn)
}

fn renewal_in(state: LeaseState, requested_at: u64, sequence: u64, flush_lsn: u64) -> AgentEvent {
    let AgentEvent::LeaseRead {
        requested_at,
        answer: LeaseReadResult::Found(etag, mut record),
    } = found(requested_at, sequence, "a", state)
    else {
        unreachable!()
    };
    record.last_position = Some(PrimaryPosition {
        flush_lsn: Lsn::new(flush_lsn),
        ..position()
    });
    AgentEvent::LeaseRead {
        requested_at,
        answer: LeaseReadResult::Found(etag, record),
    }
}

fn received(lsn: u64) -> AgentEvent {
    let progress = ReplayProgress {
        timeline: Timeline::FIRST,
        received_lsn: Lsn::new(lsn),
        replayed_lsn: Lsn::new(lsn),
    };
    AgentEvent::LocalObserved(Box::new(observed(ServerView::Standby(progress))))
}

/// Returns the agent of a standby that has read two versions of the lease, the second at 2 s, and received everything.
fn streaming() -> Agent {
    let mut agent = agent("b");
    agent.handle(at(0), received(100));
    agent.handle(at(1_500), renewal(1_500, 1, 100));
    agent.handle(at(2_000), renewal(2_000, 2, 100));
    agent
}

fn unreplicated_millis(agent: &Agent, now: u64) -> u128 {
    agent.unreplicated(at(now)).as_millis()
}

#[test]
fn idle_primary_then_no_more_than_renewal_and_poll() {
    let mut agent = streaming();
    assert_eq!(unreplicated_millis(&agent, 2_000), OBSERVED.into());
    for renewals in 1..30 {
        let now = 2_000 + renewals * 2_000;
        agent.handle(at(now - 500), renewal(now - 500, 1 + renewals, 100));
        let before = unreplicated_millis(&agent, now);
        agent.handle(at(now), renewal(now, 2 + renewals, 100));

        assert!(before <= u128::from(OBSERVED + 2_000), "{before}");
        assert_eq!(unreplicated_millis(&agent, now), OBSERVED.into());
    }
}

#[test]
fn never_streamed_then_time_since_agent_started() {
    let mut agent = agent("b");
    agent.handle(at(0), received(50));
    for renewals in 0..10 {
        let now = renewals * 2_000;
        agent.handle(at(now), renewal(now, 1 + renewals, 100));
    }
    assert_eq!(unreplicated_millis(&agent, 20_000), 20_000);

    agent.handle(at(20_000), received(100));
    assert_eq!(unreplicated_millis(&agent, 20_000), 20_000 - 16_000 + 1_500);
}

#[test]
fn agent_restarted_then_first_version_is_no_evidence() {
    let mut restarted = agent("b");
    restarted.handle(at(0), received(100));
    restarted.handle(at(500), renewal(500, 7, 100));
    assert_eq!(
        unreplicated_millis(&restarted, 3_000),
        3_000,
        "its age is unknown"
    );
}

#[test]
fn standby_behind_then_grows_until_it_has_received_the_wal() {
    let mut agent = streaming();
    agent.handle(at(3_500), renewal(3_500, 2, 100));
    agent.handle(at(4_000), renewal(4_000, 3, 200));
    agent.handle(at(5_500), renewal(5_500, 3, 200));
    agent.handle(at(6_000), renewal(6_000, 4, 300));
    assert_eq!(
        unreplicated_millis(&agent, 6_000),
        u128::from(OBSERVED + 4_000)
    );

    agent.handle(at(6_100), received(350));
    assert_eq!(
        unreplicated_millis(&agent, 6_100),
        u128::from(OBSERVED + 100)
    );
}

#[test]
fn primary_verifies_no_write_then_age_of_position_added() {
    let mut agent = streaming();
    let AgentEvent::LeaseRead {
        requested_at,
        answer: LeaseReadResult::Found(etag, mut record),
    } = renewal(4_000, 3, 100)
    else {
        unreachable!()
    };
    record.last_position.as_mut().unwrap().age_millis = 900;
    let answer = LeaseReadResult::Found(etag, record);
    agent.handle(at(3_500), renewal(3_500, 2, 100));
    agent.handle(
        at(4_000),
        AgentEvent::LeaseRead {
            requested_at,
            answer,
        },
    );
    assert_eq!(
        unreplicated_millis(&agent, 4_000),
        u128::from(OBSERVED + 900)
    );
}

#[test]
fn primary_lost_then_grows_until_the_lease_has_expired() {
    let mut agent = agent("c");
    agent.settings.policy.automatic = false;
    agent.handle(at(0), received(100));
    agent.handle(at(1_500), renewal(1_500, 1, 100));
    agent.handle(at(2_000), renewal(2_000, 2, 100));
    agent.handle(at(9_000), renewal(9_000, 2, 100));
    assert_eq!(
        unreplicated_millis(&agent, 9_000),
        u128::from(OBSERVED + 7_000)
    );

    agent.handle(at(12_000), renewal(12_000, 2, 100));
    agent.handle(at(60_000), renewal(60_000, 2, 100));
    assert_eq!(
        unreplicated_millis(&agent, 60_000),
        u128::from(OBSERVED + 10_000)
    );
}

#[test]
fn lease_store_silent_then_primary_may_commit_and_time_grows() {
    let mut agent = streaming();
    agent.handle(at(60_000), received(100));
    assert_eq!(
        unreplicated_millis(&agent, 60_000),
        u128::from(OBSERVED + 58_000)
    );
}

#[test]
fn lease_paused_then_primary_may_commit_and_time_grows() {
    let mut agent = streaming();
    agent.handle(at(2_500), renewal_in(LeaseState::Paused, 2_500, 3, 100));
    agent.handle(at(60_000), renewal_in(LeaseState::Paused, 60_000, 3, 100));
    assert_eq!(
        unreplicated_millis(&agent, 60_000),
        u128::from(OBSERVED + 58_000)
    );
}

#[test]
fn takeover_without_writes_yet_then_repeated_position_is_no_evidence() {
    let mut agent = streaming();
    agent.handle(
        at(20_000),
        renewal_in(LeaseState::Acquiring, 20_000, 3, 100),
    );
    let waited = unreplicated_millis(&agent, 20_000);
    assert_eq!(waited, u128::from(OBSERVED + 18_000));
}

#[test]
fn other_database_then_no_evidence() {
    let mut agent = agent("b");
    let AgentEvent::LocalObserved(mut local) = received(100) else {
        unreachable!()
    };
    local.system_id = Some(SystemId(2));
    agent.handle(at(0), AgentEvent::LocalObserved(local));
    agent.handle(at(1_500), renewal(1_500, 1, 100));
    agent.handle(at(2_000), renewal(2_000, 2, 100));
    assert_eq!(unreplicated_millis(&agent, 9_000), 9_000);
}

#[test]
fn primary_then_zero_and_counted_from_its_end() {
    let mut agent = holder();
    assert_eq!(agent.writable_since(), None);
    let renewal = only(written(
        agent.handle(at(1_000), AgentEvent::LocalObserved(Box::new(up()))),
    ));
    agent.handle(at(1_050), stored(&renewal, 2));
    agent.handle(at(3_000), AgentEvent::LocalObserved(Box::new(up())));
    assert_eq!(unreplicated_millis(&agent, 3_000), 0);
    assert_eq!(agent.writable_since(), Some(at(1_050)));

    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    agent.handle(at(4_000), AgentEvent::LocalObserved(Box::new(ended)));
    assert_eq!(unreplicated_millis(&agent, 5_000), 2_000);
    assert_eq!(
        agent.writable_since(),
        Some(at(1_050)),
        "the last period stays"
    );
}

#[test]
fn host_suspended_then_suspension_counts() {
    let agent = streaming();
    let resumed = HostInstant::new(at(60_000).boottime(), Duration::from_millis(102_100));
    let gap = agent.unreplicated(resumed).as_millis();
    assert_eq!(gap, u128::from(OBSERVED + 58_000));
}

#[test]
fn reads_fail_then_lease_store_not_reached() {
    let failed = |requested_at| AgentEvent::LeaseRead {
        requested_at: at(requested_at),
        answer: LeaseReadResult::Failed,
    };
    let mut agent = agent("b");
    assert!(!agent.reaches_lease_store(at(0)), "it never answered");
    agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    agent.handle(at(4_900), failed(3_400));
    assert!(agent.reaches_lease_store(at(4_900)));
    assert!(!agent.reaches_lease_store(at(5_000)));

    agent.handle(at(6_000), missing(5_900));
    assert!(
        agent.reaches_lease_store(at(6_000)),
        "it answered without an object"
    );
}

#[test]
fn renewals_not_stored_then_holder_does_not_reach_lease_store() {
    let mut agent = holder();
    assert!(agent.reaches_lease_store(at(4_900)));
    let renewal = only(written(
        agent.handle(at(2_000), AgentEvent::LocalObserved(Box::new(up()))),
    ));
    agent.handle(at(3_500), unknown(&renewal));
    agent.handle(at(4_000), found(3_600, 1, "a", LeaseState::Held));
    assert!(
        !agent.reaches_lease_store(at(5_000)),
        "reads alone keep no lease"
    );
}
