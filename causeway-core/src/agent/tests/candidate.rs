//! Agents that do not hold the lease.

use super::*;
use crate::problem::ProblemKind;

#[test]
fn takeover_refused_then_next_write_pauses() {
    let mut agent = agent("b");
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(following())));
    agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    let takeover = only(written(agent.handle(at(10_000), AgentEvent::Tick)));

    let actions = agent.handle(at(10_001), unknown(&takeover));
    assert_eq!(written(actions), []);
    assert_eq!(written(agent.handle(at(10_100), AgentEvent::Tick)), []);
    assert_eq!(written(agent.handle(at(10_300), AgentEvent::Tick)).len(), 1);
}

#[test]
fn record_of_another_cluster_then_ignored_and_one_alert() {
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
    assert!(
        problems.iter().any(|problem| problem.kind == kind),
        "{problems:?}"
    );
}

#[test]
fn node_lists_differ_then_problem_names_the_node() {
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
