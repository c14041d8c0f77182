//! Interrupted operations, with the agent's own HTTP routes and a lease store that fails between two writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use causeway_core::failover::plan::PlanStep;
use causeway_core::lease::{LeaseRecord, WritePrecondition};
use causeway_core::{Epoch, Timeline};
use causeway_runtime::s3::StaticCredentials;
use causeway_runtime::shutdown::Tasks;
use prometheus::{IntCounter, Registry};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::store::{Honesty, Store, WriteFault};
use super::*;
use crate::agent::event_loop::CommandRequest;
use crate::agent::http::{self, HttpState};
use crate::agent::http_server::{ConnectionLimits, serve};
use crate::agent::status_snapshot::StatusSnapshot;
use crate::operator::operation_lock::OpenOperation;
use crate::protocol::node_status::NodeStatus;
use crate::protocol::signed_command::CommandKind;
use crate::test_lease::held_lease;

#[expect(
    dead_code,
    reason = "the tests of bad stores use the other kinds of store"
)]
#[path = "../../../tests/bad_input/store.rs"]
mod store;

const LOCK: &str = "clusters/main/operation";
const PLANNED_EPOCH: Epoch = Epoch::new(3);

/// Cluster whose primary `a` is lost, with the routes of `b`'s agent and the lease in a store.
struct World {
    store: Store,
    settings: Settings,
    directory: tempfile::TempDir,
    /// Number of `take-lease` commands that the agent of `b` has accepted.
    taken: Arc<AtomicUsize>,
    status: watch::Sender<StatusSnapshot>,
    tasks: Tasks,
}

impl World {
    async fn new() -> Self {
        let store = Store::start(Honesty::KeepsConditions);
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agent = listener.local_addr().unwrap();
        let settings = settings(&directory, &store.endpoint(), &agent.to_string());
        let (status, statuses) = watch::channel(StatusSnapshot::default());
        let (commands, received) = mpsc::channel(8);
        let world = Self {
            store,
            settings,
            directory,
            taken: Arc::default(),
            status,
            tasks: Tasks::new(),
        };
        let lease = held_lease("a", PLANNED_EPOCH);
        world
            .lease_store()
            .await
            .create_lease(&lease)
            .await
            .unwrap();
        world.show(&lease, false);
        let state = HttpState {
            status: statuses,
            commands,
            key: world.key(),
        };
        let routes = http::routes(state, Registry::new());
        let evicted = IntCounter::new("evicted", "evicted").unwrap();
        let tasks = world.tasks.clone();
        world.tasks.start("http", |stop| {
            let limits = ConnectionLimits::default();
            serve(listener, routes, limits, evicted, tasks, stop)
        });
        world.start_agent(received).await;
        world
    }

    /// Starts the part of `b`'s agent that takes the lease on command and becomes primary.
    async fn start_agent(&self, mut commands: mpsc::Receiver<CommandRequest>) {
        let store = self.lease_store().await;
        let status = self.status.clone();
        let taken = Arc::clone(&self.taken);
        self.tasks.start("agent", |_stop| async move {
            while let Some((signed, result)) = commands.recv().await {
                assert_eq!(signed.planned_epoch, PLANNED_EPOCH);
                assert!(matches!(signed.command, CommandKind::TakeLease { .. }));
                let (etag, before) = store.version().await.unwrap().unwrap();
                let lease = held_lease("b", before.epoch.next());
                let condition = WritePrecondition::Match(etag);
                store.replace_lease(&lease, &condition).await.unwrap();
                taken.fetch_add(1, Ordering::Relaxed);
                status.send_replace(snapshot(&lease, true));
                result.send(Ok(())).unwrap();
            }
        });
    }

    fn show(&self, lease: &LeaseRecord, is_primary: bool) {
        self.status.send_replace(snapshot(lease, is_primary));
    }

    fn key(&self) -> CommandSigningKey {
        CommandSigningKey::read(&self.directory.path().join("key")).unwrap()
    }

    async fn lease_store(&self) -> LeaseStore {
        let store = LeaseStore::open(&self.settings).await;
        store.with_credentials(StaticCredentials {
            access_key: "test",
            secret_key: "test",
        })
    }

    async fn executor(&self) -> PlanExecutor<'_> {
        let agents = AgentClient::new(&self.settings);
        let store = self.lease_store().await;
        PlanExecutor::new(&self.settings, store, agents, self.key(), Instant::now())
    }

    /// Starts the operation and executes its plan.
    async fn promote(&self) -> Result<Journal, Error> {
        let store = self.lease_store().await;
        let unlimited = LossLimit {
            bytes: u64::MAX,
            rows: None,
        };
        let journal = Journal::new(plan(), unlimited, Vec::new());
        let lease = store.lease().await?.unwrap();
        let lock = OperationLock::acquire(&store, journal, &lease).await?;
        self.executor().await.run(lock, PlanState::NotStarted).await
    }

    /// Takes over the interrupted operation without the wait for its heartbeat, and executes the rest.
    async fn resume(&self) -> Option<Result<Journal, Error>> {
        let store = self.lease_store().await;
        let open = OpenOperation::find(&store).await.unwrap()?;
        let lease = store.lease().await.unwrap().unwrap();
        let state = plan_state(&open.journal.plan, &lease);
        let lock = open.take_over(|_| ()).await.unwrap();
        let executor = self.executor().await;
        Some(Box::pin(executor.run(lock, state)).await)
    }

    /// Asserts that the operation has ended well: one command, the next epoch, and an archived journal.
    async fn assert_promoted(&self, context: &str) {
        let journal = self.store.object(LOCK).expect(context);
        let journal: Journal = serde_json::from_str(&journal).unwrap();
        let promoted = OperationOutcome::Promoted {
            records_not_moved: Vec::new(),
        };
        assert_eq!(journal.outcome, Some(promoted), "{context}");
        let archive = format!("clusters/main/operations/{}.json", journal.id);
        assert_eq!(
            self.store.object(&archive),
            self.store.object(LOCK),
            "{context}: the archive differs from the journal"
        );
        for step in 0..journal.plan.steps.len() {
            let completed = |entry: &&causeway_core::failover::plan_state::StepRecord| {
                entry.step == step && entry.completed
            };
            let is_pre_lease = step < 2;
            assert!(
                is_pre_lease || journal.entries.iter().find(completed).is_some(),
                "{context}: step {step} is not completed"
            );
        }
        let lease = self.lease_store().await.lease().await.unwrap().unwrap();
        assert_eq!(lease.epoch, PLANNED_EPOCH.next(), "{context}");
        assert_eq!(self.taken.load(Ordering::Relaxed), 1, "{context}");
    }
}

fn settings(directory: &tempfile::TempDir, endpoint: &str, agent: &str) -> Settings {
    let key = directory.path().join("key");
    std::fs::write(&key, "k".repeat(64)).unwrap();
    let text = format!(
        r#"
cluster = "main"
primary-region = "eu-west-1"
command-signing-key-file = "{}"
[[nodes]]
name = "a"
region = "eu-west-1"
zone = "z"
address = "127.0.0.1"
agent = "127.0.0.1:9"
[[nodes]]
name = "b"
region = "eu-central-1"
zone = "z"
address = "127.0.0.2"
agent = "{agent}"
[lease]
bucket = "lease"
region = "eu-north-1"
endpoint = "{endpoint}"
"#,
        key.display()
    );
    let path = directory.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    Settings::read(&path).unwrap()
}

fn plan() -> FailoverPlan {
    let node: NodeId = "b".parse().unwrap();
    FailoverPlan {
        to: node.clone(),
        from: "a".parse().unwrap(),
        planned_epoch: PLANNED_EPOCH,
        data_loss: None,
        accept_timeline: None,
        collation_difference: None,
        steps: vec![
            PlanStep::Fence {
                node: "a".parse().unwrap(),
                method: FencingMethod::LeaseExpired,
            },
            PlanStep::CatchUp { node: node.clone() },
            PlanStep::TakeLease {
                node: node.clone(),
                epoch: PLANNED_EPOCH.next(),
            },
            PlanStep::Promote {
                node,
                timeline: Timeline::FIRST.next(),
            },
        ],
    }
}

/// Returns the status of `b`: a standby that has seen the lease expire, or the primary.
fn snapshot(lease: &LeaseRecord, is_primary: bool) -> StatusSnapshot {
    let position = json!({"timeline": 2, "flush_lsn": "0/64", "last_commit_at_micros": 0});
    let progress = json!({"timeline": 1, "received_lsn": "0/64", "replayed_lsn": "0/64"});
    let status = json!({
        "format": 1, "cluster": "main", "version": "0", "node": "b", "region": "eu-central-1", "zone": "z",
        "host_id": "h", "role": if is_primary { "primary" } else { "standby" },
        "automatic_failover": true, "system_id": "1", "data_directory_state": "standby", "server": null,
        "progress": (!is_primary).then_some(progress), "streaming": false,
        "replayed_commit_at_micros": null, "wal_position": is_primary.then_some(position),
        "decision": null, "standby_setup": null,
        "lease": {"record": lease, "age_secs": 30.0, "stood_secs": 30.0, "expired": !is_primary},
        "guard": {"responding": true, "epoch": null, "remaining_secs": 0.0}, "problems": [],
        "highest": {"epoch": lease.epoch, "sequence": 9}, "unproven_secs": null, "forecast": null,
    });
    let status: NodeStatus = serde_json::from_value(status).unwrap();
    StatusSnapshot {
        status: Some(Arc::new(status)),
        primary_until: None,
        is_standby: !is_primary,
    }
}

#[tokio::test]
async fn every_step_succeeds_then_promoted() {
    let world = World::new().await;
    world.promote().await.unwrap();
    world.assert_promoted("no fault").await;
}

#[tokio::test]
async fn operator_cut_off_after_any_write_then_resumed_once() {
    for after in 0.. {
        let world = World::new().await;
        let context = format!("cut off after {after} journal writes");
        world
            .store
            .fail_writes(LOCK, after, usize::MAX, WriteFault::Rejected);
        let interrupted = world.promote().await;
        if !world.store.heal() {
            interrupted.unwrap();
            assert!(
                after >= 5,
                "the fault was never met: {after} journal writes"
            );
            return;
        }
        let error = interrupted.unwrap_err();
        if after == 0 {
            assert!(world.resume().await.is_none(), "{context}: {error:?}");
            assert_eq!(world.taken.load(Ordering::Relaxed), 0, "{context}");
            continue;
        }
        world.resume().await.expect(&context).expect(&context);
        world.assert_promoted(&context).await;
    }
}

#[tokio::test]
async fn archive_write_fails_then_next_operator_archives() {
    let world = World::new().await;
    world.promote().await.unwrap();
    let journal: Journal = serde_json::from_str(&world.store.object(LOCK).unwrap()).unwrap();
    let archive = format!("clusters/main/operations/{}.json", journal.id);
    world.store.remove(&archive);
    assert!(world.resume().await.is_none(), "the operation has ended");
    world.assert_promoted("archive written again").await;
}

#[tokio::test]
async fn response_lost_after_any_write_then_operation_continues() {
    for after in 0.. {
        let world = World::new().await;
        let context = format!("response {after} lost");
        world
            .store
            .fail_writes(LOCK, after, 1, WriteFault::ResponseLost);
        let result = world.promote().await;
        let is_met = world.store.heal();
        result.expect(&context);
        world.assert_promoted(&context).await;
        if !is_met {
            return;
        }
    }
}

#[tokio::test]
async fn operation_taken_over_then_lease_not_taken() {
    let world = World::new().await;
    // The fence waits as long as the target has not seen the lease expire.
    world.status.send_modify(|snapshot| {
        let mut status = NodeStatus::clone(snapshot.status.as_ref().unwrap());
        status.lease.as_mut().unwrap().expired = false;
        snapshot.status = Some(Arc::new(status));
    });
    let take_over = async {
        let store = world.lease_store().await;
        loop {
            if let Some(open) = OpenOperation::find(&store).await.unwrap()
                && let Ok(lock) = open.take_over(|_| ()).await
            {
                return lock;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (first, _second) = tokio::join!(world.promote(), take_over);
    let error = first.unwrap_err();
    let Error::Unfinished { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(source.is::<OperationLockLost>(), "{source:?}");
    assert_eq!(world.taken.load(Ordering::Relaxed), 0);
}
