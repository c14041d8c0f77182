//! Collation versions of real servers, and the eligibility of a standby that follows from them.

use causeway_core::agent::{
    Agent, AgentConfig, AgentEvent, AgentIdentity, LeaseReadResult, LocalObservation, ServerHealth,
};
use causeway_core::failover::decision::{Decision, Escalation, FailoverPolicy};
use causeway_core::failover::observation::{PeerView, ReplayProgress, ServerView};
use causeway_core::lease::{ETag, LeaseRecord, LeaseTiming};
use causeway_core::problem::ProblemKind;
use causeway_core::{Epoch, HostInstant, Timeline};

use super::*;
use crate::clients::postgres::monitor;
use crate::test_lease::held_lease;
use crate::test_server::{Nodes, TestNode};

/// A database and an index that are ordered by ICU.
const TEXTS: [&str; 2] = [
    "create database texts template template0 encoding 'UTF8' locale_provider icu icu_locale 'sv' locale 'C'",
    r#"create table texts (t text collate "de-x-icu" unique)"#,
];

/// Makes the catalogs record another version than that of the library, as an upgrade of the operating system does.
const UPGRADE: [&str; 2] = [
    "update pg_database set datcollversion = '0.0' where datname = 'texts'",
    "update pg_collation set collversion = '0.1' where collname = 'de-x-icu'",
];

const REFRESH: [&str; 2] = [
    "alter database texts refresh collation version",
    r#"alter collation "de-x-icu" refresh version"#,
];

#[tokio::test]
async fn indexes_of_other_version_then_not_eligible_until_refreshed() {
    let nodes = Nodes::new();
    let (a, b) = (nodes.primary("a"), nodes.node("b"));
    b.become_standby_of(&a).await;
    execute(&a, TEXTS);
    b.until(
        "select count(*) from pg_database where datname = 'texts'",
        "1",
    );
    b.until("select count(*) from pg_class where relname = 'texts'", "1");
    let (primary, standby) = (versions(&a).await, versions(&b).await);
    assert!(!standby.actual.is_empty(), "{standby:?}");
    assert_eq!(primary, standby);
    assert_eq!(standby.stale, [].into());
    assert!(is_eligible(&standby, None));

    execute(&a, UPGRADE);
    b.until(
        "select collversion from pg_collation where collname = 'de-x-icu'",
        "0.1",
    );
    let standby = versions(&b).await;
    let recorded: Vec<_> = standby.stale.iter().map(|stale| &*stale.recorded).collect();
    assert_eq!(recorded, ["0.0", "0.1"]);
    assert!(!is_eligible(&standby, None), "the primary was never seen");
    // The primary's library is the same: every node was upgraded.
    assert!(is_eligible(&standby, Some(&versions(&a).await)));
    let problem = problem(&standby, Some(&primary)).expect("a problem");
    assert!(problem.contains("were built with ICU 0.0"), "{problem}");
    // The primary still has the version that the catalogs record.
    let before_upgrade = NodeCollations {
        actual: [CollationVersion {
            provider: CollationProvider::Icu,
            version: "0.0".to_owned(),
        }]
        .into(),
        ..NodeCollations::default()
    };
    assert!(!is_eligible(&standby, Some(&before_upgrade)));

    execute(&a, REFRESH);
    b.until(
        "select collversion <> '0.1' from pg_collation where collname = 'de-x-icu'",
        "t",
    );
    let standby = versions(&b).await;
    assert_eq!(standby.stale, [].into());
    assert!(is_eligible(&standby, None));
    assert_eq!(self::problem(&standby, Some(&primary)), None);
}

#[tokio::test]
async fn release_before_15_then_same_collations_read() {
    let nodes = Nodes::new();
    let a = nodes.primary("a");
    execute(&a, TEXTS);
    execute(&a, UPGRADE);
    let client = connect(&local(&a.host().postgres, "test"), &Tasks::new()).await;
    let row = client.unwrap().query_one(VERSIONS_BEFORE_15, &[]).await;
    let found = parse(row.unwrap().get(0)).unwrap();
    assert_eq!(found.actual, versions(&a).await.actual);
    let recorded: Vec<_> = found.stale.iter().map(|stale| &*stale.recorded).collect();
    assert_eq!(recorded, ["0.1"], "a database records none");
}

#[tokio::test]
async fn server_answers_then_versions_published_with_the_answer() {
    let nodes = Nodes::new();
    let a = nodes.primary("a");
    let (sender, mut states) = watch::channel(PostgresState::default());
    let (tasks, settings) = (Tasks::new(), a.host().postgres);
    let connections = tasks.clone();
    tasks.start("monitor", |stop| {
        monitor(settings, sender, connections, stop)
    });
    let first = states.wait_for(|state| state.answer.is_some());
    let first = time::timeout(Duration::from_secs(30), first).await;
    let collations = first.unwrap().unwrap().collations.clone();
    assert_eq!(*collations.unwrap().1, versions(&a).await);
}

#[test]
fn provider_of_a_later_release_then_ignored() {
    let found = parse(r#"[{"provider":"x","recorded":"1","actual":"2","used":true}]"#);
    assert_eq!(found.unwrap(), NodeCollations::default());
    assert!(parse("[{}]").is_err());
}

/// Executes statements one at a time: a database is not created in a transaction.
fn execute(node: &TestNode, statements: [&str; 2]) {
    for statement in statements {
        node.sql(statement);
    }
}

async fn versions(node: &TestNode) -> NodeCollations {
    read(&node.host().postgres, &Tasks::new()).await.unwrap()
}

fn is_eligible(standby: &NodeCollations, primary: Option<&NodeCollations>) -> bool {
    match agent(standby, primary).forecast(at(1)) {
        Some(Decision::TakeLease(_)) => true,
        Some(Decision::Escalate(Escalation::CollationDiffers(_))) => false,
        other => panic!("{other:?}"),
    }
}

fn problem(standby: &NodeCollations, primary: Option<&NodeCollations>) -> Option<String> {
    let problems = agent(standby, primary).problems(at(1)).into_iter();
    let mut problems = problems.filter(|problem| problem.kind == ProblemKind::CollationDiffers);
    problems.next().map(|problem| problem.detail)
}

/// Returns the state machine of node `b` whose server has these versions, after the primary `a` reported its own.
fn agent(standby: &NodeCollations, primary: Option<&NodeCollations>) -> Agent {
    let lease = LeaseRecord {
        last_primary: Some("a".parse().unwrap()),
        ..held_lease("a", Epoch::new(3))
    };
    let position = lease.last_position.unwrap();
    let server = ServerView::Standby(ReplayProgress {
        timeline: Timeline::FIRST,
        received_lsn: position.flush_lsn,
        replayed_lsn: position.flush_lsn,
    });
    let local = LocalObservation {
        server,
        armed: None,
        wants_renewal_since: None,
        primary: None,
        health: ServerHealth::Recovering,
        replay: None,
        starts: Some(1),
        system_id: Some(lease.system_id),
        holds_position: true,
        holds_back: true,
        collations: Some(standby.clone()),
        taken_timeline: None,
        ancestry: None,
    };
    let peer = primary.map(|primary| PeerView {
        node: "a".parse().unwrap(),
        automatic: true,
        system_id: None,
        highest: lease.epoch,
        progress: None,
        primary_collations: Some(primary.actual.clone()),
    });
    let timing = LeaseTiming::default();
    let settings = AgentConfig {
        timing,
        policy: FailoverPolicy {
            lease_duration: timing.lease_duration,
            automatic: true,
            region_nodes: ["a", "b"].map(|name| name.parse().unwrap()).into(),
            max_loss_bytes: 0,
            peer_preference_timeout: Duration::from_secs(2),
        },
        write_probe_timeout: Duration::from_secs(5),
        write_stall_timeout: Duration::from_secs(20),
        start_timeout: Duration::from_mins(1),
        max_restarts_per_minute: 3,
    };
    let identity = AgentIdentity {
        cluster: lease.cluster.clone(),
        node: "b".parse().unwrap(),
        host_id: "host".to_owned(),
        boot_id: "boot".to_owned(),
        members: Vec::new(),
    };
    let mut agent = Agent::new(identity, settings, (Epoch::default(), 0), 1);
    let read = AgentEvent::LeaseRead {
        requested_at: at(0),
        answer: LeaseReadResult::Found(ETag("\"1\"".to_owned()), Box::new(lease)),
    };
    for event in [
        read,
        AgentEvent::LocalObserved(Box::new(local)),
        AgentEvent::PeersObserved(peer.into_iter().collect()),
    ] {
        agent.handle(at(0), event);
    }
    agent
}

fn at(secs: u64) -> HostInstant {
    HostInstant::at(Duration::from_secs(100 + secs))
}
