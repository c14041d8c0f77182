//! Whether the holder's PostgreSQL does its work, and for how long it may not.
//!
//! A proven write is the only proof of service. Everything else that a server does (it starts, replays
//! WAL, answers questions) is a sign of life, which buys it time and no more: a holder without either
//! gives the lease up, whatever the reason is.

use std::time::Duration;

use super::{Look, Reason, ServerHealth, Settings};
use crate::Moment;
use crate::failover::observation::ServerView;

/// For how long starts are counted against a server that serves in between.
const START_WINDOW: Duration = Duration::from_mins(1);

/// For how long a holder renews without seeing its guard. A silent guard is killed after 5 s of
/// unanswered messages and is started again within 1 s; one that stays away has taken PostgreSQL with it.
pub(super) const GUARD_TIMEOUT: Duration = Duration::from_secs(8);

/// What is known of the service of one holding.
#[derive(Clone, Debug)]
pub(super) struct ServiceWatch {
    /// When a write was proved last, or the lease was taken.
    proven_at: Moment,
    /// When the server last showed that it advances.
    alive_at: Moment,
    replay: Option<u64>,
    starts: Option<u64>,
    started_at: Vec<Moment>,
    starts_since_proof: u32,
    unguarded_since: Option<Moment>,
}

impl ServiceWatch {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            proven_at: now,
            alive_at: now,
            replay: None,
            starts: None,
            started_at: Vec::new(),
            starts_since_proof: 0,
            unguarded_since: None,
        }
    }

    /// Records what was seen, and returns why the lease has to be given up, if it has.
    pub(super) fn observe(
        &mut self,
        now: Moment,
        look: &Look,
        settings: &Settings,
    ) -> Option<Reason> {
        if look.server == ServerView::Unguarded {
            // Nothing shows whether PostgreSQL has ended, so nothing can be released: the lease expires.
            self.unguarded_since.get_or_insert(now);
            return None;
        }
        self.unguarded_since = None;
        self.count_starts(now, look.starts);
        self.note_life(now, look);
        self.reason_to_stop(now, look, settings)
    }

    /// Says whether guard has been away for so long that the lease is left to expire.
    pub(super) fn has_no_guard(&self, now: Moment) -> bool {
        self.unguarded_since
            .is_some_and(|since| now.longest_since(since) >= GUARD_TIMEOUT)
    }

    /// Returns for how long no write has been proved.
    pub(super) fn unproven(&self, now: Moment) -> Duration {
        now.longest_since(self.proven_at)
    }

    /// Returns how often PostgreSQL was started since it last proved a write.
    pub(super) const fn starts_since_proof(&self) -> u32 {
        self.starts_since_proof
    }

    fn count_starts(&mut self, now: Moment, starts: Option<u64>) {
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
            .retain(|at| now.shortest_since(*at) < START_WINDOW);
        for _ in 0..more {
            self.started_at.push(now);
            self.starts_since_proof = self.starts_since_proof.saturating_add(1);
        }
    }

    fn note_life(&mut self, now: Moment, look: &Look) {
        if look.primary.is_some() {
            (self.proven_at, self.alive_at) = (now, now);
            self.starts_since_proof = 0;
        }
        if look.replay.is_some() && look.replay != self.replay {
            self.replay = look.replay;
            self.alive_at = now;
        }
        if let ServerHealth::Unproven(failure) = look.health
            && failure.is_no_reason_to_move()
        {
            self.alive_at = now;
        }
    }

    fn reason_to_stop(&self, now: Moment, look: &Look, settings: &Settings) -> Option<Reason> {
        let restarts = usize::try_from(settings.restarts).unwrap_or(usize::MAX);
        let often = self.started_at.len() > restarts || self.starts_since_proof > settings.restarts;
        if often && matches!(look.server, ServerView::Ended(_)) {
            return Some(Reason::KeepsEnding);
        }
        let quiet = now.shortest_since(self.alive_at);
        match (look.server, look.health) {
            (_, ServerHealth::Unproven(failure)) if failure.is_no_reason_to_move() => None,
            (ServerView::MayWrite, ServerHealth::Unproven(failure)) => {
                let unproven = now.shortest_since(self.proven_at);
                (unproven >= settings.stall_after).then_some(Reason::CannotWrite(failure))
            }
            (ServerView::MayWrite, ServerHealth::Silent) if quiet >= settings.hang_after => {
                Some(Reason::AnswersNothing)
            }
            _ => (quiet >= settings.start_within).then_some(Reason::NotUpInTime),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, look, settings, up};
    use super::*;
    use crate::agent::WriteFailure;
    use crate::failover::observation::Directory;

    /// Observes what `seen` returns for each tenth of a second, and returns when and why the lease would
    /// be given up within two minutes.
    fn gives_up(seen: impl Fn(u64) -> Look) -> Option<(u64, Reason)> {
        let mut watch = ServiceWatch::new(at(0));
        (0..1_200).find_map(|tenth| {
            let millis = tenth * 100;
            let reason = watch.observe(at(millis), &seen(millis), &settings())?;
            Some((millis, reason))
        })
    }

    fn health(health: ServerHealth) -> Look {
        Look {
            health,
            starts: Some(1),
            ..look(ServerView::MayWrite)
        }
    }

    #[test]
    fn server_that_ends_at_each_start_then_keeps_ending() {
        let ended = look(ServerView::Ended(Directory::Primary));
        let found = gives_up(|millis| Look {
            starts: Some(millis / 400),
            ..ended.clone()
        });
        assert_eq!(found, Some((1_600, Reason::KeepsEnding)));
    }

    #[test]
    fn server_that_recovers_and_ends_slowly_then_keeps_ending() {
        // It replays the same WAL for 19 s each time, and then meets what it cannot replay.
        let found = gives_up(|millis| {
            let server = if millis % 20_000 < 19_000 {
                ServerView::MayWrite
            } else {
                ServerView::Ended(Directory::Primary)
            };
            Look {
                starts: Some(1 + millis / 20_000),
                replay: Some(millis % 20_000),
                health: ServerHealth::Recovering,
                ..look(server)
            }
        });
        assert!(matches!(found, Some((_, Reason::KeepsEnding))), "{found:?}");
    }

    #[test]
    fn directory_that_cannot_be_started_then_not_up_in_time() {
        let found = gives_up(|_| look(ServerView::Ended(Directory::Empty)));
        assert_eq!(found, Some((60_000, Reason::NotUpInTime)));
    }

    #[test]
    fn replay_that_advances_then_no_limit() {
        let found = gives_up(|millis| Look {
            replay: Some(millis / 50_000),
            ..health(ServerHealth::Recovering)
        });
        assert_eq!(found, None);
    }

    #[test]
    fn replay_that_stands_still_then_not_up_in_time() {
        let found = gives_up(|_| Look {
            replay: Some(7),
            ..health(ServerHealth::Recovering)
        });
        assert_eq!(found, Some((60_000, Reason::NotUpInTime)));
    }

    #[test]
    fn silent_server_then_answers_nothing() {
        let found = gives_up(|_| health(ServerHealth::Silent));
        assert_eq!(found, Some((5_000, Reason::AnswersNothing)));
    }

    #[test]
    fn stalled_write_then_kept_longer_than_a_silent_server() {
        let stalled = WriteFailure::Stalled;
        let found = gives_up(|_| health(ServerHealth::Unproven(stalled)));
        assert_eq!(found, Some((20_000, Reason::CannotWrite(stalled))));
    }

    #[test]
    fn connections_or_transaction_ids_used_up_then_kept() {
        for failure in [WriteFailure::NoConnectionLeft, WriteFailure::XidLimit] {
            let found = gives_up(|_| health(ServerHealth::Unproven(failure)));
            assert_eq!(found, None, "{failure}");
        }
    }

    #[test]
    fn server_that_proves_writes_then_kept() {
        assert_eq!(gives_up(|_| up()), None);
    }

    #[test]
    fn guard_away_then_nothing_to_release_and_no_renewal() {
        let mut watch = ServiceWatch::new(at(0));
        let unguarded = look(ServerView::Unguarded);
        for millis in (0..60_000).step_by(100) {
            let reason = watch.observe(at(millis), &unguarded, &settings());
            assert_eq!(reason, None);
            assert_eq!(watch.has_no_guard(at(millis)), millis >= 8_000, "{millis}");
        }
        watch.observe(at(60_000), &up(), &settings());
        assert!(!watch.has_no_guard(at(60_000)));
    }
}
