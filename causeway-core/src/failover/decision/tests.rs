//! Decisions, one situation at a time.

use proptest::prelude::*;

use super::*;
use crate::failover::collation::CollationProvider;
use crate::lease::PrimaryPosition;
use crate::lsn::Ancestor;

proptest! {
    /// Whatever the progress of each node, another node's lease in force is not taken.
    #[test]
    fn lease_in_force_then_no_action(
        age in 0_u64..10_000, received in 0_u64..200, peers in prop::collection::vec(0_u64..200, 0..3),
    ) {
        let mut seen = observation(age, received);
        seen.peers = peers.iter().map(|received| peer(*received)).collect();

        prop_assert!(matches!(decide(&seen, &policy()), Decision::NoAction(NoAction::LeaseInForce(_))));
    }

    /// A promotion takes a timeline above every reserved one.
    #[test]
    fn takeover_then_timeline_above_every_reserved_one(age in 0_u64..30_000, highest in 1_u32..50, own in any::<bool>()) {
        let mut seen = observation(age, 100);
        let lease = seen.lease.as_mut().unwrap();
        lease.highest_reserved_timeline = Timeline::new(highest).unwrap();
        if own {
            lease.host_id = seen.host_id.clone();
            lease.holder = seen.node.clone();
        }
        if let Decision::TakeLease(Takeover { mode: PromotionMode::Promote(timeline), .. }) = decide(&seen, &policy()) {
            prop_assert!(timeline.get() > highest);
        }
    }
}

#[test]
fn lease_expired_then_takeover() {
    let expected = Takeover {
        epoch: Epoch::new(8),
        mode: PromotionMode::Promote(Timeline::new(2).unwrap()),
    };
    assert_eq!(
        decide(&observation(10_000, 100), &policy()),
        Decision::TakeLease(expected)
    );
}

#[test]
fn lease_released_then_immediate_takeover() {
    let mut seen = observation(0, 100);
    seen.lease.as_mut().unwrap().state = LeaseState::Released;
    assert!(matches!(decide(&seen, &policy()), Decision::TakeLease(_)));
}

#[test]
fn data_loss_above_limit_then_escalation() {
    let expected = Escalation::WouldLose {
        bytes: 51,
        allowed: 50,
    };
    assert_eq!(
        decide(&observation(10_000, 49), &policy()),
        Decision::Escalate(expected)
    );
}

#[test]
fn other_timeline_then_escalation() {
    let mut seen = observation(10_000, 100);
    seen.lease
        .as_mut()
        .unwrap()
        .last_position
        .as_mut()
        .unwrap()
        .timeline = Timeline::new(4).unwrap();
    assert!(matches!(
        decide(&seen, &policy()),
        Decision::Escalate(Escalation::OnAnotherTimeline { .. })
    ));
}

#[test]
fn peer_with_more_wal_then_waits_for_a_limited_time() {
    let mut seen = observation(10_000, 80);
    seen.peers = vec![peer(90)];
    let better = Decision::NoAction(NoAction::BehindPeer("c".parse().unwrap()));
    assert_eq!(decide(&seen, &policy()), better);

    seen.lease.as_mut().unwrap().age = Duration::from_secs(13);
    assert!(matches!(decide(&seen, &policy()), Decision::TakeLease(_)));
}

#[test]
fn own_lease_and_server_stopped_then_resumes_at_once() {
    let mut seen = observation(0, 100);
    let lease = seen.lease.as_mut().unwrap();
    lease.holder = seen.node.clone();
    lease.host_id = seen.host_id.clone();
    lease.last_primary = Some(seen.node.clone());
    seen.server = ServerView::Stopped(DataDirectoryState::Primary);
    let back = Takeover {
        epoch: Epoch::new(8),
        mode: PromotionMode::Resume,
    };
    assert_eq!(decide(&seen, &policy()), Decision::TakeLease(back));

    seen.server = ServerView::MayWrite;
    assert_eq!(
        decide(&seen, &policy()),
        Decision::NoAction(NoAction::LocalServerRunning)
    );
}

#[test]
fn own_name_on_another_host_then_waits_like_a_candidate() {
    let mut seen = observation(0, 100);
    let lease = seen.lease.as_mut().unwrap();
    lease.holder = seen.node.clone();
    lease.last_primary = Some(seen.node.clone());
    seen.server = ServerView::Stopped(DataDirectoryState::Primary);
    let other = Decision::NoAction(NoAction::OtherHost("host-a".into()));
    assert_eq!(decide(&seen, &policy()), other);

    // The original may have written on this timeline since, so the copy takes another.
    seen.lease.as_mut().unwrap().age = Duration::from_secs(10);
    let starts = Decision::NoAction(NoAction::NotConsistent);
    assert_eq!(decide(&seen, &policy()), starts);
    seen.server = observation(0, 100).server;
    let promoted = PromotionMode::Promote(Timeline::new(2).unwrap());
    assert!(matches!(
        decide(&seen, &policy()),
        Decision::TakeLease(Takeover { mode, .. }) if mode == promoted
    ));
}

/// A snapshot of a primary's or a standby's disk lacks the WAL written after it.
#[test]
fn own_name_without_the_recorded_wal_then_no_takeover() {
    let missing = Decision::Escalate(Escalation::OwnWalMissing);
    let mut seen = observation(10_000, 99);
    let holders = [
        seen.lease.as_ref().unwrap().holder.clone(),
        seen.node.clone(),
    ];
    for holder in holders {
        let lease = seen.lease.as_mut().unwrap();
        lease.holder = holder;
        lease.last_primary = Some(seen.node.clone());
        assert_eq!(decide(&seen, &policy()), missing);
    }
    seen.holds_position = false;
    seen.server = ServerView::Stopped(DataDirectoryState::Primary);
    assert_eq!(decide(&seen, &policy()), missing);
}

#[test]
fn holder_in_another_region_then_by_command_only() {
    let mut seen = observation(60_000, 100);
    seen.lease.as_mut().unwrap().holder = "c".parse().unwrap();
    let other = Decision::NoAction(NoAction::OtherRegion("c".parse().unwrap()));
    assert_eq!(decide(&seen, &policy()), other);
}

#[test]
fn commits_would_not_be_held_back_then_no_takeover() {
    let mut seen = observation(60_000, 100);
    seen.holds_back = false;
    let hold = Decision::NoAction(NoAction::CommitsNotHeldBack);
    assert_eq!(decide(&seen, &policy()), hold);
}

/// It streamed from a node that was promoted and failed before it accepted writes.
#[test]
fn newer_timeline_that_holds_the_position_then_takes_over() {
    let mut seen = observation(60_000, 100);
    let timeline = Timeline::new(2).unwrap();
    if let ServerView::Standby(own) = &mut seen.server {
        own.timeline = timeline;
    }
    seen.lease.as_mut().unwrap().highest_reserved_timeline = timeline;
    let left_at = |lsn| Ancestor {
        timeline: Timeline::FIRST,
        left_at: Lsn::new(lsn),
    };
    seen.ancestors = vec![left_at(99)];
    let decision = decide(&seen, &policy());
    assert!(matches!(decision, Decision::Escalate(_)), "{decision:?}");

    seen.ancestors = vec![left_at(100)];
    let decision = decide(&seen, &policy());
    let promoted = PromotionMode::Promote(Timeline::new(3).unwrap());
    assert!(
        matches!(decision, Decision::TakeLease(Takeover { mode, .. }) if mode == promoted),
        "{decision:?}"
    );
}

/// An operator commanded it to take the lease with that loss, and it released the lease before it accepted
/// writes.
#[test]
fn released_before_writes_then_an_ordinary_candidate() {
    let mut seen = observation(60_000, 100);
    let lease = seen.lease.as_mut().unwrap();
    lease.holder = seen.node.clone();
    lease.host_id = seen.host_id.clone();
    lease.state = LeaseState::Released;
    lease.last_position.as_mut().unwrap().timeline = Timeline::new(4).unwrap();
    assert!(matches!(
        decide(&seen, &policy()),
        Decision::Escalate(Escalation::OnAnotherTimeline { .. })
    ));
}

#[test]
fn another_database_then_no_takeover() {
    let mut seen = observation(60_000, 100);
    seen.system_id = Some(SystemId(2));
    assert_eq!(
        decide(&seen, &policy()),
        Decision::NoAction(NoAction::OtherDatabase)
    );
}

/// Half of the nodes still read the bucket that the lease was moved from.
#[test]
fn lease_retired_or_superseded_then_no_takeover() {
    let mut seen = observation(60_000, 100);
    seen.peers = vec![PeerView {
        highest: Epoch::new(8),
        ..peer(0)
    }];
    let superseded = NoAction::Superseded("c".parse().unwrap(), Epoch::new(8));
    assert_eq!(
        decide(&seen, &policy()),
        Decision::NoAction(superseded.clone())
    );

    // The node that held it does not take it either, on its own host.
    let lease = seen.lease.as_mut().unwrap();
    (lease.holder, lease.host_id) = (seen.node.clone(), seen.host_id.clone());
    seen.server = ServerView::Stopped(DataDirectoryState::Primary);
    assert_eq!(decide(&seen, &policy()), Decision::NoAction(superseded));

    seen.peers.clear();
    seen.lease.as_mut().unwrap().state = LeaseState::Retired;
    assert_eq!(
        decide(&seen, &policy()),
        Decision::NoAction(NoAction::Retired)
    );
}

#[test]
fn peer_with_another_database_then_not_waited_for() {
    let mut seen = observation(10_000, 100);
    seen.peers = vec![peer(150)];
    let better = NoAction::BehindPeer("c".parse().unwrap());
    assert_eq!(decide(&seen, &policy()), Decision::NoAction(better));
    seen.peers[0].system_id = Some(SystemId(2));
    assert!(matches!(decide(&seen, &policy()), Decision::TakeLease(_)));
}

proptest! {
    /// The forecast is the decision once the primary is lost and the lease has expired, and never a takeover
    /// that the policy forbids.
    #[test]
    fn primary_lost_then_decision_equals_forecast(
        age in 0_u64..10_000, received in 0_u64..200, automatic in any::<bool>(), region in any::<bool>(),
        database in 1_u64..3, timeline in 1_u32..3, state in 0_usize..4, better in 0_u64..200,
    ) {
        let mut seen = observation(age, received);
        let states = [LeaseState::Held, LeaseState::Acquiring, LeaseState::Paused, LeaseState::Retired];
        let lease = seen.lease.as_mut().unwrap();
        lease.state = states[state];
        if !region {
            lease.holder = "c".parse().unwrap();
        }
        seen.system_id = Some(SystemId(database));
        let own = ReplayProgress { timeline: Timeline::new(timeline).unwrap(), ..progress(received) };
        seen.server = ServerView::Standby(own);
        seen.peers = vec![peer(better)];
        let policy = FailoverPolicy { automatic, ..policy() };

        let forecast = forecast_primary_loss(&seen, &policy);

        let lease = seen.lease.as_mut().unwrap();
        lease.age = policy.lease_duration + policy.peer_preference_timeout;
        let holder = lease.holder.clone();
        seen.peers.retain(|peer| peer.node != holder);
        prop_assert_eq!(&forecast, &decide(&seen, &policy));
        if matches!(forecast, Decision::TakeLease(_)) {
            prop_assert!(automatic && region && database == 1 && timeline == 1 && state < 2);
            prop_assert!(received + policy.max_loss_bytes >= 100);
        }
    }
}

/// Its indexes were written in another order, so it would return wrong rows.
#[test]
fn collation_differs_then_operator_needed() {
    let difference = CollationDifference {
        provider: CollationProvider::Libc,
        here: "2.36".to_owned(),
        there: "2.31".to_owned(),
        primary: Some("a".parse().unwrap()),
    };
    let escalation = Decision::Escalate(Escalation::CollationDiffers(difference.clone()));
    let seen = Observation {
        collation_difference: Some(difference),
        ..observation(60_000, 100)
    };
    assert_eq!(decide(&seen, &policy()), escalation);
    assert_eq!(forecast_primary_loss(&seen, &policy()), escalation);

    let mut released = seen.clone();
    released.lease.as_mut().unwrap().state = LeaseState::Released;
    assert_eq!(decide(&released, &policy()), escalation);

    // A lease in force outranks it, and the last primary itself returns.
    let mut in_force = seen.clone();
    in_force.lease.as_mut().unwrap().age = Duration::ZERO;
    assert!(matches!(
        decide(&in_force, &policy()),
        Decision::NoAction(NoAction::LeaseInForce(_))
    ));
    let returns = Observation {
        node: "a".parse().unwrap(),
        host_id: "host-a".into(),
        ..seen
    };
    assert!(matches!(
        decide(&returns, &policy()),
        Decision::TakeLease(_)
    ));
}

fn policy() -> FailoverPolicy {
    FailoverPolicy {
        lease_duration: Duration::from_secs(10),
        automatic: true,
        region_nodes: ["a", "b"].map(|name| name.parse().unwrap()).into(),
        max_loss_bytes: 50,
        peer_preference_timeout: Duration::from_secs(2),
    }
}

fn observation(age_millis: u64, received: u64) -> Observation {
    let last = PrimaryPosition {
        timeline: Timeline::FIRST,
        flush_lsn: Lsn::new(100),
        last_commit_at_micros: 0,
        wal_bytes_per_sec: 0,
        rows_per_sec: 0,
        age_millis: 0,
    };
    let lease = LeaseView {
        holder: "a".parse().unwrap(),
        host_id: "host-a".into(),
        system_id: SystemId(1),
        epoch: Epoch::new(7),
        state: LeaseState::Held,
        age: Duration::from_millis(age_millis),
        last_position: Some(last),
        last_primary: Some("a".parse().unwrap()),
        highest_reserved_timeline: Timeline::FIRST,
    };
    Observation {
        holds_back: true,
        collation_difference: None,
        ancestors: Vec::new(),
        node: "b".parse().unwrap(),
        host_id: "host-b".into(),
        system_id: Some(SystemId(1)),
        holds_position: true,
        lease: Some(lease),
        server: ServerView::Standby(progress(received)),
        peers: Vec::new(),
    }
}

fn progress(received: u64) -> ReplayProgress {
    let received = Lsn::new(received);
    ReplayProgress {
        timeline: Timeline::FIRST,
        received_lsn: received,
        replayed_lsn: received,
    }
}

fn peer(received: u64) -> PeerView {
    PeerView {
        node: "c".parse().unwrap(),
        automatic: true,
        system_id: Some(SystemId(1)),
        highest: Epoch::new(7),
        progress: Some(progress(received)),
        primary_collations: None,
    }
}
