//! One node's daemon as a state machine: it is told what happened, and says what to do.
//!
//! What must happen once (read the lease, write it, remember, call a person) comes back from
//! [`Agent::handle`] as [`AgentAction`]s. What must *be so* (whom to follow, until when PostgreSQL may
//! accept writes) is asked for with [`Agent::target_role`] and [`Agent::deadline`] as often as the caller
//! likes, so that nothing is lost when one attempt at it fails.

mod action;
mod candidate;
mod command;
mod event;
mod guard_command;
mod held_lease;
mod observed_lease;
mod problems;
mod service;

use std::time::Duration;

pub use self::action::{
    AgentAction, Commits, GuardCommand, LeaseWrite, OperatorAlert, ReleaseReason, TargetRole,
};
pub use self::event::{
    AgentEvent, LeaseReadResult, LeaseWriteResult, LocalObservation, PrimaryView, ServerHealth,
    WriteProbeFailure,
};
use self::held_lease::HeldLease;
use self::observed_lease::{Attempt, ObservedLease};
pub use self::command::{CommandRejected, FencingProof};
use self::service::GuardWatch;
use crate::failover::decision::{self, Decision, FailoverPolicy, NoAction, PromotionMode};
use crate::failover::observation::{DataDirectoryState, PeerView, ServerView};
use crate::guard::GuardDeadline;
use crate::lease::{ETag, LeaseRecord, LeaseState, LeaseTiming, Nonce, NonceGenerator};
use crate::problem::{NodeProblem, ProblemKind};
use crate::{Epoch, HostInstant, NodeId};

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
}

#[cfg(test)]
mod tests;
