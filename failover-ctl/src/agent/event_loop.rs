//! The loop around the agent: what happened goes in, what to do comes out and is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use causeway_core::agent::{
    Agent, AgentAction, AgentEvent, GuardCommand, LeaseWrite, LocalObservation,
};
use causeway_core::failover::observation::PeerView;
use causeway_core::lease::Nonce;
use causeway_core::{Epoch, HostInstant, Timeline};
use causeway_runtime::clock;
use causeway_runtime::shutdown::Tasks;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::agent::ancestry::AncestryFile;
use crate::agent::dns_records::{RecordMove, RecordMoves};
use crate::agent::metrics::Metrics;
use crate::agent::problem_log::ProblemLog;
use crate::agent::standby::state::StandbyState;
use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::agents::{AgentClient, StatusError};
use crate::clients::guard_client::GuardClient;
use crate::clients::lease_store::LeaseStore;
use crate::clients::postgres::{PostgresState, ServerAnswer};
use crate::clients::route53::DnsRecords;
use crate::config::{HostSettings, Settings};
use crate::data_directory::timeline_history;
use crate::highest_record;
use crate::protocol::guard::{GuardRejection, GuardReport, SupervisorCommand};
use crate::protocol::node_status::{HighestRecord, StatusMismatch};
use crate::protocol::signed_command::{CommandKind, SignedCommand};

/// How often the loop turns when nothing happens.
const TURN: Duration = Duration::from_millis(100);

/// An order, and where its answer goes.
pub(crate) type CommandRequest = (SignedCommand, oneshot::Sender<Result<(), String>>);

/// What the loop is connected to.
pub(crate) struct AgentConnections {
    pub(crate) store: LeaseStore,
    pub(crate) guard: GuardClient,
    pub(crate) said: watch::Receiver<PostgresState>,
    pub(crate) orders: mpsc::Receiver<CommandRequest>,
    pub(crate) shown: watch::Sender<StatusSnapshot>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
}

/// One node's agent at work.
pub(crate) struct AgentLoop {
    pub(super) core: Agent,
    pub(super) settings: Arc<Settings>,
    pub(super) host: HostSettings,
    pub(super) with: AgentConnections,
    pub(super) happened: mpsc::Sender<AgentEvent>,
    pub(super) following: StandbyState,
    pub(super) problems: ProblemLog,
    /// Answers to questions put to peers that were another's, when they were last asked.
    pub(super) mismatches: watch::Sender<Vec<StatusMismatch>>,
    /// Whether PostgreSQL can read the key that signs commands, and when that was looked at.
    pub(super) exposure: Option<(HostInstant, Option<String>)>,
    /// A timeline that guard found in use when it was last told to promote.
    pub(super) taken_timeline: Option<Timeline>,
    /// What guard last refused, and when.
    pub(super) refusal: Option<(HostInstant, String)>,
    /// The epoch in which the histories of older timelines were last completed.
    pub(super) completed: Option<Epoch>,
    /// The highest record that was ever believed, as it is kept on disk.
    pub(super) highest: HighestRecord,
    /// Why the newest could not be kept.
    pub(super) not_kept: Option<String>,
    pub(super) last_decision: String,
    /// The numbers of the orders that were given in this epoch.
    pub(super) orders: BTreeSet<String>,
    pub(super) orders_of: Epoch,
    pub(super) pointing: RecordMoves,
    pub(super) ancestry: AncestryFile,
}

impl AgentLoop {
    pub(crate) fn new(
        core: Agent,
        highest: HighestRecord,
        settings: Arc<Settings>,
        host: HostSettings,
        with: AgentConnections,
    ) -> (Self, mpsc::Receiver<AgentEvent>) {
        let (happened, happens) = mpsc::channel(64);
        let following = StandbyState::new(&host.agent.state_directory);
        let driver = Self {
            core,
            settings,
            host,
            with,
            happened,
            problems: ProblemLog::default(),
            mismatches: watch::Sender::default(),
            exposure: None,
            taken_timeline: None,
            refusal: None,
            completed: None,
            following,
            highest,
            not_kept: None,
            last_decision: String::new(),
            orders: BTreeSet::new(),
            orders_of: Epoch::default(),
            pointing: RecordMoves::default(),
            ancestry: AncestryFile::default(),
        };
        (driver, happens)
    }

    /// Runs until told to stop. PostgreSQL goes on without the agent, until guard's deadline.
    pub(crate) async fn run(
        mut self,
        mut happens: mpsc::Receiver<AgentEvent>,
        stop: CancellationToken,
    ) {
        self.poll_peers();
        self.retire_old_lease();
        let mut tick = time::interval(TURN);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(event) = happens.recv() => self.dispatch(event),
                heard = self.with.guard.receive() => match heard {
                    Ok(report) => self.record_guard_rejection(&report),
                    Err(error) => warn!(%error, "guard report not received"),
                },
                Some((order, answer)) = self.with.orders.recv() => {
                    let result = self.execute_command(&order);
                    answer.send(result).ok();
                }
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// Records what guard refused. Each refusal is logged when it is another than the one before.
    fn record_guard_rejection(&mut self, report: &GuardReport) {
        let Some(why) = &report.refused else {
            return;
        };
        if let GuardRejection::TimelineTaken(timeline) = why {
            self.taken_timeline = Some(*timeline);
        }
        let text = causeway_runtime::telemetry::chain(why);
        if self.refusal.as_ref().is_none_or(|(_, last)| *last != text) {
            warn!(reason = text, "guard command rejected");
        }
        self.refusal = Some((clock::now(), text));
    }

    /// Completes the histories of older timelines once this node is open, so that every older standby can
    /// be served.
    fn complete_histories(&mut self, now: HostInstant, look: &LocalObservation) {
        let Some(primary) = look.primary.filter(|_| self.core.is_primary(now)) else {
            return;
        };
        let epoch = self.core.lease(now).map(|(record, _)| record.epoch);
        if self.completed == epoch {
            return;
        }
        self.completed = epoch;
        self.taken_timeline = None;
        let data = &self.host.postgres.data_directory;
        if let Err(error) = timeline_history::complete(data, primary.position.timeline) {
            error!(%error, "writing history files of older timelines failed");
        }
    }

    /// Moves the DNS records to this node once it accepts writes.
    fn move_dns_records(&mut self, now: HostInstant, look: &LocalObservation) {
        if look.primary.is_none() || !self.core.is_primary(now) {
            return;
        }
        let Some(epoch) = self.core.lease(now).map(|(record, _)| record.epoch) else {
            return;
        };
        let Some(dns) = self.settings.dns.clone() else {
            return;
        };
        if self.pointing.has_begun(epoch) {
            return;
        }
        let records = RecordMove {
            wanted: DnsRecords::wanted(&self.settings, &self.host.node),
            dns,
            epoch,
            shown: self.with.shown.subscribe(),
        };
        self.pointing.start(now, records, &self.with.tasks);
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.with.guard.end_if_silent();
        let mut look = self.look(now);
        look.ancestry = self
            .ancestry
            .read(&self.host.postgres.data_directory, now, &look);
        self.dispatch(AgentEvent::LocalObserved(Box::new(look.clone())));
        self.follow(now, look.server);
        let order = self.guard_order();
        self.with.guard.send(self.core.deadline(), order);
        self.move_dns_records(now, &look);
        self.complete_histories(now, &look);
        self.publish_status(now, &look);
    }

    /// Hands an event to the core, and carries out what it answers.
    fn dispatch(&mut self, event: AgentEvent) {
        let held = self.core.holds();
        let confirmed = self.core.deadline();
        let actions = self.core.handle(clock::now(), event);
        for action in actions {
            self.execute_action(action);
        }
        if self.core.holds() != held {
            let epoch = self.core.lease(clock::now()).map(|(record, _)| record.epoch.get());
            info!(epoch, holds = self.core.holds(), "lease holder changed");
        }
        // A renewal is worth nothing before guard knows of it.
        if self.core.deadline() != confirmed {
            let order = self.guard_order();
            self.with.guard.send(self.core.deadline(), order);
        }
        self.report_decision();
    }

    fn execute_action(&mut self, action: AgentAction) {
        match action {
            AgentAction::ReadLease => self.read(),
            AgentAction::WriteLease(write) => self.write(*write),
            AgentAction::StoreHighest(epoch, sequence) => self.store_highest_record(epoch, sequence),
            AgentAction::AlertOperator(alarm) => {
                self.with.metrics.alarms.inc();
                error!(error = &alarm as &dyn std::error::Error, "operator alert");
            }
        }
    }

    fn read(&self) {
        let (store, happened) = (self.with.store.clone(), self.happened.clone());
        self.with.tasks.start("read lease", |_stop| async move {
            let asked_at = clock::now();
            let answer = store.read_lease().await;
            happened
                .send(AgentEvent::LeaseRead {
                    requested_at: asked_at,
                    answer,
                })
                .await
                .ok();
        });
    }

    fn write(&self, write: LeaseWrite) {
        let (store, happened) = (self.with.store.clone(), self.happened.clone());
        self.with.tasks.start("write lease", |_stop| async move {
            let nonce: Nonce = write.record.nonce.clone();
            let answer = store.write_lease(&write.record, &write.condition).await;
            happened
                .send(AgentEvent::LeaseWritten { nonce, answer })
                .await
                .ok();
        });
    }

    /// Keeps the highest record on disk, durably when the epoch is new: within one, the sequence only
    /// serves to notice a store that went back.
    fn store_highest_record(&mut self, epoch: Epoch, sequence: u64) {
        let reserved = self.core.lease(clock::now());
        let reserved = reserved.map(|(record, _)| record.highest_reserved_timeline);
        let highest = HighestRecord {
            epoch,
            sequence,
            timeline: self.highest.timeline.max(reserved),
            store: Some(self.settings.lease.store_id()),
        };
        let durable = epoch != self.highest.epoch || highest.store != self.highest.store;
        let written = highest_record::write(&self.host.agent.state_directory, &highest, durable);
        self.not_kept = written.err().map(|error| format!("{error:#}"));
        match &self.not_kept {
            None => self.highest = highest,
            Some(error) => error!(error, "highest lease record not stored"),
        }
    }

    /// Returns the order for guard, after what has to be done before it.
    fn guard_order(&self) -> Option<SupervisorCommand> {
        let order = match self.core.guard_command()? {
            GuardCommand::StartPrimary(epoch, commits) => {
                SupervisorCommand::StartPrimary(epoch, commits)
            }
            GuardCommand::Acknowledge(epoch) => SupervisorCommand::Acknowledge(epoch),
            GuardCommand::StartStandby => SupervisorCommand::StartStandby,
            GuardCommand::End(drain) => {
                SupervisorCommand::End(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX))
            }
            GuardCommand::Promote(epoch, reserved) => {
                let Some((_, ServerAnswer::Standby(standby))) = self.with.said.borrow().answer
                else {
                    return None;
                };
                SupervisorCommand::Promote {
                    epoch,
                    own: standby.progress.timeline,
                    reserved,
                }
            }
        };
        Some(order)
    }

    pub(super) fn send_to_guard(&self, order: SupervisorCommand) {
        self.with.guard.send(self.core.deadline(), Some(order));
    }

    fn execute_command(&mut self, order: &SignedCommand) -> Result<(), String> {
        if order.cluster != self.settings.cluster || order.node != self.host.node.name {
            return Err("the command is for another node".to_owned());
        }
        let now = clock::now();
        let current = self.core.lease(now).map(|(record, _)| record.epoch);
        if current != Some(order.planned_epoch) {
            return Err(format!(
                "the command was planned at epoch {} and the lease is at {}: plan again",
                order.planned_epoch,
                current.map_or_else(|| "no epoch".to_owned(), |epoch| epoch.to_string())
            ));
        }
        if self.orders_of != order.planned_epoch {
            self.orders_of = order.planned_epoch;
            self.orders.clear();
        }
        if !self.orders.insert(order.id.clone()) {
            return Err("the command was received before".to_owned());
        }
        match order.command {
            CommandKind::TakeLease {
                fencing_proof,
                timeline,
            } => {
                let actions = self
                    .core
                    .take(now, order.planned_epoch, fencing_proof, timeline)
                    .map_err(|error| error.to_string())?;
                for action in actions {
                    self.execute_action(action);
                }
            }
            CommandKind::Release => self
                .core
                .release(order.planned_epoch)
                .map_err(|error| error.to_string())?,
            CommandKind::Rejoin { rebuild } => {
                if self.core.holds() {
                    return Err("this node holds the lease".to_owned());
                }
                self.order_rejoin(&order.id, rebuild)?;
            }
        }
        info!(command = ?order.command, planned_epoch = %order.planned_epoch, "command accepted");
        Ok(())
    }

    /// Asks the other nodes once a second how far they are.
    fn poll_peers(&self) {
        let (settings, happened) = (Arc::clone(&self.settings), self.happened.clone());
        let own = self.host.node.name.clone();
        let mismatches = self.mismatches.clone();
        self.with.tasks.start("peers", |stop| async move {
            let agents = AgentClient::new(&settings);
            let mut every = time::interval(Duration::from_secs(1));
            every.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => {}
                }
                let (mut peers, mut wrong) = (Vec::new(), Vec::new());
                for status in agents.statuses(&settings).await {
                    match status {
                        Ok(status) if status.node == own => {}
                        Ok(status) => peers.push(PeerView {
                            node: status.node,
                            automatic: status.automatic_failover,
                            system_id: status.system_id,
                            highest: status.highest.epoch,
                            progress: status.progress,
                        }),
                        Err(StatusError::StatusMismatch(mismatch)) => wrong.push(mismatch),
                        Err(StatusError::Silent(_)) => {}
                    }
                }
                mismatches.send_replace(wrong);
                happened.send(AgentEvent::PeersObserved(peers)).await.ok();
            }
        });
    }
}
