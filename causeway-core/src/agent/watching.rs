//! What an agent does while the lease is not its node's: look, and take it when that is right.

use super::holding::Holding;
use super::{Agent, AgentAction, Attempt, LeaseWrite, Role};
use crate::HostInstant;
use crate::failover::decision::{self, Decision, NoAction, PromotionMode, Takeover};
use crate::failover::observation::{LeaseView, Observation, ServerView};
use crate::lease::{LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, WritePrecondition};
use crate::lsn::Ancestor;

impl Agent {
    pub(super) fn watch(&mut self, now: HostInstant, actions: &mut Vec<AgentAction>) {
        if !self.reading
            && self
                .poll_at
                .is_none_or(|poll_at| now.has_passed_on_any_clock(poll_at))
        {
            self.poll_at = Some(now + self.settings.timing.poll_interval);
            self.look_again(actions);
        }
        if self.writing || self.adopt(now) {
            return;
        }
        // A version that nobody here saw may have stood between the one seen last and the deletion,
        // of a later epoch and with more timelines reserved, and its holder may be writing.
        if self.seen.as_ref().is_some_and(|seen| seen.missing) {
            self.last_decision = Some(Decision::NoAction(NoAction::LeaseMissing));
            return;
        }
        let decision = decision::decide(&self.observe(now), &self.settings.policy);
        if let Decision::TakeLease(take_over) = decision
            && self.may_write(now)
        {
            self.challenge(now, take_over, actions);
        }
        self.last_decision = Some(decision);
    }

    /// Continues the term of the agent that ran here before this one: the boot is the same, and so
    /// is guard, whose deadline is of the lease's epoch and is not over.
    fn adopt(&mut self, now: HostInstant) -> bool {
        let (Some(seen), Some(look)) = (&self.seen, &self.look) else {
            return false;
        };
        let Some(armed) = look.armed else {
            return false;
        };
        let ours = seen.record.holder == self.holder() && seen.record.epoch == armed.epoch;
        let held = matches!(seen.record.state, LeaseState::Held | LeaseState::Acquiring);
        let runs = matches!(look.server, ServerView::MayWrite | ServerView::Standby(_));
        if !ours || !held || !runs || now.has_passed_on_any_clock(armed.stop_at) {
            return false;
        }
        // A server that may write was started or promoted under guard's eyes, which refuses a timeline
        // that is in use. One that follows is still to be promoted, onto a number that is yet to be
        // reserved: whether the one in the record was reserved for it, or by a holder before, is not known.
        let (etag, record, how) = (
            seen.etag.clone(),
            seen.record.clone(),
            PromotionMode::Resume,
        );
        self.last_decision = None;
        let held = Holding::new(now, etag, record, how, armed.requested_at, now, false);
        self.role = Role::Holding(Box::new(held));
        true
    }

    /// Writes this node's name into the lease, if it still stands as it was seen.
    pub(super) fn challenge(
        &mut self,
        now: HostInstant,
        taken: Takeover,
        actions: &mut Vec<AgentAction>,
    ) {
        let Some(seen) = &self.seen else {
            return;
        };
        let condition = WritePrecondition::Match(seen.etag.clone());
        let highest_reserved_timeline = match taken.how {
            PromotionMode::Resume => seen.record.highest_reserved_timeline,
            PromotionMode::Promote(timeline) => timeline,
        };
        // Its own term goes on: what its server did not do in the one before counts.
        let before = &seen.record;
        let own = before.holder.node == self.identity.node
            && before.holder.host_id == self.identity.host_id
            && before.state != LeaseState::Released;
        let idle_millis = if own { before.idle_millis } else { 0 };
        let record = LeaseRecord {
            epoch: taken.epoch.max(self.highest.0.next()),
            state: LeaseState::Acquiring,
            highest_reserved_timeline,
            idle_millis,
            ..seen.record.clone()
        };
        self.write(now, record, taken.how, condition, actions);
    }

    /// Sends a write, and keeps its nonce until it is known what became of it.
    pub(super) fn write(
        &mut self,
        now: HostInstant,
        record: LeaseRecord,
        how: PromotionMode,
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
            how,
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

    /// Returns where the timeline comes from that the server is on.
    pub(super) fn ancestors(&self) -> Vec<Ancestor> {
        let look = self.look.as_ref();
        let known = look.and_then(|look| match (look.server, &look.ancestry) {
            (ServerView::Standby(own), Some(known)) if known.timeline == own.timeline => {
                Some(known)
            }
            _ => None,
        });
        known.map_or(Vec::new(), |history| history.ancestors.clone())
    }

    pub(super) fn observe(&self, now: HostInstant) -> Observation {
        let lease = self.seen.as_ref().map(|seen| LeaseView {
            holder: seen.record.holder.node.clone(),
            host_id: seen.record.holder.host_id.clone(),
            system_id: seen.record.system_id,
            epoch: seen.record.epoch,
            state: seen.record.state,
            age: now.elapsed_lower_bound(seen.since),
            last_position: seen.record.last_position,
            last_primary: seen.record.last_primary.clone(),
            highest_reserved_timeline: seen.record.highest_reserved_timeline,
        });
        let look = self.look.as_ref();
        Observation {
            node: self.identity.node.clone(),
            host_id: self.identity.host_id.clone(),
            system_id: look.and_then(|look| look.system_id),
            holds_back: look.is_some_and(|look| look.holds_back),
            ancestors: self.ancestors(),
            holds_position: look.is_some_and(|look| look.holds_position),
            lease,
            server: look.map_or(ServerView::Unguarded, |look| look.server),
            peers: self.peers.clone(),
        }
    }
}
