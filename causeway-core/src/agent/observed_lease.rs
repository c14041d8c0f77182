//! The newest lease record that this node has observed, and the effect of each response of the lease store.

use std::time::Duration;

use super::held_lease::{HeldLease, TakenVersion};
use super::{Agent, AgentAction, LeaseReadResult, LeaseWriteResult, OperatorAlert, Role};
use crate::HostInstant;
use crate::failover::decision::PromotionMode;
use crate::lease::{ETag, LeaseRecord, LeaseState, Nonce};
use crate::problem::{NodeProblem, ProblemKind};

/// Pause before the write that follows a failed one: without it, a store that refuses connections would
/// receive a thousand requests per second. Short beside the 2.3 s between the third attempt and the stop
/// deadline.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The newest record, and since when it has been unchanged.
#[derive(Clone, Debug)]
pub(super) struct ObservedLease {
    pub(super) etag: ETag,
    pub(super) record: LeaseRecord,
    pub(super) since: HostInstant,
    /// Time at which the last read that returned it was sent.
    pub(super) confirmed: HostInstant,
    /// Time at which the last read that returned an earlier version was sent: the record was stored after it.
    pub(super) stored_after: Option<HostInstant>,
    pub(super) missing: bool,
}

/// A write whose result is unknown.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) requested_at: HostInstant,
    pub(super) record: LeaseRecord,
    pub(super) mode: PromotionMode,
}

impl Agent {
    /// Processes the result of a read.
    pub(super) fn handle_read(
        &mut self,
        now: HostInstant,
        requested_at: HostInstant,
        answer: LeaseReadResult,
        actions: &mut Vec<AgentAction>,
    ) {
        if !matches!(answer, LeaseReadResult::Failed) {
            self.store_answered_at = Some(requested_at);
        }
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

    /// Notes that the lease object is missing. That is not a free lease: a holder before its deadline writes
    /// it again, and every other node leaves that to the operator.
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
            // A response that was sent before the later record arrived is ignored. One to a read sent after that
            // shows that the store was rolled back.
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
            // A late write of an earlier agent of this node took effect. If it released the lease, that
            // agent has deposed this one.
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

    /// Records why the record in the store is ignored, and alerts the operator once for each reason.
    fn report_unusable(
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

    /// Processes the result of a write.
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
            return; // A read has already returned this write.
        };
        match answer {
            LeaseWriteResult::Stored(etag) => {
                let attempt = self.attempts.remove(at);
                self.keep_highest(now, &attempt.record, actions);
                self.confirm_write(now, etag, attempt);
            }
            LeaseWriteResult::Rejected | LeaseWriteResult::Unknown => {
                self.request_read(actions);
                // The next attempt does not wait for the read: if the lost write took effect, the store rejects
                // the attempt, and the read returns the nonce of the lost write. Urgent writes wait for the pause
                // too, or a store that refuses connections would be overloaded.
                self.retry_at = Some(now + RETRY_PAUSE);
                if let Role::Holder(held) = &mut self.role {
                    held.write_at = now;
                }
            }
        }
    }

    /// Records that the store holds the record of `attempt`, so that this node holds the lease.
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
                    held.mode = mode; // This write may have reserved another timeline.
                }
                // A timeline found in use after that write was sent stays reserved.
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
                self.local = None; // Observed before this node held the lease, so it is out of date.
                let taken = TakenVersion {
                    etag,
                    record,
                    mode,
                    confirmed_at: requested_at,
                    write_at: next,
                    proven: true,
                };
                let held = HeldLease::new(now, taken);
                self.role = Role::Holder(Box::new(held));
            }
        }
    }

    /// Returns whether a write may be sent: none is in progress, and the pause after a failed one is over.
    pub(super) fn may_write(&self, now: HostInstant) -> bool {
        !self.writing
            && self
                .retry_at
                .is_none_or(|retry_at| now.has_passed_on_any_clock(retry_at))
    }

    /// Records the current version of the lease, and since when it has been unchanged.
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
            earlier => {
                let stored_after = earlier.as_ref().map(|observed| observed.confirmed);
                *earlier = Some(ObservedLease {
                    etag,
                    record,
                    since: now,
                    confirmed: requested_at,
                    stored_after,
                    missing: false,
                });
            }
        }
    }

    fn keep_highest(
        &mut self,
        now: HostInstant,
        record: &LeaseRecord,
        actions: &mut Vec<AgentAction>,
    ) {
        if record.order() > self.highest {
            self.highest = record.order();
            self.highest_at = Some(now);
            actions.push(AgentAction::StoreHighest(record.epoch, record.sequence));
        }
    }

    pub(super) fn request_read(&mut self, actions: &mut Vec<AgentAction>) {
        if !self.reading {
            self.reading = true;
            actions.push(AgentAction::ReadLease);
        }
    }
}
