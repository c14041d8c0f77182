//! The daemon of one node as a state machine that takes events and returns actions.
//!
//! [`Agent::handle`] returns what must happen once as [`AgentAction`]s: read or write the lease, store the
//! highest record, alert the operator. [`Agent::target_role`] and [`Agent::deadline`] return the desired
//! state: the node to follow, and until when PostgreSQL may accept writes. The caller reads them as often as
//! it likes, so a failed attempt to reach that state loses nothing.

mod action;
mod candidate;
mod command;
mod coverage;
mod event;
mod guard_command;
mod held_lease;
mod observed_lease;
mod problems;
mod service;
mod writable_period;

use std::time::Duration;

pub use self::action::{
    AgentAction, Commits, GuardCommand, LeaseWrite, OperatorAlert, ReleaseReason, TargetRole,
};
pub use self::command::{CommandRejected, FencingProof};
use self::coverage::Coverage;
pub use self::event::{
    AgentEvent, LeaseReadResult, LeaseWriteResult, LocalObservation, PrimaryView, ServerHealth,
    WriteProbeFailure,
};
use self::held_lease::HeldLease;
use self::observed_lease::{Attempt, ObservedLease};
use self::service::GuardWatch;
use self::writable_period::WritablePeriod;
use crate::failover::collation::PrimaryCollations;
use crate::failover::decision::{self, Decision, FailoverPolicy, NoAction};
use crate::failover::observation::PeerView;
use crate::guard::GuardDeadline;
use crate::lease::{LeaseRecord, LeaseState, LeaseTiming, NonceGenerator};
use crate::problem::NodeProblem;
use crate::{Epoch, HostInstant, NodeId};

/// Identity of an agent: its cluster, node, host and boot.
#[derive(Clone, Debug)]
pub struct AgentIdentity {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: NodeId,
    /// Identity of the host, which no copy of the host's disk has.
    pub host_id: String,
    /// Identity of the host's current boot.
    pub boot_id: String,
    /// Every node of the cluster.
    pub members: Vec<NodeId>,
}

/// Settings of an agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Times of the lease.
    pub timing: LeaseTiming,
    /// Conditions of an automatic takeover.
    pub policy: FailoverPolicy,
    /// Time without a response after which a primary is stopped and its lease released.
    pub write_probe_timeout: Duration,
    /// Time without a proven write after which a primary that responds is stopped and its lease released.
    pub write_stall_timeout: Duration,
    /// Time without progress allowed to a server that starts, recovers or is promoted.
    pub start_timeout: Duration,
    /// Restarts of a primary within a minute, after which the lease is released.
    pub max_restarts_per_minute: u32,
}

/// State machine of the daemon on one node.
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
    /// Time at which the last read that the store answered was sent.
    store_answered_at: Option<HostInstant>,
    /// Earliest time of the next write after one that failed.
    retry_at: Option<HostInstant>,
    role: Role,
    local: Option<LocalObservation>,
    guard: GuardWatch,
    peers: Vec<PeerView>,
    primary_collations: Option<PrimaryCollations>,
    last_decision: Option<Decision>,
    /// Start of the current period without a node known to accept writes.
    not_open_since: Option<HostInstant>,
    /// Reason of this node's last release, until its server proves a write or another node accepts writes.
    gave_up: Option<ReleaseReason>,
    /// Reason why the record in the store is ignored, until the store returns a usable one.
    unusable: Option<NodeProblem>,
    coverage: Coverage,
    writable: WritablePeriod,
}

#[derive(Clone, Debug)]
enum Role {
    Candidate,
    Holder(Box<HeldLease>),
}

impl Agent {
    /// Returns an agent without observations. `highest` is the highest record that this node ever trusted,
    /// read from its disk; `seed` is a random number generated for this agent.
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
            store_answered_at: None,
            retry_at: None,
            role: Role::Candidate,
            local: None,
            guard: GuardWatch::default(),
            peers: Vec::new(),
            primary_collations: None,
            last_decision: None,
            not_open_since: None,
            gave_up: None,
            unusable: None,
            coverage: Coverage::default(),
            writable: WritablePeriod::default(),
        }
    }

    /// Processes an event at `now`, and returns the actions that follow from it.
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
            AgentEvent::PeersObserved(peers) => {
                self.peers = peers;
                self.record_primary_collations();
            }
            AgentEvent::OldLeaseRetired(store) => self.record_retired_store(&store),
        }
        match self.role {
            Role::Candidate => self.run_as_candidate(now, &mut actions),
            Role::Holder(_) => self.run_as_holder(now, &mut actions),
        }
        self.record_service(now);
        self.record_coverage(now);
        self.record_writable_period(now);
        actions
    }

    /// Returns the role that this node should have.
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
            .map_or(record.highest_reserved_timeline, |position| {
                position.timeline
            });
        let open = record.state == LeaseState::Held && record.holder.node != self.identity.node;
        TargetRole::Standby {
            primary: open.then(|| record.holder.node.clone()),
            timeline,
        }
    }

    /// Returns the deadline for guard, until which this node may accept writes; none without the lease.
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

    /// Returns the newest record, and for how long it has been unchanged.
    pub fn lease(&self, now: HostInstant) -> Option<(&LeaseRecord, Duration)> {
        if let Role::Holder(held) = &self.role {
            return Some((&held.record, now.elapsed_upper_bound(held.confirmed_at)));
        }
        self.observed
            .as_ref()
            .map(|observed| (&observed.record, now.elapsed_lower_bound(observed.since)))
    }

    /// Returns for how long reads confirm the newest version: from the response that first returned it to
    /// the sending of the last read that returned it. Zero for the holder, and for a node that cannot read
    /// the store.
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

    /// Returns whether this node holds the lease at `now` and accepts writes.
    pub fn is_primary(&self, now: HostInstant) -> bool {
        let Role::Holder(held) = &self.role else {
            return false;
        };
        held.open
            && !now.has_passed_on_any_clock(held.confirmed_at + self.settings.timing.stop_deadline)
    }

    /// Returns whether this node holds the lease, accepting writes or not yet.
    pub fn holds(&self) -> bool {
        matches!(self.role, Role::Holder(_))
    }

    /// Returns the last decision about a takeover; none while this node holds the lease.
    pub fn decision(&self) -> Option<&Decision> {
        self.last_decision.as_ref()
    }

    /// Returns the decision if the primary were lost now; none while this node holds the lease.
    pub fn forecast(&self, now: HostInstant) -> Option<Decision> {
        if self.holds() {
            return None;
        }
        if self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.missing)
        {
            return Some(Decision::NoAction(NoAction::LeaseMissing));
        }
        let observed = self.observe(now);
        Some(decision::forecast_primary_loss(
            &observed,
            &self.settings.policy,
        ))
    }
}

#[cfg(test)]
mod tests;
