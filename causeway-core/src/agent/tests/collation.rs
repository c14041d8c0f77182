//! Candidates whose library orders text in another way than the primary's.

use super::*;
use crate::failover::collation::{
    CollationProvider, CollationVersion, NodeCollations, StaleCollation,
};
use crate::failover::decision::Escalation;
use crate::failover::observation::PeerView;
use crate::problem::ProblemKind;

#[test]
fn primary_seen_with_other_version_then_no_takeover() {
    let mut agent = standby("2.36", None);
    agent.handle(at(100), primary("a", "2.31"));
    assert!(is_excluded(&agent, 200), "{:?}", agent.forecast(at(200)));
    assert!(detail(&agent).unwrap().contains("`a` by 2.31"));

    // The primary is lost, and what it last reported still counts.
    agent.handle(at(1000), AgentEvent::PeersObserved(Vec::new()));
    let actions = agent.handle(at(60_000), AgentEvent::Tick);
    assert_eq!(written(actions), []);
    let decision = agent.decision();
    assert!(
        matches!(
            decision,
            Some(Decision::Escalate(Escalation::CollationDiffers(_)))
        ),
        "{decision:?}"
    );
}

#[test]
fn primary_seen_with_same_version_then_takeover() {
    let mut agent = standby("2.36", None);
    agent.handle(at(100), primary("a", "2.31"));
    agent.handle(at(200), primary("a", "2.36"));
    assert_eq!(detail(&agent), None);
    agent.handle(at(1000), AgentEvent::PeersObserved(Vec::new()));
    only(written(agent.handle(at(60_000), AgentEvent::Tick)));
}

#[test]
fn cluster_upgraded_alike_then_takeover_and_problem() {
    let mut agent = standby("2.36", Some("2.31"));
    assert!(is_excluded(&agent, 50), "the primary was not seen yet");
    agent.handle(at(100), primary("a", "2.36"));
    assert!(!is_excluded(&agent, 200));
    let text = detail(&agent).unwrap();
    assert!(
        text.contains("built with libc 2.31") && text.contains("REFRESH VERSION"),
        "{text}"
    );
    only(written(agent.handle(at(60_000), AgentEvent::Tick)));
}

#[test]
fn primary_never_seen_then_recorded_version_decides() {
    assert!(is_excluded(&standby("2.36", Some("2.31")), 100));
    assert!(!is_excluded(&standby("2.36", None), 100));
}

#[test]
fn another_node_reports_as_primary_then_not_compared() {
    let mut agent = standby("2.36", None);
    agent.handle(at(100), primary("a", "2.36"));
    // The lease says that `a` wrote the WAL that this node has.
    agent.handle(at(200), primary("c", "2.31"));
    assert!(!is_excluded(&agent, 300));
}

#[test]
fn operator_commands_takeover_then_taken() {
    let mut agent = standby("2.36", None);
    agent.handle(at(100), primary("a", "2.31"));
    agent.handle(at(1000), AgentEvent::PeersObserved(Vec::new()));
    let proof = FencingProof::LeaseExpired;
    let taken = agent.take_lease(at(60_000), Epoch::new(1), proof, None);
    only(written(taken.unwrap()));
}

fn standby(version: &str, recorded: Option<&str>) -> Agent {
    let stale = recorded.map(|recorded| StaleCollation {
        provider: CollationProvider::Libc,
        recorded: recorded.to_owned(),
        actual: version.to_owned(),
    });
    let local = LocalObservation {
        collations: Some(NodeCollations {
            actual: [libc(version)].into(),
            stale: stale.into_iter().collect(),
        }),
        ..following()
    };
    let mut agent = agent("b");
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(local)));
    agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    agent
}

fn primary(node: &str, version: &str) -> AgentEvent {
    AgentEvent::PeersObserved(vec![PeerView {
        node: node.parse().unwrap(),
        automatic: true,
        system_id: Some(SystemId(1)),
        highest: Epoch::new(1),
        progress: None,
        primary_collations: Some([libc(version)].into()),
    }])
}

fn libc(version: &str) -> CollationVersion {
    CollationVersion {
        provider: CollationProvider::Libc,
        version: version.to_owned(),
    }
}

fn is_excluded(agent: &Agent, millis: u64) -> bool {
    matches!(
        agent.forecast(at(millis)),
        Some(Decision::Escalate(Escalation::CollationDiffers(_)))
    )
}

fn detail(agent: &Agent) -> Option<String> {
    let problems = agent.problems(at(300)).into_iter();
    let mut problems = problems.filter(|problem| problem.kind == ProblemKind::CollationDiffers);
    problems.next().map(|problem| problem.detail)
}
