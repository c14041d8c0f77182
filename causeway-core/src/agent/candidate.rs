//! Actions of the agent while its node does not hold the lease: observe it, and take it if allowed.

use super::held_lease::{HeldLease, TakenVersion};
use super::{Agent, AgentAction, Attempt, LeaseWrite, Role};
use crate::failover::collation::{CollationDifference, PrimaryCollations};
use crate::failover::decision::{self, Decision, NoAction, PromotionMode, Takeover};
use crate::failover::observation::{LeaseView, Observation, ServerView};
use crate::lease::{LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, WritePrecondition};
use crate::lsn::Ancestor;
use crate::{HostInstant, NodeId};

impl Agent {
    pub(super) fn run_as_candidate(&mut self, now: HostInstant, actions: &mut Vec<AgentAction>) {
        if !self.reading
            && self
                .poll_at
                .is_none_or(|poll_at| now.has_passed_on_any_clock(poll_at))
        {
            self.poll_at = Some(now + self.settings.timing.poll_interval);
            self.request_read(actions);
        }
        if self.writing || self.resume_after_restart(now) {
            return;
        }
        // Between the last observed version and the deletion there may have been another, of a later epoch and
        // with more reserved timelines, and its holder may be writing.
        if self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.missing)
        {
            self.last_decision = Some(Decision::NoAction(NoAction::LeaseMissing));
            return;
        }
        let decision = decision::decide(&self.observe(now), &self.settings.policy);
        if let Decision::TakeLease(take_over) = decision
            && self.may_write(now)
        {
            self.write_takeover(now, take_over, actions);
        }
        self.last_decision = Some(decision);
    }

    /// Continues with the lease of the agent that ran here before this one. Boot and guard are the same, and
    /// guard's deadline has the epoch of the lease and has not passed.
    fn resume_after_restart(&mut self, now: HostInstant) -> bool {
        let (Some(observed), Some(local)) = (&self.observed, &self.local) else {
            return false;
        };
        let Some(armed) = local.armed else {
            return false;
        };
        let ours = observed.record.holder == self.holder() && observed.record.epoch == armed.epoch;
        let held = matches!(
            observed.record.state,
            LeaseState::Held | LeaseState::Acquiring
        );
        let runs = matches!(local.server, ServerView::MayWrite | ServerView::Standby(_));
        if !ours || !held || !runs || now.has_passed_on_any_clock(armed.stop_at) {
            return false;
        }
        // Guard started or promoted a server that may write, and rejects a timeline in use. A standby is still
        // to be promoted, onto a number that is not reserved yet: the one in the record may have been
        // reserved for another holder.
        let taken = TakenVersion {
            etag: observed.etag.clone(),
            record: observed.record.clone(),
            mode: PromotionMode::Resume,
            confirmed_at: armed.requested_at,
            write_at: now,
            proven: false,
        };
        self.last_decision = None;
        let held = HeldLease::new(now, taken);
        self.role = Role::Holder(Box::new(held));
        true
    }

    /// Writes this node's name into the lease, on condition that the lease is unchanged.
    pub(super) fn write_takeover(
        &mut self,
        now: HostInstant,
        taken: Takeover,
        actions: &mut Vec<AgentAction>,
    ) {
        let Some(observed) = &self.observed else {
            return;
        };
        let condition = WritePrecondition::Match(observed.etag.clone());
        let highest_reserved_timeline = match taken.mode {
            PromotionMode::Resume => observed.record.highest_reserved_timeline,
            PromotionMode::Promote(timeline) => timeline,
        };
        // The node keeps its own lease, so the idle time of its server continues.
        let before = &observed.record;
        let own = before.holder.node == self.identity.node
            && before.holder.host_id == self.identity.host_id
            && before.state != LeaseState::Released;
        let idle_millis = if own { before.idle_millis } else { 0 };
        let record = LeaseRecord {
            epoch: taken.epoch.max(self.highest.0.next()),
            state: LeaseState::Acquiring,
            highest_reserved_timeline,
            idle_millis,
            ..observed.record.clone()
        };
        self.write_lease(now, record, taken.mode, condition, actions);
    }

    /// Sends a write, and keeps its nonce until its result is known.
    pub(super) fn write_lease(
        &mut self,
        now: HostInstant,
        record: LeaseRecord,
        mode: PromotionMode,
        condition: WritePrecondition,
        actions: &mut Vec<AgentAction>,
    ) {
        let tried = self
            .attempts
            .iter()
            .map(|attempt| attempt.record.sequence)
            .max()
            .unwrap_or(0);
        let record = LeaseRecord {
            format: LEASE_FORMAT,
            sequence: self.highest.1.max(tried) + 1,
            nonce: self.nonces.generate(),
            holder: self.holder(),
            members: self.identity.members.clone(),
            ..record
        };
        self.writing = true;
        self.attempts.push(Attempt {
            requested_at: now,
            record: record.clone(),
            mode,
        });
        actions.push(AgentAction::WriteLease(Box::new(LeaseWrite {
            record,
            condition,
        })));
    }

    pub(super) fn holder(&self) -> LeaseHolder {
        LeaseHolder {
            node: self.identity.node.clone(),
            host_id: self.identity.host_id.clone(),
            boot_id: self.identity.boot_id.clone(),
        }
    }

    /// Returns the ancestors of the server's timeline; empty while they are unknown.
    pub(super) fn ancestors(&self) -> Vec<Ancestor> {
        let local = self.local.as_ref();
        let known = local.and_then(|local| match (local.server, &local.ancestry) {
            (ServerView::Standby(own), Some(known)) if known.timeline() == own.timeline => {
                Some(known)
            }
            _ => None,
        });
        known.map_or(Vec::new(), |history| history.ancestors().to_vec())
    }

    /// Records the collation versions of the primary, which count until another primary is seen.
    pub(super) fn record_primary_collations(&mut self) {
        let last_primary = self.last_primary();
        let mut peers = self.peers.iter();
        let primary = peers.find(|peer| last_primary == Some(&peer.node));
        let seen = primary.and_then(|peer| {
            Some(PrimaryCollations {
                node: peer.node.clone(),
                actual: peer.primary_collations.clone()?,
            })
        });
        if seen.is_some() {
            self.primary_collations = seen;
        }
    }

    /// Returns the difference of this node's collation versions from those with which its indexes were written:
    /// by the last primary, if this agent has seen it. None for the holder of the lease.
    pub fn collation_difference(&self) -> Option<CollationDifference> {
        if self.holds() {
            return None;
        }
        let collations = self.local.as_ref()?.collations.as_ref()?;
        let seen = self.primary_collations.as_ref();
        collations.difference(seen.filter(|seen| self.last_primary() == Some(&seen.node)))
    }

    fn last_primary(&self) -> Option<&NodeId> {
        let observed = self.observed.as_ref()?;
        observed.record.last_primary.as_ref()
    }

    pub(super) fn observe(&self, now: HostInstant) -> Observation {
        let lease = self.observed.as_ref().map(|observed| LeaseView {
            holder: observed.record.holder.node.clone(),
            host_id: observed.record.holder.host_id.clone(),
            system_id: observed.record.system_id,
            epoch: observed.record.epoch,
            state: observed.record.state,
            age: now.elapsed_lower_bound(observed.since),
            last_position: observed.record.last_position,
            last_primary: observed.record.last_primary.clone(),
            highest_reserved_timeline: observed.record.highest_reserved_timeline,
        });
        let local = self.local.as_ref();
        Observation {
            node: self.identity.node.clone(),
            host_id: self.identity.host_id.clone(),
            system_id: local.and_then(|local| local.system_id),
            holds_back: local.is_some_and(|local| local.holds_back),
            collation_difference: self.collation_difference(),
            ancestors: self.ancestors(),
            holds_position: local.is_some_and(|local| local.holds_position),
            lease,
            server: local.map_or(ServerView::Unguarded, |local| local.server),
            peers: self.peers.clone(),
        }
    }
}
