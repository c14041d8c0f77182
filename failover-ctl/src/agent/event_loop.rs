//! Event loop of the agent: passes events to the state machine and executes the actions that it returns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use causeway_core::agent::{
    Agent, AgentAction, AgentEvent, GuardCommand, LeaseWrite, LocalObservation,
};
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
use crate::agent::measurements::MeasurementState;
use crate::agent::metrics::Metrics;
use crate::agent::problem_log::ProblemLog;
use crate::agent::standby::state::StandbyState;
use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::guard_client::GuardClient;
use crate::clients::lease_store::LeaseStore;
use crate::clients::postgres::{PostgresState, ServerAnswer};
use crate::clients::route53::DnsRecords;
use crate::config::{HostSettings, Settings};
use crate::data_directory::timeline_history;
use crate::highest_record;
use crate::protocol::guard::{GuardRejection, GuardReport, SupervisorCommand};
use crate::protocol::node_status::{HighestRecord, StatusMismatch};
use crate::protocol::signed_command::SignedCommand;

/// Interval at which the loop observes PostgreSQL, contacts the guard and publishes the status.
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// Signed command, and the channel for its result.
pub(crate) type CommandRequest = (SignedCommand, oneshot::Sender<Result<(), String>>);

/// Clients and channels of the event loop.
pub(crate) struct AgentConnections {
    pub(crate) store: LeaseStore,
    pub(crate) guard: GuardClient,
    pub(crate) postgres: watch::Receiver<PostgresState>,
    pub(crate) commands: mpsc::Receiver<CommandRequest>,
    pub(crate) status: watch::Sender<StatusSnapshot>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
}

/// State of a node's agent around the state machine of `causeway-core`.
pub(crate) struct AgentLoop {
    pub(super) core: Agent,
    pub(super) settings: Arc<Settings>,
    pub(super) host: HostSettings,
    pub(super) connections: AgentConnections,
    pub(super) event_sender: mpsc::Sender<AgentEvent>,
    pub(super) standby: StandbyState,
    pub(super) problems: ProblemLog,
    /// Peers whose last status named another node, cluster or database.
    pub(super) mismatches: watch::Sender<Vec<StatusMismatch>>,
    /// Time of the last check of the command signing key, and the problem that it found.
    pub(super) key_exposure: Option<(HostInstant, Option<String>)>,
    /// Reserved timeline for which the guard found a history file, so that the promotion needs a higher one.
    pub(super) taken_timeline: Option<Timeline>,
    /// Time and text of the guard's last rejection.
    pub(super) guard_rejection: Option<(HostInstant, String)>,
    /// Epoch in which the history files of older timelines were last completed.
    pub(super) histories_completed: Option<Epoch>,
    /// Highest lease record ever trusted, as stored on disk.
    pub(super) highest: HighestRecord,
    /// Error of the last write of `highest`, while the newest record is not stored.
    pub(super) state_error: Option<String>,
    pub(super) last_decision: String,
    /// Ids of the commands received in `commands_epoch`, so that a repeated command is rejected.
    pub(super) received_commands: BTreeSet<String>,
    pub(super) commands_epoch: Epoch,
    pub(super) record_moves: RecordMoves,
    pub(super) ancestry: AncestryFile,
    pub(super) measurements: MeasurementState,
}

impl AgentLoop {
    pub(crate) fn new(
        core: Agent,
        highest: HighestRecord,
        settings: Arc<Settings>,
        host: HostSettings,
        connections: AgentConnections,
    ) -> (Self, mpsc::Receiver<AgentEvent>) {
        let (event_sender, event_receiver) = mpsc::channel(64);
        let standby = StandbyState::new(&host.agent.state_directory);
        let agent = Self {
            core,
            settings,
            host,
            connections,
            event_sender,
            problems: ProblemLog::default(),
            mismatches: watch::Sender::default(),
            key_exposure: None,
            taken_timeline: None,
            guard_rejection: None,
            histories_completed: None,
            standby,
            highest,
            state_error: None,
            last_decision: String::new(),
            received_commands: BTreeSet::new(),
            commands_epoch: Epoch::default(),
            record_moves: RecordMoves::default(),
            ancestry: AncestryFile::default(),
            measurements: MeasurementState::default(),
        };
        (agent, event_receiver)
    }

    /// Runs until `stop` is cancelled. PostgreSQL continues without the agent until the guard's deadline.
    pub(crate) async fn run(
        mut self,
        mut event_receiver: mpsc::Receiver<AgentEvent>,
        stop: CancellationToken,
    ) {
        self.start_peer_polling();
        self.retire_old_lease();
        self.start_dns_check();
        self.start_certificate_check();
        let mut tick = time::interval(TICK_INTERVAL);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(event) = event_receiver.recv() => self.dispatch(event),
                report = self.connections.guard.receive() => match report {
                    Ok(report) => self.record_guard_rejection(&report),
                    Err(error) => warn!(%error, "guard report not received"),
                },
                Some((command, result_sender)) = self.connections.commands.recv() => {
                    let result = self.execute_command(&command);
                    // The client may have disconnected.
                    result_sender.send(result).ok();
                }
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// Records the guard's rejection, and logs it if its text has changed.
    fn record_guard_rejection(&mut self, report: &GuardReport) {
        let Some(rejection) = &report.rejection else {
            return;
        };
        if let GuardRejection::TimelineTaken(timeline) = rejection {
            self.taken_timeline = Some(*timeline);
        }
        let text = causeway_runtime::telemetry::chain(rejection);
        if self
            .guard_rejection
            .as_ref()
            .is_none_or(|(_, last)| *last != text)
        {
            warn!(reason = text, "guard command rejected");
        }
        self.guard_rejection = Some((clock::now(), text));
    }

    /// Completes the history files of older timelines once per epoch in which this node is primary: standbys
    /// on any older timeline need them.
    fn complete_histories(&mut self, now: HostInstant, look: &LocalObservation) {
        let Some(primary) = look.primary.filter(|_| self.core.is_primary(now)) else {
            return;
        };
        let epoch = self.core.lease(now).map(|(record, _)| record.epoch);
        if self.histories_completed == epoch {
            return;
        }
        self.histories_completed = epoch;
        self.taken_timeline = None;
        let data = &self.host.postgres.data_directory;
        if let Err(error) = timeline_history::complete(data, primary.position.timeline) {
            error!(%error, "writing history files of older timelines failed");
        }
    }

    /// Moves the DNS records to this node once per epoch, after PostgreSQL accepts writes.
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
        if self.record_moves.has_started(epoch) {
            return;
        }
        let records = RecordMove {
            wanted: DnsRecords::wanted_records(&self.settings, &self.host.node),
            dns,
            epoch,
            status: self.connections.status.subscribe(),
        };
        self.record_moves
            .start(now, records, &self.connections.tasks);
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.connections.guard.kill_unresponsive_guard();
        let mut look = self.observe_local_server(now);
        look.ancestry = self
            .ancestry
            .read(&self.host.postgres.data_directory, now, &look);
        self.dispatch(AgentEvent::LocalObserved(Box::new(look.clone())));
        self.maintain_standby(now, look.server);
        let command = self.guard_command();
        self.connections.guard.send(self.core.deadline(), command);
        self.move_dns_records(now, &look);
        self.complete_histories(now, &look);
        self.publish_status(now, &look);
    }

    /// Passes an event to the state machine and executes its actions.
    fn dispatch(&mut self, event: AgentEvent) {
        let held_lease = self.core.holds();
        let previous_deadline = self.core.deadline();
        let actions = self.core.handle(clock::now(), event);
        for action in actions {
            self.execute_action(action);
        }
        if self.core.holds() != held_lease {
            let epoch = self
                .core
                .lease(clock::now())
                .map(|(record, _)| record.epoch.get());
            info!(epoch, holds = self.core.holds(), "lease holder changed");
        }
        // A renewal has no effect until the guard has its deadline.
        if self.core.deadline() != previous_deadline {
            let command = self.guard_command();
            self.connections.guard.send(self.core.deadline(), command);
        }
        self.report_decision();
    }

    pub(super) fn execute_action(&mut self, action: AgentAction) {
        match action {
            AgentAction::ReadLease => self.start_lease_read(),
            AgentAction::WriteLease(write) => self.start_lease_write(*write),
            AgentAction::StoreHighest(epoch, sequence) => {
                self.store_highest_record(epoch, sequence);
            }
            AgentAction::AlertOperator(alert) => {
                self.connections.metrics.alerts.inc();
                error!(error = &alert as &dyn std::error::Error, "operator alert");
            }
        }
    }

    fn start_lease_read(&self) {
        let store = self.connections.store.clone();
        let events = self.event_sender.clone();
        self.connections
            .tasks
            .start("read lease", |_stop| async move {
                let requested_at = clock::now();
                let answer = store.read_lease().await;
                events
                    .send(AgentEvent::LeaseRead {
                        requested_at,
                        answer,
                    })
                    .await
                    .ok();
            });
    }

    fn start_lease_write(&self, write: LeaseWrite) {
        let store = self.connections.store.clone();
        let events = self.event_sender.clone();
        self.connections
            .tasks
            .start("write lease", |_stop| async move {
                let nonce: Nonce = write.record.nonce.clone();
                let answer = store.write_lease(&write.record, &write.condition).await;
                events
                    .send(AgentEvent::LeaseWritten { nonce, answer })
                    .await
                    .ok();
            });
    }

    /// Stores the highest lease record, with fsync only for a new epoch or store: within an epoch, the sequence
    /// only serves to detect a lease store that was rolled back.
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
        self.state_error = written.err().map(|error| format!("{error:#}"));
        match &self.state_error {
            None => self.highest = highest,
            Some(error) => error!(error, "highest lease record not stored"),
        }
    }

    /// Returns the state machine's command for the guard, with the timeline, which only the agent has.
    fn guard_command(&self) -> Option<SupervisorCommand> {
        let command = match self.core.guard_command()? {
            GuardCommand::StartPrimary(epoch, commits) => {
                SupervisorCommand::StartPrimary(epoch, commits)
            }
            GuardCommand::Acknowledge(epoch) => SupervisorCommand::Acknowledge(epoch),
            GuardCommand::StartStandby => SupervisorCommand::StartStandby,
            GuardCommand::End(drain) => SupervisorCommand::Stop {
                drain_millis: u64::try_from(drain.as_millis()).unwrap_or(u64::MAX),
            },
            GuardCommand::Promote(epoch, reserved) => {
                let Some((_, ServerAnswer::Standby(standby))) =
                    self.connections.postgres.borrow().answer
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
        Some(command)
    }

    pub(super) fn send_to_guard(&self, command: SupervisorCommand) {
        self.connections
            .guard
            .send(self.core.deadline(), Some(command));
    }
}
