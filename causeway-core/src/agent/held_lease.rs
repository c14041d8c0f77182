//! Actions of the agent while its node holds the lease: renew it, accept writes, release it in time.

use std::time::Duration;

use super::service::{GuardWatch, InheritedDurations, ServiceWatch};
use super::{
    Agent, AgentAction, AgentConfig, LocalObservation, OperatorAlert, ReleaseReason, Role,
};
use crate::failover::decision::{self, PromotionMode};
use crate::failover::observation::ServerView;
use crate::lease::{
    ETag, LeaseRecord, LeaseState, LeaseStoreId, PrimaryPosition, WritePrecondition,
};
use crate::lsn::TimelineHistory;
use crate::{HostInstant, Timeline};

/// Time for walsenders to drain when a command releases the lease: no failover is waiting, and drained WAL
/// is not lost.
const COMMAND_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after the drain in which PostgreSQL may stop while the lease is still renewed. A process that a
/// stalled disk keeps alive must not keep the lease. Its expiry is safe: after SIGKILL no process
/// acknowledges a commit.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Time in which a primary's own rates cover less than the minute of a loss estimate.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// The lease while this node holds it.
#[derive(Clone, Debug)]
pub(super) struct HeldLease {
    pub(super) etag: ETag,
    pub(super) record: LeaseRecord,
    pub(super) mode: PromotionMode,
    /// Time at which the last write known to be stored was sent.
    pub(super) confirmed_at: HostInstant,
    /// Time of the next write.
    pub(super) write_at: HostInstant,
    pub(super) open: bool,
    /// Whether a write of this agent is stored. Until then a release sent by an earlier agent of this node
    /// could still take effect, so no server is started or promoted.
    pub(super) proven: bool,
    pub(super) releasing: Option<ReleaseReason>,
    releasing_since: Option<HostInstant>,
    pub(super) service: ServiceWatch,
    /// Time at which the rates in the record were inherited, and the position with them: from the previous
    /// primary, or from this one before its agent restarted. Clients keep their load when they reconnect.
    inherited: (HostInstant, Option<PrimaryPosition>),
}

/// The version of the lease with which a node becomes its holder.
#[derive(Debug)]
pub(super) struct TakenVersion {
    pub(super) etag: ETag,
    pub(super) record: LeaseRecord,
    pub(super) mode: PromotionMode,
    /// Time at which the write of this version was sent.
    pub(super) confirmed_at: HostInstant,
    /// Time of the next write.
    pub(super) write_at: HostInstant,
    /// Whether this agent wrote it, and not an earlier agent of this node.
    pub(super) proven: bool,
}

impl HeldLease {
    pub(super) fn new(now: HostInstant, taken: TakenVersion) -> Self {
        let TakenVersion {
            etag,
            record,
            mode,
            confirmed_at,
            write_at,
            proven,
        } = taken;
        let open = record.state == LeaseState::Held;
        let record_position = record.last_position;
        let idle = Duration::from_millis(record.idle_millis);
        let age = record
            .last_position
            .map_or(0, |position| position.age_millis);
        let unproven = if open {
            idle.max(Duration::from_millis(age))
        } else {
            idle
        };
        let service = ServiceWatch::new(now, confirmed_at, InheritedDurations { unproven, idle });
        Self {
            etag,
            record,
            mode,
            confirmed_at,
            write_at,
            open,
            proven,
            releasing: None,
            releasing_since: None,
            service,
            inherited: (now, record_position),
        }
    }

    /// Returns a position with rates no lower than the inherited ones until this primary's own rates cover
    /// as much time. Its first measurements are zero, and so would be the estimated loss.
    fn with_inherited_rates(&self, now: HostInstant, own: PrimaryPosition) -> PrimaryPosition {
        let (since, inherited) = self.inherited;
        match inherited {
            Some(before) if now.elapsed_lower_bound(since) < RATE_WINDOW => PrimaryPosition {
                wal_bytes_per_sec: own.wal_bytes_per_sec.max(before.wal_bytes_per_sec),
                rows_per_sec: own.rows_per_sec.max(before.rows_per_sec),
                ..own
            },
            Some(_) | None => own,
        }
    }

    /// Adopts a version that an earlier agent of this node wrote. It does not extend the deadline, because
    /// the time at which it was sent is unknown.
    pub(super) fn adopt_record(&mut self, now: HostInstant, etag: ETag, record: LeaseRecord) {
        self.etag = etag;
        self.open |= record.state == LeaseState::Held;
        self.record = record;
        self.write_at = now;
    }

    /// Starts the release if there is a reason for it, and returns the alert.
    fn start_release(
        &mut self,
        now: HostInstant,
        local: &LocalObservation,
        settings: &AgentConfig,
    ) -> Option<OperatorAlert> {
        let reason = self.service.observe(now, local, self.open, settings);
        let expected = self.record.system_id;
        let found = local
            .primary
            .map(|primary| primary.system_id)
            .or(local.system_id);
        if found.is_some_and(|system_id| system_id != expected) {
            self.releasing = Some(ReleaseReason::OtherDatabase);
        } else if let Some((found, reserved)) = self.find_wrong_timeline(local) {
            // The next holder must not reserve this number.
            self.record.highest_reserved_timeline =
                self.record.highest_reserved_timeline.max(found);
            self.releasing = Some(ReleaseReason::WrongTimeline);
            return Some(OperatorAlert::WrongTimeline { found, reserved });
        } else {
            self.releasing = reason;
        }
        self.releasing.map(OperatorAlert::Released)
    }

    fn find_wrong_timeline(&self, local: &LocalObservation) -> Option<(Timeline, Timeline)> {
        let found = local.primary?.position.timeline;
        match self.mode {
            PromotionMode::Promote(reserved) if !self.open && found != reserved => {
                Some((found, reserved))
            }
            PromotionMode::Promote(_) | PromotionMode::Resume => None,
        }
    }

    /// Returns whether the lease may be renewed: not while guard is away for too long, nor after the time
    /// for PostgreSQL to stop. Without guard the lease cannot be released, so renewals also end for a server
    /// that had been idle for `idle` before guard went away.
    fn may_renew(
        &self,
        now: HostInstant,
        drain: Duration,
        guard: GuardWatch,
        idle: Duration,
    ) -> bool {
        let overdue = self
            .releasing_since
            .is_some_and(|since| now.elapsed_upper_bound(since) >= drain + SHUTDOWN_TIMEOUT);
        let lifeless = guard.is_away() && self.service.idle(now) >= idle;
        !overdue && !lifeless && !guard.is_gone(now)
    }
}

impl Agent {
    pub(super) fn run_as_holder(&mut self, now: HostInstant, actions: &mut Vec<AgentAction>) {
        let timing = self.settings.timing;
        let drain = self.time_to_drain();
        let Role::Holder(held) = &mut self.role else {
            return;
        };
        if now.has_passed_on_any_clock(held.confirmed_at + timing.kill_deadline) {
            let epoch = held.record.epoch;
            self.gave_up = held.releasing.or(self.gave_up);
            self.role = Role::Candidate;
            actions.push(AgentAction::AlertOperator(OperatorAlert::LeaseExpired(
                epoch,
            )));
            return;
        }
        // A cluster has one lease, and the higher epoch is the newer.
        if let Some(peer) = decision::find_peer_ahead(held.record.epoch, &self.peers) {
            let (by, epoch) = (peer.node.clone(), peer.highest);
            self.role = Role::Candidate;
            actions.push(AgentAction::AlertOperator(OperatorAlert::Superseded {
                by,
                epoch,
            }));
            return;
        }
        let mut ended = false;
        if let Some(local) = &self.local {
            // The lease expired here, the server was started as a standby, and a renewal with a lost response
            // turned out to be stored: the record is `held`, and the server does not accept writes.
            if held.releasing.is_none() && matches!(local.server, ServerView::Standby(_)) {
                held.open = false;
            }
            if held.releasing.is_none()
                && let Some(alarm) = held.start_release(now, local, &self.settings)
            {
                self.gave_up = held.releasing;
                actions.push(AgentAction::AlertOperator(alarm));
                // This observation may have led to a start, so it does not prove that the server has stopped.
                self.local = None;
                return;
            }
            if local.primary.is_some() {
                self.gave_up = None;
            }
            let unseen_pause = local
                .wants_renewal_since
                .is_some_and(|since| !held.confirmed_at.has_passed_on_any_clock(since));
            let opens = local.primary.is_some() && !held.open && held.releasing.is_none();
            ended = held.releasing.is_some() && matches!(local.server, ServerView::Stopped(_));
            let reserves = held.next_timeline_to_reserve(local).is_some();
            if unseen_pause || opens || ended || reserves {
                held.write_at = now;
            }
        }
        if held.releasing.is_some() {
            held.releasing_since.get_or_insert(now);
        }
        if !now.has_passed_on_any_clock(held.write_at)
            || !(ended || held.may_renew(now, drain, self.guard, self.settings.start_timeout))
        {
            return;
        }
        // A release with a lost response, of this agent or an earlier one, may have been stored, and another
        // node may have taken the lease before the object was deleted.
        let missing = self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.missing);
        let condition = match (missing, held.proven && held.releasing.is_none()) {
            (true, false) => return,
            (true, true) => WritePrecondition::Missing,
            (false, _) => WritePrecondition::Match(held.etag.clone()),
        };
        if self.may_write(now) {
            self.renew_lease(now, condition, actions);
        }
    }

    /// Records that the lease in an older store is retired, for the next renewal.
    pub(super) fn record_retired_store(&mut self, store: &LeaseStoreId) {
        if let Role::Holder(held) = &mut self.role
            && held
                .record
                .unretired
                .as_ref()
                .is_some_and(|unretired| unretired.is_same(store))
        {
            held.record.unretired = None;
        }
    }

    /// Renews the lease in the same epoch, with the current position and state.
    pub(super) fn renew_lease(
        &mut self,
        now: HostInstant,
        condition: WritePrecondition,
        actions: &mut Vec<AgentAction>,
    ) {
        let Role::Holder(held) = &self.role else {
            return;
        };
        let local = self.local.as_ref();
        let primary = local.and_then(|local| local.primary);
        let ended = local.is_some_and(|local| matches!(local.server, ServerView::Stopped(_)));
        let state = match held.releasing {
            Some(_) if ended => LeaseState::Released,
            None if held.open || primary.is_some() => LeaseState::Held,
            None => LeaseState::Acquiring,
            Some(_) => held.record.state,
        };
        let mut record = LeaseRecord {
            state,
            idle_millis: millis(held.service.idle(now)),
            ..held.record.clone()
        };
        if held.open
            && let Some(position) = &mut record.last_position
        {
            position.age_millis = millis(held.service.unproven(now));
        }
        let mut mode = held.mode;
        if let Some(next) = local.and_then(|local| held.next_timeline_to_reserve(local)) {
            record.highest_reserved_timeline = next;
            mode = PromotionMode::Promote(next);
        }
        if let Some(primary) = primary.filter(|_| state == LeaseState::Held) {
            record.highest_reserved_timeline = record
                .highest_reserved_timeline
                .max(primary.position.timeline);
            record.last_position = Some(held.with_inherited_rates(now, primary.position));
            record.last_primary = Some(self.identity.node.clone());
            let ancestry = local.and_then(|local| local.ancestry.clone());
            let current =
                |history: &TimelineHistory| history.timeline() == primary.position.timeline;
            record.ancestry = ancestry.or(record.ancestry).filter(current);
        }
        self.write_lease(now, record, mode, condition, actions);
    }

    /// Returns the time that PostgreSQL has to stop when the lease is released.
    pub(super) fn time_to_drain(&self) -> Duration {
        let timing = self.settings.timing;
        match &self.role {
            Role::Holder(held) if held.releasing == Some(ReleaseReason::Command) => {
                COMMAND_DRAIN_TIMEOUT
            }
            Role::Holder(_) | Role::Candidate => {
                timing.kill_deadline.saturating_sub(timing.stop_deadline)
            }
        }
    }
}

impl HeldLease {
    /// Returns another timeline to reserve, if one is needed. An interrupted promotion leaves a history file,
    /// and PostgreSQL would take the number after it. A standby that was to resume as primary needs a number
    /// of its own, because the one in the record may be reserved for another node.
    fn next_timeline_to_reserve(&self, local: &LocalObservation) -> Option<Timeline> {
        if self.open || self.releasing.is_some() {
            return None;
        }
        let highest = self.record.highest_reserved_timeline;
        match (self.mode, local.server) {
            (PromotionMode::Promote(reserved), _) => {
                let taken = local
                    .taken_timeline
                    .filter(|timeline| *timeline >= reserved)?;
                Some(highest.max(taken).next())
            }
            (PromotionMode::Resume, ServerView::Standby(own)) => {
                Some(highest.max(own.timeline).next())
            }
            (PromotionMode::Resume, _) => None,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
