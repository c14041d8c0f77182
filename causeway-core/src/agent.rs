//! One node's daemon as a state machine: it is told what happened, and says what to do.
//!
//! What must happen once (read the lease, write it, remember, call a person) comes back from
//! [`Agent::handle`] as [`AgentAction`]s. What must *be so* (whom to follow, until when PostgreSQL may
//! accept writes) is asked for with [`Agent::target_role`] and [`Agent::deadline`] as often as the caller
//! likes, so that nothing is lost when one attempt at it fails.

mod action;
mod event;
mod held_lease;
mod command;
mod problems;
mod service;
mod candidate;

use std::time::Duration;

pub use self::action::{
    AgentAction, Commits, GuardCommand, LeaseWrite, OperatorAlert, ReleaseReason, TargetRole,
};
pub use self::event::{
    AgentEvent, LeaseReadResult, LeaseWriteResult, LocalObservation, PrimaryView, ServerHealth,
    WriteProbeFailure,
};
use self::held_lease::HeldLease;
pub use self::command::{CommandRejected, FencingProof};
use self::service::GuardWatch;
use crate::failover::decision::{self, Decision, FailoverPolicy, NoAction, PromotionMode};
use crate::failover::observation::{DataDirectoryState, PeerView, ServerView};
use crate::guard::GuardDeadline;
use crate::lease::{ETag, LeaseRecord, LeaseState, LeaseTiming, Nonce, NonceGenerator};
use crate::problem::{NodeProblem, ProblemKind};
use crate::{Epoch, HostInstant, NodeId};

/// How long the next try waits after one that failed at once, so that a store which refuses
/// connections is not asked a thousand times a second. Short beside the 2.3 s between the third try
/// and the soft deadline.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Who this agent is.
#[derive(Clone, Debug)]
pub struct AgentIdentity {
    /// The cluster it belongs to.
    pub cluster: String,
    /// Its node.
    pub node: NodeId,
    /// The identity of its host, which no copy of the host's disk has.
    pub host_id: String,
    /// The boot of its host.
    pub boot_id: String,
    /// Every node of the cluster.
    pub members: Vec<NodeId>,
}

/// How this agent behaves.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The times of the lease.
    pub timing: LeaseTiming,
    /// When it takes over.
    pub policy: FailoverPolicy,
    /// For how long a primary may answer nothing before it is stopped and the lease released.
    pub write_probe_timeout: Duration,
    /// For how long a primary that answers may prove no write before the same happens.
    pub write_stall_timeout: Duration,
    /// For how long a server that starts, recovers or is promoted may show no progress.
    pub start_timeout: Duration,
    /// How many times in a minute a primary is started again before the lease is released.
    pub max_restarts_per_minute: u32,
}

/// One node's daemon.
#[derive(Clone, Debug)]
pub struct Agent {
    identity: AgentIdentity,
    settings: AgentConfig,
    nonces: NonceGenerator,
    observed: Option<ObservedLease>,
    highest: (Epoch, u64),
    attempts: Vec<Attempt>,
    reading: bool,
    writing: bool,
    highest_at: Option<HostInstant>,
    poll_at: Option<HostInstant>,
    /// When a write may be tried again after one that failed.
    retry_at: Option<HostInstant>,
    role: Role,
    local: Option<LocalObservation>,
    guard: GuardWatch,
    peers: Vec<PeerView>,
    last_decision: Option<Decision>,
    /// Since when no node is known to have been open.
    not_open_since: Option<HostInstant>,
    /// Why this node gave the lease up last, until its server proves a write again or another node opens.
    gave_up: Option<ReleaseReason>,
    /// Why what the store showed last was not used, until it shows a record that is.
    unusable: Option<NodeProblem>,
}

/// The newest record, and since when it has been known to stand.
#[derive(Clone, Debug)]
struct ObservedLease {
    etag: ETag,
    record: LeaseRecord,
    since: HostInstant,
    /// When the last read that showed it was sent.
    confirmed: HostInstant,
    missing: bool,
}

/// A write whose effect is not known yet.
#[derive(Clone, Debug)]
struct Attempt {
    requested_at: HostInstant,
    record: LeaseRecord,
    mode: PromotionMode,
}

#[derive(Clone, Debug)]
enum Role {
    Candidate,
    Holder(Box<HeldLease>),
}

impl Agent {
    /// Returns an agent that knows nothing but the highest record it ever believed, as it kept it on
    /// disk. `seed` is a random number, drawn anew for each agent.
    pub fn new(
        identity: AgentIdentity,
        settings: AgentConfig,
        highest: (Epoch, u64),
        seed: u128,
    ) -> Self {
        Self {
            identity,
            settings,
            nonces: NonceGenerator::new(seed),
            observed: None,
            highest,
            attempts: Vec::new(),
            reading: false,
            writing: false,
            highest_at: None,
            poll_at: None,
            retry_at: None,
            role: Role::Candidate,
            local: None,
            guard: GuardWatch::default(),
            peers: Vec::new(),
            last_decision: None,
            not_open_since: None,
            gave_up: None,
            unusable: None,
        }
    }

    /// Takes in what happened, at `now`, and returns what to do about it.
    pub fn handle(&mut self, now: HostInstant, event: AgentEvent) -> Vec<AgentAction> {
        let mut actions = Vec::new();
        match event {
            AgentEvent::Tick => {}
            AgentEvent::LeaseRead {
                requested_at,
                answer,
            } => {
                self.reading = false;
                self.handle_read(now, requested_at, answer, &mut actions);
            }
            AgentEvent::LeaseWritten { nonce, answer } => {
                self.writing = false;
                self.handle_write_result(now, &nonce, answer, &mut actions);
            }
            AgentEvent::LocalObserved(local) => {
                self.guard.observe(now, &local);
                self.local = Some(*local);
            }
            AgentEvent::PeersObserved(peers) => self.peers = peers,
            AgentEvent::OldLeaseRetired(store) => self.note_retired(&store),
        }
        match self.role {
            Role::Candidate => self.run_as_candidate(now, &mut actions),
            Role::Holder(_) => self.run_as_holder(now, &mut actions),
        }
        self.note_service(now);
        actions
    }

    /// Returns what this node has to be.
    pub fn target_role(&self) -> TargetRole {
        if let Role::Holder(held) = &self.role {
            if held.releasing.is_some() {
                return TargetRole::Stopped;
            }
            return TargetRole::Primary {
                epoch: held.record.epoch,
                mode: held.mode,
            };
        }
        let Some(observed) = &self.observed else {
            return TargetRole::Undecided;
        };
        let record = &observed.record;
        let timeline = record
            .last_position
            .map_or(record.highest_reserved_timeline, |position| position.timeline);
        let open = record.state == LeaseState::Held && record.holder.node != self.identity.node;
        TargetRole::Standby {
            primary: open.then(|| record.holder.node.clone()),
            timeline,
        }
    }

    /// Returns what guard should do now. How a node comes to follow is not guard's to say: its
    /// directory may have to be rewound first.
    pub fn guard_command(&self) -> Option<GuardCommand> {
        let server = self.local.as_ref()?.server;
        let proven = match &self.role {
            Role::Holder(held) => held.proven,
            Role::Candidate => false,
        };
        match (self.target_role(), server) {
            (TargetRole::Primary { .. }, _) if !proven => None,
            (
                TargetRole::Primary { epoch, .. },
                ServerView::Stopped(DataDirectoryState::Primary),
            ) => Some(GuardCommand::StartPrimary(epoch, self.commit_mode())),
            (TargetRole::Primary { .. }, ServerView::Stopped(DataDirectoryState::Standby)) => {
                Some(GuardCommand::StartStandby)
            }
            (TargetRole::Primary { epoch, .. }, ServerView::MayWrite) if self.may_acknowledge() => {
                Some(GuardCommand::Acknowledge(epoch))
            }
            (
                TargetRole::Standby { primary: None, .. },
                ServerView::Stopped(DataDirectoryState::Primary),
            ) if self.may_return() => Some(GuardCommand::StartStandby),
            (
                TargetRole::Primary {
                    epoch,
                    mode: PromotionMode::Promote(timeline),
                },
                ServerView::Standby(_),
            ) if self.local.as_ref().is_some_and(|local| local.holds_back) => {
                Some(GuardCommand::Promote(epoch, timeline))
            }
            // Somebody else may be writing at this moment: there is no time to drain.
            (TargetRole::Standby { .. }, ServerView::MayWrite) => {
                Some(GuardCommand::End(Duration::ZERO))
            }
            (
                TargetRole::Stopped,
                ServerView::MayWrite | ServerView::Standby(_) | ServerView::Silent,
            ) => Some(GuardCommand::End(self.time_to_drain())),
            (
                TargetRole::Primary { .. }
                | TargetRole::Standby { .. }
                | TargetRole::Stopped
                | TargetRole::Undecided,
                ServerView::Unguarded
                | ServerView::Silent
                | ServerView::Stopped(_)
                | ServerView::MayWrite
                | ServerView::Standby(_),
            ) => None,
        }
    }

    /// Returns what becomes of the commits of a primary that is started now. Until the lease says that
    /// this node is open, the record names the position of another, so none may be acknowledged.
    fn commit_mode(&self) -> Commits {
        match &self.role {
            Role::Holder(held) if held.open => Commits::Acknowledged,
            Role::Holder(_) | Role::Candidate => Commits::HeldBack,
        }
    }

    /// Says whether guard holds commits back although the lease says that this node is open.
    fn may_acknowledge(&self) -> bool {
        let held_back = self.local.as_ref().is_some_and(|local| local.holds_back);
        held_back && self.commit_mode() == Commits::Acknowledged
    }

    /// Says whether this node was the last primary, has all that it recorded, and no holder has been open
    /// since: it becomes a standby of nobody, and so a candidate. So does a copy of a host that held the
    /// lease before any node was ever open.
    fn may_return(&self) -> bool {
        let (Some(observed), Some(local)) = (&self.observed, &self.local) else {
            return false;
        };
        let (record, own) = (&observed.record, &self.identity);
        if record.last_position.is_none() {
            let held = !record.holder.host_id.is_empty();
            return held && record.holder.node == own.node && record.holder.host_id != own.host_id;
        }
        record.last_primary.as_ref() == Some(&own.node) && local.holds_position
    }

    /// Returns until when this node may accept writes, for guard; none if it holds no lease.
    pub fn deadline(&self) -> Option<GuardDeadline> {
        let Role::Holder(held) = &self.role else {
            return None;
        };
        let timing = self.settings.timing;
        let requested_at = held.confirmed_at;
        Some(GuardDeadline {
            epoch: held.record.epoch,
            requested_at,
            stop_at: requested_at + timing.stop_deadline,
            kill_at: requested_at + timing.kill_deadline,
        })
    }

    /// Returns the newest record known, and for how long it is known to have stood.
    pub fn lease(&self, now: HostInstant) -> Option<(&LeaseRecord, Duration)> {
        if let Role::Holder(held) = &self.role {
            return Some((&held.record, now.elapsed_upper_bound(held.confirmed_at)));
        }
        self.observed
            .as_ref()
            .map(|observed| (&observed.record, now.elapsed_lower_bound(observed.since)))
    }

    /// Returns for how long the newest version is confirmed to have stood: from the response that first
    /// showed it to the sending of the last read that did. Zero for a node that cannot read the store,
    /// and for the holder.
    pub fn confirmed_age(&self) -> Duration {
        match (&self.role, &self.observed) {
            (Role::Candidate, Some(observed)) if !observed.missing => {
                observed.confirmed.elapsed_lower_bound(observed.since)
            }
            (Role::Candidate | Role::Holder(_), _) => Duration::ZERO,
        }
    }

    /// Returns the highest record that this node ever trusted.
    pub const fn highest(&self) -> (Epoch, u64) {
        self.highest
    }

    /// Returns the identity of this node's host.
    pub fn host_id(&self) -> &str {
        &self.identity.host_id
    }

    /// Says whether this node holds the lease at `now`, and has opened for writes.
    pub fn is_primary(&self, now: HostInstant) -> bool {
        let Role::Holder(held) = &self.role else {
            return false;
        };
        held.open
            && !now.has_passed_on_any_clock(held.confirmed_at + self.settings.timing.stop_deadline)
    }

    /// Says whether this node holds the lease, open or not.
    pub fn holds(&self) -> bool {
        matches!(self.role, Role::Holder(_))
    }

    /// Returns what this node decided last about taking over; none while it holds the lease.
    pub fn decision(&self) -> Option<&Decision> {
        self.last_decision.as_ref()
    }

    /// Returns what this node would decide if the primary were lost now; none while it holds the lease.
    pub fn forecast(&self, now: HostInstant) -> Option<Decision> {
        if self.holds() {
            return None;
        }
        if self.observed.as_ref().is_some_and(|observed| observed.missing) {
            return Some(Decision::NoAction(NoAction::LeaseMissing));
        }
        let observed = self.observe(now);
        Some(decision::forecast_primary_loss(&observed, &self.settings.policy))
    }

    /// Takes in the answer to a read.
    fn handle_read(
        &mut self,
        now: HostInstant,
        requested_at: HostInstant,
        answer: LeaseReadResult,
        actions: &mut Vec<AgentAction>,
    ) {
        match answer {
            LeaseReadResult::Failed => {}
            LeaseReadResult::Unusable(why) => {
                self.report_unusable(
                    ProblemKind::LeaseUnusable,
                    OperatorAlert::Unusable(why),
                    actions,
                );
            }
            LeaseReadResult::Missing => self.handle_missing_lease(now),
            LeaseReadResult::Found(etag, record) => {
                self.handle_found_lease(now, requested_at, etag, *record, actions);
            }
        }
    }

    /// A missing object is not a free lease: a holder in term writes it again, and anybody else
    /// leaves it to a person.
    fn handle_missing_lease(&mut self, now: HostInstant) {
        if let Some(observed) = &mut self.observed {
            observed.missing = true;
        }
        if let Role::Holder(held) = &mut self.role {
            held.write_at = now;
        }
    }

    fn handle_found_lease(
        &mut self,
        now: HostInstant,
        requested_at: HostInstant,
        etag: ETag,
        record: LeaseRecord,
        actions: &mut Vec<AgentAction>,
    ) {
        if record.order() < self.highest {
            // An answer that overtook a later one is no news. One that was asked for after the later
            // record was seen says that the store went back.
            let overtaken = self
                .highest_at
                .is_some_and(|highest_at| highest_at.has_passed_on_any_clock(requested_at));
            if !overtaken {
                let (found, sequence) = record.order();
                let known = self.highest.0;
                let went_back = OperatorAlert::LeaseStoreRolledBack {
                    found,
                    sequence,
                    known,
                };
                self.report_unusable(ProblemKind::LeaseUnusable, went_back, actions);
            }
            return;
        }
        if let Err(mismatch) = record.belongs_to(&self.identity.cluster, None) {
            self.report_unusable(
                ProblemKind::ClusterMismatch,
                OperatorAlert::LeaseMismatch(mismatch),
                actions,
            );
            return;
        }
        self.unusable = None;
        self.keep_highest(now, &record, actions);
        let ours = self
            .attempts
            .iter()
            .position(|attempt| attempt.record.nonce == record.nonce);
        if let Some(at) = ours {
            let attempt = self.attempts.remove(at);
            self.confirm_write(now, etag, attempt);
            return;
        }
        if let Role::Holder(held) = &mut self.role {
            if held.record.nonce == record.nonce {
                self.record_version(now, requested_at, etag, record);
                return;
            }
            // A write of the agent that ran here before this one has taken effect after all. If it
            // released the lease, this node is deposed by itself.
            let renewed = record.state != LeaseState::Released;
            if held.record.holder == record.holder && held.record.epoch == record.epoch && renewed {
                held.adopt_record(now, etag.clone(), record.clone());
                self.record_version(now, requested_at, etag, record);
                return;
            }
            let (by, epoch) = (record.holder.node.clone(), record.epoch);
            self.role = Role::Candidate;
            actions.push(AgentAction::AlertOperator(OperatorAlert::Deposed {
                by,
                epoch,
            }));
        }
        self.record_version(now, requested_at, etag, record);
    }

    /// Notes why what the store shows is not used, and calls a person once for each reason.
    fn report_unusable(&mut self, kind: ProblemKind, alarm: OperatorAlert, actions: &mut Vec<AgentAction>) {
        let problem = NodeProblem::new(kind, alarm.to_string());
        if self.unusable.as_ref() != Some(&problem) {
            self.unusable = Some(problem);
            actions.push(AgentAction::AlertOperator(alarm));
        }
    }

    /// Takes in the answer to a write.
    fn handle_write_result(
        &mut self,
        now: HostInstant,
        nonce: &Nonce,
        answer: LeaseWriteResult,
        actions: &mut Vec<AgentAction>,
    ) {
        let Some(at) = self
            .attempts
            .iter()
            .position(|attempt| attempt.record.nonce == *nonce)
        else {
            return; // A read has shown it already.
        };
        match answer {
            LeaseWriteResult::Stored(etag) => {
                let attempt = self.attempts.remove(at);
                self.keep_highest(now, &attempt.record, actions);
                self.confirm_write(now, etag, attempt);
            }
            LeaseWriteResult::Rejected | LeaseWriteResult::Unknown => {
                self.request_read(actions);
                // The next try is as good as a read, and need not wait for it: if the lost write
                // took effect, the try is refused, and the read shows the lost one's nonce. What is
                // urgent waits for the pause as well, or a store that refuses would be hammered.
                self.retry_at = Some(now + RETRY_PAUSE);
                if let Role::Holder(held) = &mut self.role {
                    held.write_at = now;
                }
            }
        }
    }

    /// Makes the lease this node's: the store holds what `attempt` wrote.
    fn confirm_write(&mut self, now: HostInstant, etag: ETag, attempt: Attempt) {
        let Attempt {
            requested_at,
            record,
            mode,
        } = attempt;
        self.attempts
            .retain(|attempt| attempt.record.order() > record.order());
        self.record_version(now, requested_at, etag.clone(), record.clone());
        let next = requested_at + self.settings.timing.renew_interval;
        match &mut self.role {
            _ if record.state == LeaseState::Released => self.role = Role::Candidate,
            Role::Holder(held) if held.record.epoch == record.epoch => {
                held.etag = etag;
                if requested_at.has_passed_on_any_clock(held.confirmed_at) {
                    held.confirmed_at = requested_at;
                }
                held.open |= record.state == LeaseState::Held;
                held.proven = true;
                if !held.open {
                    held.mode = mode; // Another number may have been reserved.
                }
                // A number seen in use since that write was sent stays reserved.
                let highest_reserved_timeline = record
                    .highest_reserved_timeline
                    .max(held.record.highest_reserved_timeline);
                held.record = LeaseRecord {
                    highest_reserved_timeline,
                    ..record
                };
                held.write_at = next;
            }
            Role::Holder(_) | Role::Candidate => {
                self.local = None; // What was seen before the lease was held says nothing of after.
                let held = HeldLease::new(now, etag, record, mode, requested_at, next, true);
                self.role = Role::Holder(Box::new(held));
            }
        }
    }

    /// Says whether no write is under way, nor has one failed a moment ago.
    fn may_write(&self, now: HostInstant) -> bool {
        !self.writing
            && self
                .retry_at
                .is_none_or(|retry_at| now.has_passed_on_any_clock(retry_at))
    }

    /// Notes which version stands, and since when that is known.
    fn record_version(
        &mut self,
        now: HostInstant,
        requested_at: HostInstant,
        etag: ETag,
        record: LeaseRecord,
    ) {
        match &mut self.observed {
            Some(observed) if observed.etag == etag => {
                observed.missing = false;
                observed.confirmed = requested_at;
            }
            Some(_) | None => {
                self.observed = Some(ObservedLease {
                    etag,
                    record,
                    since: now,
                    confirmed: requested_at,
                    missing: false,
                });
            }
        }
    }

    fn keep_highest(&mut self, now: HostInstant, record: &LeaseRecord, actions: &mut Vec<AgentAction>) {
        if record.order() > self.highest {
            self.highest = record.order();
            self.highest_at = Some(now);
            actions.push(AgentAction::Remember(record.epoch, record.sequence));
        }
    }

    fn request_read(&mut self, actions: &mut Vec<AgentAction>) {
        if !self.reading {
            self.reading = true;
            actions.push(AgentAction::ReadLease);
        }
    }
}

#[cfg(test)]
mod tests;
