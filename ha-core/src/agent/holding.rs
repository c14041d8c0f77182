//! What an agent does while the lease is its node's: renew it, open it, and give it up in time.

use std::time::Duration;

use super::{Action, Agent, Alarm, Look, Reason, Role, Settings};
use crate::Moment;
use crate::failover::decision::How;
use crate::failover::observation::ServerView;
use crate::lease::{Condition, ETag, LeaseRecord, LeaseState};

/// For how long walsenders may drain when the lease is released by command: nothing else waits, and
/// what they drain is what is not lost.
const DRAIN: Duration = Duration::from_secs(30);

/// For how long restarts are counted.
const RESTART_WINDOW: Duration = Duration::from_mins(1);

/// The lease, while it is this node's.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) etag: ETag,
    pub(super) record: LeaseRecord,
    pub(super) how: How,
    /// When the write that is known to be stored was sent.
    pub(super) confirmed_at: Moment,
    /// When the next write is due.
    pub(super) write_at: Moment,
    pub(super) open: bool,
    /// A write of this agent's is stored. Until then one that an earlier agent of this node sent, to
    /// release the lease, could still take effect, so nothing is started or promoted.
    pub(super) proven: bool,
    pub(super) releasing: Option<Reason>,
    held_since: Moment,
    /// When the server ended by itself, of late.
    ended_at: Vec<Moment>,
    was_up: bool,
}

impl Holding {
    pub(super) fn new(
        now: Moment,
        etag: ETag,
        record: LeaseRecord,
        how: How,
        confirmed_at: Moment,
        write_at: Moment,
        proven: bool,
    ) -> Self {
        let open = record.state == LeaseState::Open;
        Self {
            etag,
            record,
            how,
            confirmed_at,
            write_at,
            open,
            proven,
            releasing: None,
            held_since: now,
            ended_at: Vec::new(),
            was_up: false,
        }
    }

    /// Goes on from a version that an earlier agent of this node wrote. When it was sent is not
    /// known, so it lengthens nothing.
    pub(super) fn adopt(&mut self, now: Moment, etag: ETag, record: LeaseRecord) {
        self.etag = etag;
        self.open |= record.state == LeaseState::Open;
        self.record = record;
        self.write_at = now;
    }

    /// Begins to give the lease up if that should be, and says why.
    fn wants_release(&mut self, now: Moment, look: &Look, settings: &Settings) -> Option<Alarm> {
        if let (How::Promote(reserved), Some(primary), false) = (self.how, look.primary, self.open)
            && primary.position.timeline != reserved
        {
            let found = primary.position.timeline;
            // Whoever comes next must not take the number for free.
            self.record.highest_timeline = self.record.highest_timeline.max(found);
            self.releasing = Some(Reason::WrongTimeline);
            return Some(Alarm::WrongTimeline { found, reserved });
        }
        self.releasing = self.cannot_go_on(now, look, settings);
        self.releasing.map(Alarm::Released)
    }

    fn cannot_go_on(&mut self, now: Moment, look: &Look, settings: &Settings) -> Option<Reason> {
        match look.server {
            ServerView::MayWrite if look.primary.is_some() => self.was_up = true,
            ServerView::Ended(_) if self.was_up => {
                self.was_up = false;
                self.ended_at
                    .retain(|it| now.shortest_since(*it) < RESTART_WINDOW);
                self.ended_at.push(now);
            }
            ServerView::MayWrite
            | ServerView::Ended(_)
            | ServerView::Unguarded
            | ServerView::Silent
            | ServerView::Following(_) => {}
        }
        if self.ended_at.len() > usize::try_from(settings.restarts).unwrap_or(usize::MAX) {
            return Some(Reason::KeepsEnding);
        }
        let patience = if look.starting {
            settings.start_within
        } else {
            settings.hang_after
        };
        if look.silent_for >= patience {
            return Some(Reason::AnswersNothing);
        }
        if !self.open && now.shortest_since(self.held_since) >= settings.start_within {
            return Some(Reason::NotUpInTime);
        }
        None
    }
}

impl Agent {
    pub(super) fn hold(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let timing = self.settings.timing;
        let Role::Holding(held) = &mut self.role else {
            return;
        };
        if now.has_reached(held.confirmed_at + timing.hard) {
            let epoch = held.record.epoch;
            self.role = Role::Watching;
            actions.push(Action::Alarm(Alarm::RanOut(epoch)));
            return;
        }
        if let Some(look) = &self.look {
            if held.releasing.is_none()
                && let Some(alarm) = held.wants_release(now, look, &self.settings)
            {
                actions.push(Action::Alarm(alarm));
                // A start may have been ordered on what was seen, so it does not prove an end.
                self.look = None;
                return;
            }
            let unseen_pause = look
                .wants_renewal_since
                .is_some_and(|it| !held.confirmed_at.has_reached(it));
            let opens = look.primary.is_some() && !held.open && held.releasing.is_none();
            let ended = held.releasing.is_some() && matches!(look.server, ServerView::Ended(_));
            if unseen_pause || opens || ended {
                held.write_at = now;
            }
        }
        if !now.has_reached(held.write_at) {
            return;
        }
        // A release whose answer was lost, this agent's or an earlier one's, may have been stored
        // and followed by another holder before the object was deleted.
        let missing = self.seen.as_ref().is_some_and(|it| it.missing);
        let condition = match (missing, held.proven && held.releasing.is_none()) {
            (true, false) => return,
            (true, true) => Condition::Missing,
            (false, _) => Condition::Match(held.etag.clone()),
        };
        if self.may_write(now) {
            self.renew(now, condition, actions);
        }
    }

    /// Writes the lease again, in the same epoch, with what is true now.
    pub(super) fn renew(&mut self, now: Moment, condition: Condition, actions: &mut Vec<Action>) {
        let Role::Holding(held) = &self.role else {
            return;
        };
        let primary = self.look.as_ref().and_then(|it| it.primary);
        let ended = self
            .look
            .as_ref()
            .is_some_and(|it| matches!(it.server, ServerView::Ended(_)));
        let state = match held.releasing {
            Some(_) if ended => LeaseState::Released,
            None if held.open || primary.is_some() => LeaseState::Open,
            Some(_) | None => held.record.state,
        };
        let mut record = LeaseRecord {
            state,
            ..held.record.clone()
        };
        if let Some(primary) = primary.filter(|_| state == LeaseState::Open) {
            record.highest_timeline = record.highest_timeline.max(primary.position.timeline);
            record.position = Some(primary.position);
        }
        let how = held.how;
        self.write(now, record, how, condition, actions);
    }

    /// Returns how long PostgreSQL may take to end when the lease is being released.
    pub(super) fn time_to_drain(&self) -> Duration {
        let timing = self.settings.timing;
        match &self.role {
            Role::Holding(held) if held.releasing == Some(Reason::Command) => DRAIN,
            Role::Holding(_) | Role::Watching => timing.hard.saturating_sub(timing.soft),
        }
    }
}
