//! The newest lease record that this node has seen, and what each answer of the lease store changes.

use std::time::Duration;

use super::held_lease::HeldLease;
use super::{Agent, AgentAction, LeaseReadResult, LeaseWriteResult, OperatorAlert, Role};
use crate::HostInstant;
use crate::failover::decision::PromotionMode;
use crate::lease::{ETag, LeaseRecord, LeaseState, Nonce};
use crate::problem::{NodeProblem, ProblemKind};

/// How long the next try waits after one that failed at once, so that a store which refuses
/// connections is not asked a thousand times a second. Short beside the 2.3 s between the third try
/// and the soft deadline.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The newest record, and since when it has been known to stand.
#[derive(Clone, Debug)]
pub(super) struct ObservedLease {
    pub(super) etag: ETag,
    pub(super) record: LeaseRecord,
    pub(super) since: HostInstant,
    /// When the last read that showed it was sent.
    pub(super) confirmed: HostInstant,
    pub(super) missing: bool,
}

/// A write whose effect is not known yet.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) requested_at: HostInstant,
    pub(super) record: LeaseRecord,
    pub(super) mode: PromotionMode,
}

impl Agent {
    /// Takes in the answer to a read.
    pub(super) fn handle_read(
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
    pub(super) fn handle_write_result(
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
    pub(super) fn may_write(&self, now: HostInstant) -> bool {
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

    pub(super) fn request_read(&mut self, actions: &mut Vec<AgentAction>) {
        if !self.reading {
            self.reading = true;
            actions.push(AgentAction::ReadLease);
        }
    }
}
