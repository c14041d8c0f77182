//! What the agent does with answers of the lease store: which version stands, and which write took effect.

use super::{
    Agent, AgentAction, Attempt, ETag, Holding, HostInstant, LeaseReadResult, LeaseRecord,
    LeaseState, LeaseWriteResult, NodeProblem, Nonce, OperatorAlert, PAUSE, ProblemKind, Role,
    Seen,
};

impl Agent {
    /// Takes in the answer to a read.
    pub(super) fn read(
        &mut self,
        now: HostInstant,
        requested_at: HostInstant,
        answer: LeaseReadResult,
        actions: &mut Vec<AgentAction>,
    ) {
        match answer {
            LeaseReadResult::Failed => {}
            LeaseReadResult::Unusable(why) => {
                self.refuse(
                    ProblemKind::LeaseUnusable,
                    OperatorAlert::Unusable(why),
                    actions,
                );
            }
            LeaseReadResult::Missing => self.missing(now),
            LeaseReadResult::Found(etag, record) => {
                self.found(now, requested_at, etag, *record, actions);
            }
        }
    }

    /// A missing object is not a free lease: a holder in term writes it again, and anybody else
    /// leaves it to a person.
    pub(super) fn missing(&mut self, now: HostInstant) {
        if let Some(seen) = &mut self.seen {
            seen.missing = true;
        }
        if let Role::Holding(held) = &mut self.role {
            held.write_at = now;
        }
    }

    pub(super) fn found(
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
                .is_some_and(|it| it.has_passed_on_any_clock(requested_at));
            if !overtaken {
                let (found, sequence) = record.order();
                let known = self.highest.0;
                let went_back = OperatorAlert::LeaseStoreRolledBack {
                    found,
                    sequence,
                    known,
                };
                self.refuse(ProblemKind::LeaseUnusable, went_back, actions);
            }
            return;
        }
        if let Err(mismatch) = record.belongs_to(&self.identity.cluster, None) {
            self.refuse(
                ProblemKind::ClusterMismatch,
                OperatorAlert::LeaseMismatch(mismatch),
                actions,
            );
            return;
        }
        self.unusable = None;
        self.remember(now, &record, actions);
        let ours = self
            .attempts
            .iter()
            .position(|it| it.record.nonce == record.nonce);
        if let Some(at) = ours {
            let attempt = self.attempts.remove(at);
            self.confirm(now, etag, attempt);
            return;
        }
        if let Role::Holding(held) = &mut self.role {
            if held.record.nonce == record.nonce {
                self.note(now, requested_at, etag, record);
                return;
            }
            // A write of the agent that ran here before this one has taken effect after all. If it
            // released the lease, this node is deposed by itself.
            let renewed = record.state != LeaseState::Released;
            if held.record.holder == record.holder && held.record.epoch == record.epoch && renewed {
                held.adopt(now, etag.clone(), record.clone());
                self.note(now, requested_at, etag, record);
                return;
            }
            let (by, epoch) = (record.holder.node.clone(), record.epoch);
            self.role = Role::Watching;
            actions.push(AgentAction::AlertOperator(OperatorAlert::Deposed {
                by,
                epoch,
            }));
        }
        self.note(now, requested_at, etag, record);
    }

    /// Notes why what the store shows is not used, and calls a person once for each reason.
    pub(super) fn refuse(
        &mut self,
        kind: ProblemKind,
        alarm: OperatorAlert,
        actions: &mut Vec<AgentAction>,
    ) {
        let problem = NodeProblem::new(kind, alarm.to_string());
        if self.unusable.as_ref() != Some(&problem) {
            self.unusable = Some(problem);
            actions.push(AgentAction::AlertOperator(alarm));
        }
    }

    /// Takes in the answer to a write.
    pub(super) fn wrote(
        &mut self,
        now: HostInstant,
        nonce: &Nonce,
        answer: LeaseWriteResult,
        actions: &mut Vec<AgentAction>,
    ) {
        let Some(at) = self
            .attempts
            .iter()
            .position(|it| it.record.nonce == *nonce)
        else {
            return; // A read has shown it already.
        };
        match answer {
            LeaseWriteResult::Stored(etag) => {
                let attempt = self.attempts.remove(at);
                self.remember(now, &attempt.record, actions);
                self.confirm(now, etag, attempt);
            }
            LeaseWriteResult::Rejected | LeaseWriteResult::Unknown => {
                self.look_again(actions);
                // The next try is as good as a read, and need not wait for it: if the lost write
                // took effect, the try is refused, and the read shows the lost one's nonce. What is
                // urgent waits for the pause as well, or a store that refuses would be hammered.
                self.retry_at = Some(now + PAUSE);
                if let Role::Holding(held) = &mut self.role {
                    held.write_at = now;
                }
            }
        }
    }

    /// Makes the lease this node's: the store holds what `attempt` wrote.
    pub(super) fn confirm(&mut self, now: HostInstant, etag: ETag, attempt: Attempt) {
        let Attempt {
            requested_at,
            record,
            how,
        } = attempt;
        self.attempts
            .retain(|it| it.record.order() > record.order());
        self.note(now, requested_at, etag.clone(), record.clone());
        let next = requested_at + self.settings.timing.renew_interval;
        match &mut self.role {
            _ if record.state == LeaseState::Released => self.role = Role::Watching,
            Role::Holding(held) if held.record.epoch == record.epoch => {
                held.etag = etag;
                if requested_at.has_passed_on_any_clock(held.confirmed_at) {
                    held.confirmed_at = requested_at;
                }
                held.open |= record.state == LeaseState::Held;
                held.proven = true;
                if !held.open {
                    held.how = how; // Another number may have been reserved.
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
            Role::Holding(_) | Role::Watching => {
                self.look = None; // What was seen before the lease was held says nothing of after.
                let held = Holding::new(now, etag, record, how, requested_at, next, true);
                self.role = Role::Holding(Box::new(held));
            }
        }
    }

    /// Says whether no write is under way, nor has one failed a moment ago.
    pub(super) fn may_write(&self, now: HostInstant) -> bool {
        !self.writing
            && self
                .retry_at
                .is_none_or(|it| now.has_passed_on_any_clock(it))
    }

    /// Notes which version stands, and since when that is known.
    pub(super) fn note(
        &mut self,
        now: HostInstant,
        requested_at: HostInstant,
        etag: ETag,
        record: LeaseRecord,
    ) {
        match &mut self.seen {
            Some(seen) if seen.etag == etag => {
                seen.missing = false;
                seen.confirmed = requested_at;
            }
            Some(_) | None => {
                self.seen = Some(Seen {
                    etag,
                    record,
                    since: now,
                    confirmed: requested_at,
                    missing: false,
                });
            }
        }
    }

    pub(super) fn remember(
        &mut self,
        now: HostInstant,
        record: &LeaseRecord,
        actions: &mut Vec<AgentAction>,
    ) {
        if record.order() > self.highest {
            self.highest = record.order();
            self.highest_at = Some(now);
            actions.push(AgentAction::Remember(record.epoch, record.sequence));
        }
    }

    pub(super) fn look_again(&mut self, actions: &mut Vec<AgentAction>) {
        if !self.reading {
            self.reading = true;
            actions.push(AgentAction::ReadLease);
        }
    }
}
