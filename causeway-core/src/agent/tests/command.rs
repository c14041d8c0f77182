//! Signed commands to an agent.

use super::*;

#[test]
fn other_timeline_then_taken_only_if_accepted_by_number() {
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
fn other_database_then_take_rejected() {
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
