//! Service of the holder's PostgreSQL, and the time limits without it.
//!
//! A proven write is the only proof of service. Starting, replaying WAL and answering queries are signs of
//! progress, which extend the limits. A holder without either releases the lease, whatever the reason.

use std::time::Duration;

use super::{AgentConfig, LocalObservation, ReleaseReason, ServerHealth};
use crate::HostInstant;
use crate::failover::observation::ServerView;
use crate::problem::{NodeProblem, ProblemKind};

/// Time in which starts are counted against a server that serves in between.
const START_WINDOW: Duration = Duration::from_mins(1);

/// Time for which a holder renews without a response of its guard. A silent guard is killed after 5 s of
/// unanswered messages and restarted within 1 s. One that stays away has ended PostgreSQL with it.
pub(super) const GUARD_TIMEOUT: Duration = Duration::from_secs(8);

/// Time to observe that replay advances.
const PROGRESS_SAMPLE_TIME: Duration = Duration::from_secs(2);

/// Service of one holder, from observations.
#[derive(Clone, Debug)]
pub(super) struct ServiceWatch {
    /// Time of the last proven write, or at which the lease was taken.
    proven_at: HostInstant,
    /// Time of the last sign of progress.
    alive_at: HostInstant,
    before: InheritedDurations,
    began_at: HostInstant,
    replay: Option<u64>,
    starts: Option<u64>,
    started_at: Vec<HostInstant>,
    starts_since_proof: u32,
}

/// Start of guard's absence. It belongs to the host, not to one held lease: a write found to be stored after
/// the lease expired must not extend the limit for a lost guard.
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

    /// Returns whether guard has been away for too long, so that the lease is left to expire.
    pub(super) fn is_gone(self, now: HostInstant) -> bool {
        self.away_since
            .is_some_and(|since| now.elapsed_upper_bound(since) >= GUARD_TIMEOUT)
    }
}

/// Durations counted by an earlier agent of this node: neither a restart of the agent nor a new epoch of the
/// same node resets them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InheritedDurations {
    /// Time without a proven write.
    pub(super) unproven: Duration,
    /// Time without a sign of progress.
    pub(super) idle: Duration,
}

impl ServiceWatch {
    /// Returns a watch that starts at `now`, of a lease held since `since`.
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

    /// Records an observation, and returns the reason for a release, if there is one.
    ///
    /// Before the node accepts writes it serves no clients, so no failure is excused.
    pub(super) fn observe(
        &mut self,
        now: HostInstant,
        local: &LocalObservation,
        open: bool,
        settings: &AgentConfig,
    ) -> Option<ReleaseReason> {
        if local.server == ServerView::Unguarded {
            return None; // It is unknown whether PostgreSQL has stopped: the lease expires.
        }
        self.count_starts(now, local.starts);
        self.record_progress(now, local, open);
        self.release_reason(now, local, open, settings)
    }

    /// Returns the time since the last proven write.
    pub(super) fn unproven(&self, now: HostInstant) -> Duration {
        now.elapsed_upper_bound(self.proven_at) + self.before.unproven
    }

    /// Returns the time since the last sign of progress.
    pub(super) fn idle(&self, now: HostInstant) -> Duration {
        now.elapsed_upper_bound(self.alive_at) + self.before.idle
    }

    /// Returns the number of starts since the last proven write.
    pub(super) const fn starts_since_proof(&self) -> u32 {
        self.starts_since_proof
    }

    /// Returns a problem if PostgreSQL crashes repeatedly, even if it serves in between: each crash disconnects its
    /// clients.
    pub(super) fn crash_looping(&self, now: HostInstant) -> Option<NodeProblem> {
        let lately = |at: &&HostInstant| now.elapsed_lower_bound(**at) < START_WINDOW;
        let starts = self.started_at.iter().filter(lately).count();
        let detail = || {
            format!(
                "PostgreSQL was started {starts} times in the last minute: see its log for the cause"
            )
        };
        (starts > 1).then(|| NodeProblem::new(ProblemKind::CrashLooping, detail()))
    }

    fn count_starts(&mut self, now: HostInstant, starts: Option<u64>) {
        let (Some(starts), before) = (starts, self.starts) else {
            return;
        };
        self.starts = Some(starts);
        // A restarted guard counts from zero.
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

    fn record_progress(&mut self, now: HostInstant, local: &LocalObservation, open: bool) {
        if local.primary.is_some() {
            self.proven_at = now;
            self.before.unproven = Duration::ZERO;
            self.starts_since_proof = 0;
        }
        // The first observation may be old, and a restarted server begins at an earlier position.
        let advances = match (self.replay, local.replay) {
            (Some(before), Some(replay)) => replay > before,
            (None, _) | (_, None) => false,
        };
        self.replay = local.replay.or(self.replay);
        let excused = match local.health {
            ServerHealth::Unproven(failure) => open && failure.is_no_reason_to_move(),
            ServerHealth::Unresponsive | ServerHealth::Recovering | ServerHealth::Writes => false,
        };
        if local.primary.is_some() || advances || excused {
            self.alive_at = now;
            self.before.idle = Duration::ZERO;
        }
    }

    fn release_reason(
        &self,
        now: HostInstant,
        local: &LocalObservation,
        open: bool,
        settings: &AgentConfig,
    ) -> Option<ReleaseReason> {
        let max_restarts_per_minute =
            usize::try_from(settings.max_restarts_per_minute).unwrap_or(usize::MAX);
        let often = self.started_at.len() > max_restarts_per_minute
            || self.starts_since_proof > settings.max_restarts_per_minute;
        if often && matches!(local.server, ServerView::Stopped(_)) {
            return Some(ReleaseReason::CrashLooping);
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
            (ServerView::MayWrite, ServerHealth::Unresponsive)
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
