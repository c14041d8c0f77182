//! Whether the holder's PostgreSQL does its work, and for how long it may not.
//!
//! A proven write is the only proof of service. Everything else that a server does (it starts, replays
//! WAL, answers questions) is a sign of life, which buys it time and no more: a holder without either
//! gives the lease up, whatever the reason is.

use std::time::Duration;

use super::{AgentConfig, LocalObservation, ReleaseReason, ServerHealth};
use crate::HostInstant;
use crate::failover::observation::ServerView;
use crate::problem::{NodeProblem, ProblemKind};

/// For how long starts are counted against a server that serves in between.
const START_WINDOW: Duration = Duration::from_mins(1);

/// For how long a holder renews without seeing its guard. A silent guard is killed after 5 s of
/// unanswered messages and is started again within 1 s; one that stays away has taken PostgreSQL with it.
pub(super) const GUARD_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a watch takes to see that a replay advances.
const PROGRESS_SAMPLE_TIME: Duration = Duration::from_secs(2);

/// What is known of the service of one holding.
#[derive(Clone, Debug)]
pub(super) struct ServiceWatch {
    /// When a write was proved last, or the lease was taken.
    proven_at: HostInstant,
    /// When the server last showed that it advances.
    alive_at: HostInstant,
    before: InheritedDurations,
    began_at: HostInstant,
    replay: Option<u64>,
    starts: Option<u64>,
    started_at: Vec<HostInstant>,
    starts_since_proof: u32,
}

/// Since when guard has not been seen. It belongs to the host and not to a holding: a write that is found to
/// be stored after the lease ran out must not buy a lost guard more time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GuardWatch {
    away_since: Option<HostInstant>,
}

impl GuardWatch {
    pub(super) fn observe(&mut self, now: HostInstant, local: &LocalObservation) {
        if local.server == ServerView::Unguarded {
            self.away_since.get_or_insert(now);
        } else {
            self.away_since = None;
        }
    }

    pub(super) const fn is_away(self) -> bool {
        self.away_since.is_some()
    }

    /// Says whether guard has been away for so long that the lease is left to expire.
    pub(super) fn is_gone(self, now: HostInstant) -> bool {
        self.away_since
            .is_some_and(|since| now.elapsed_upper_bound(since) >= GUARD_TIMEOUT)
    }
}

/// What had passed before the watch began, under an agent that ran here before this one: neither a restart
/// of the agent nor a new epoch of the same node begins to count anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InheritedDurations {
    /// For how long no write had been proved.
    pub(super) unproven: Duration,
    /// For how long the server had shown no sign of life.
    pub(super) idle: Duration,
}

impl ServiceWatch {
    /// Returns the watch, which begins now, of a holding that stands since `since`.
    pub(super) fn new(now: HostInstant, since: HostInstant, before: InheritedDurations) -> Self {
        Self {
            proven_at: since,
            alive_at: since,
            before,
            began_at: now,
            replay: None,
            starts: None,
            started_at: Vec::new(),
            starts_since_proof: 0,
        }
    }

    /// Records what was seen, and returns why the lease has to be given up, if it has.
    ///
    /// Before the node was open nobody was served, and nothing excuses it.
    pub(super) fn observe(
        &mut self,
        now: HostInstant,
        local: &LocalObservation,
        open: bool,
        settings: &AgentConfig,
    ) -> Option<ReleaseReason> {
        if local.server == ServerView::Unguarded {
            return None; // Nothing shows whether PostgreSQL has ended: the lease expires.
        }
        self.count_starts(now, local.starts);
        self.note_life(now, local, open);
        self.reason_to_stop(now, local, open, settings)
    }

    /// Returns for how long no write has been proved.
    pub(super) fn unproven(&self, now: HostInstant) -> Duration {
        now.elapsed_upper_bound(self.proven_at) + self.before.unproven
    }

    /// Returns for how long there has been no sign of life.
    pub(super) fn idle(&self, now: HostInstant) -> Duration {
        now.elapsed_upper_bound(self.alive_at) + self.before.idle
    }

    /// Returns how often PostgreSQL was started since it last proved a write.
    pub(super) const fn starts_since_proof(&self) -> u32 {
        self.starts_since_proof
    }

    /// Says that PostgreSQL has ended again and again, also if it serves in between: each time its clients are
    /// cut.
    pub(super) fn keeps_ending(&self, now: HostInstant) -> Option<NodeProblem> {
        let lately = |at: &&HostInstant| now.elapsed_lower_bound(**at) < START_WINDOW;
        let starts = self.started_at.iter().filter(lately).count();
        let detail = || {
            format!(
                "PostgreSQL was started {starts} times in the last minute: its log says why it ended"
            )
        };
        (starts > 1).then(|| NodeProblem::new(ProblemKind::KeepsEnding, detail()))
    }

    fn count_starts(&mut self, now: HostInstant, starts: Option<u64>) {
        let (Some(starts), before) = (starts, self.starts) else {
            return;
        };
        self.starts = Some(starts);
        // A guard that was restarted counts from zero again.
        let more = match before {
            None => 0,
            Some(before) if starts < before => starts,
            Some(before) => starts - before,
        };
        self.started_at
            .retain(|at| now.elapsed_lower_bound(*at) < START_WINDOW);
        for _ in 0..more {
            self.started_at.push(now);
            self.starts_since_proof = self.starts_since_proof.saturating_add(1);
        }
    }

    fn note_life(&mut self, now: HostInstant, local: &LocalObservation, open: bool) {
        if local.primary.is_some() {
            self.proven_at = now;
            self.before.unproven = Duration::ZERO;
            self.starts_since_proof = 0;
        }
        // What is seen first may have stood there for long, and a server that is started again goes back.
        let advances = match (self.replay, local.replay) {
            (Some(before), Some(replay)) => replay > before,
            (None, _) | (_, None) => false,
        };
        self.replay = local.replay.or(self.replay);
        let excused = match local.health {
            ServerHealth::Unproven(failure) => open && failure.is_no_reason_to_move(),
            ServerHealth::Silent | ServerHealth::Recovering | ServerHealth::Writes => false,
        };
        if local.primary.is_some() || advances || excused {
            self.alive_at = now;
            self.before.idle = Duration::ZERO;
        }
    }

    fn reason_to_stop(
        &self,
        now: HostInstant,
        local: &LocalObservation,
        open: bool,
        settings: &AgentConfig,
    ) -> Option<ReleaseReason> {
        let max_restarts_per_minute = usize::try_from(settings.max_restarts_per_minute).unwrap_or(usize::MAX);
        let often = self.started_at.len() > max_restarts_per_minute || self.starts_since_proof > settings.max_restarts_per_minute;
        if often && matches!(local.server, ServerView::Stopped(_)) {
            return Some(ReleaseReason::KeepsEnding);
        }
        let watched = now.elapsed_lower_bound(self.began_at);
        let quiet = if watched < PROGRESS_SAMPLE_TIME {
            watched
        } else {
            now.elapsed_lower_bound(self.alive_at) + self.before.idle
        };
        match (local.server, local.health) {
            (_, ServerHealth::Unproven(failure)) if open && failure.is_no_reason_to_move() => None,
            (ServerView::MayWrite, ServerHealth::Unproven(failure)) => (quiet
                >= settings.write_stall_timeout)
                .then_some(ReleaseReason::CannotWrite(failure)),
            (ServerView::MayWrite, ServerHealth::Silent)
                if quiet >= settings.write_probe_timeout =>
            {
                Some(ReleaseReason::AnswersNothing)
            }
            _ => (quiet >= settings.start_timeout).then_some(ReleaseReason::NotUpInTime),
        }
    }
}

#[cfg(test)]
mod tests;
