//! What an agent does while the lease is its node's: renew it, open it, and give it up in time.

use std::time::Duration;

use super::service::{InheritedDurations, GuardWatch, ServiceWatch};
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

/// For how long walsenders may drain when the lease is released by command: nothing else waits, and
/// what they drain is what is not lost.
const COMMAND_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How much longer than the drain the end of PostgreSQL may take while its lease is still renewed. A
/// process that a stalled disk keeps from ending must not keep the lease: it expires, which is safe,
/// since no process acknowledges anything after SIGKILL.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// For how long a primary's own rates cover less than the minute of which a statement speaks.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// The lease, while it is this node's.
#[derive(Clone, Debug)]
pub(super) struct HeldLease {
    pub(super) etag: ETag,
    pub(super) record: LeaseRecord,
    pub(super) mode: PromotionMode,
    /// When the write that is known to be stored was sent.
    pub(super) confirmed_at: HostInstant,
    /// When the next write is due.
    pub(super) write_at: HostInstant,
    pub(super) open: bool,
    /// A write of this agent's is stored. Until then one that an earlier agent of this node sent, to
    /// release the lease, could still take effect, so nothing is started or promoted.
    pub(super) proven: bool,
    pub(super) releasing: Option<ReleaseReason>,
    releasing_since: Option<HostInstant>,
    pub(super) service: ServiceWatch,
    /// When the rates in the record were inherited, and what they were: those of the primary before, or of
    /// this one before its agent was restarted. Clients bring their load with them.
    inherited: (HostInstant, Option<PrimaryPosition>),
}

impl HeldLease {
    pub(super) fn new(
        now: HostInstant,
        etag: ETag,
        record: LeaseRecord,
        mode: PromotionMode,
        confirmed_at: HostInstant,
        write_at: HostInstant,
        proven: bool,
    ) -> Self {
        let open = record.state == LeaseState::Held;
        let record_position = record.last_position;
        let idle = Duration::from_millis(record.idle_millis);
        let age = record.last_position.map_or(0, |position| position.age_millis);
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

    /// Returns a position with rates that are no lower than the inherited ones, until this primary's own
    /// cover as much time. What it measured is nothing at first, and a loss would be stated as nothing.
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

    /// Goes on from a version that an earlier agent of this node wrote. When it was sent is not
    /// known, so it lengthens nothing.
    pub(super) fn adopt_record(&mut self, now: HostInstant, etag: ETag, record: LeaseRecord) {
        self.etag = etag;
        self.open |= record.state == LeaseState::Held;
        self.record = record;
        self.write_at = now;
    }

    /// Begins to give the lease up if that should be, and says why.
    fn wants_release(
        &mut self,
        now: HostInstant,
        local: &LocalObservation,
        settings: &AgentConfig,
    ) -> Option<OperatorAlert> {
        let reason = self.service.observe(now, local, self.open, settings);
        let expected = self.record.system_id;
        let found = local.primary.map(|primary| primary.system_id).or(local.system_id);
        if found.is_some_and(|system_id| system_id != expected) {
            self.releasing = Some(ReleaseReason::OtherDatabase);
        } else if let Some((found, reserved)) = self.wrong_timeline(local) {
            // Whoever comes next must not take the number for free.
            self.record.highest_reserved_timeline =
                self.record.highest_reserved_timeline.max(found);
            self.releasing = Some(ReleaseReason::WrongTimeline);
            return Some(OperatorAlert::WrongTimeline { found, reserved });
        } else {
            self.releasing = reason;
        }
        self.releasing.map(OperatorAlert::Released)
    }

    fn wrong_timeline(&self, local: &LocalObservation) -> Option<(Timeline, Timeline)> {
        let found = local.primary?.position.timeline;
        match self.mode {
            PromotionMode::Promote(reserved) if !self.open && found != reserved => {
                Some((found, reserved))
            }
            PromotionMode::Promote(_) | PromotionMode::Resume => None,
        }
    }

    /// Says whether the lease may be renewed: not for a server that nobody sees, nor for one that should
    /// have ended long ago. Without guard nothing can be released, so that a server which had shown no sign
    /// of life for `idle` before guard went away ends the renewals too.
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
        // Both leases cannot be the cluster's, and the higher epoch is the newer.
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
            // The lease ran out here, the server was started as a standby, and then a renewal whose answer
            // was lost turned out to be stored: the record says open, and the server is not.
            if held.releasing.is_none() && matches!(local.server, ServerView::Standby(_)) {
                held.open = false;
            }
            if held.releasing.is_none()
                && let Some(alarm) = held.wants_release(now, local, &self.settings)
            {
                self.gave_up = held.releasing;
                actions.push(AgentAction::AlertOperator(alarm));
                // A start may have been ordered on what was seen, so it does not prove an end.
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
            let reserves = held.next_number(local).is_some();
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
        // A release whose answer was lost, this agent's or an earlier one's, may have been stored
        // and followed by another holder before the object was deleted.
        let missing = self.observed.as_ref().is_some_and(|observed| observed.missing);
        let condition = match (missing, held.proven && held.releasing.is_none()) {
            (true, false) => return,
            (true, true) => WritePrecondition::Missing,
            (false, _) => WritePrecondition::Match(held.etag.clone()),
        };
        if self.may_write(now) {
            self.renew_lease(now, condition, actions);
        }
    }

    /// Notes that the record in an older store is retired: the next renewal tells everybody.
    pub(super) fn note_retired(&mut self, store: &LeaseStoreId) {
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

    /// Writes the lease again, in the same epoch, with what is true now.
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
        if let Some(next) = local.and_then(|local| held.next_number(local)) {
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
            let current = |history: &TimelineHistory| history.timeline() == primary.position.timeline;
            record.ancestry = ancestry.or(record.ancestry).filter(current);
        }
        self.write_lease(now, record, mode, condition, actions);
    }

    /// Returns how long PostgreSQL may take to end when the lease is being released.
    pub(super) fn time_to_drain(&self) -> Duration {
        let timing = self.settings.timing;
        match &self.role {
            Role::Holder(held) if held.releasing == Some(ReleaseReason::Command) => COMMAND_DRAIN_TIMEOUT,
            Role::Holder(_) | Role::Candidate => {
                timing.kill_deadline.saturating_sub(timing.stop_deadline)
            }
        }
    }
}

impl HeldLease {
    /// Returns the timeline to reserve: in place of one that is in use, since a promotion that was cut off
    /// has left its history file, and PostgreSQL would begin the number after it; or for a standby that
    /// was to resume as the primary it was, for which the number in the record is not its own.
    fn next_number(&self, local: &LocalObservation) -> Option<Timeline> {
        if self.open || self.releasing.is_some() {
            return None;
        }
        let highest = self.record.highest_reserved_timeline;
        match (self.mode, local.server) {
            (PromotionMode::Promote(reserved), _) => {
                let taken = local.taken_timeline.filter(|timeline| *timeline >= reserved)?;
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
