//! Replay lag of a standby in seconds.

use std::time::Duration;

use crate::HostInstant;
use crate::failover::observation::ReplayProgress;

/// Answer of a standby about its replay.
#[derive(Clone, Copy, Debug)]
pub struct StandbyReplay {
    /// Received and replayed WAL positions.
    pub progress: ReplayProgress,
    /// Whether it streams from its primary.
    pub streaming: bool,
    /// Commit time of the last replayed transaction since 1970, by the clock of the primary that committed it; none if
    /// the server has replayed none since its start.
    pub replayed_commit_at: Option<Duration>,
}

/// Replay of this node's standby so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayLag {
    /// First observation of the standby.
    standby_since: Option<HostInstant>,
    /// Last observation without WAL to replay.
    caught_up_at: Option<HostInstant>,
}

impl ReplayLag {
    /// Records an observation, none if the node is no standby, and returns the age of the newest replayed commit, zero
    /// while the standby streams and has replayed everything.
    ///
    /// The age compares the clocks of two hosts, so a step of the wall clock would appear as lag: since the standby had
    /// last caught up, the lag cannot have grown by more than the time since then.
    pub fn observe(
        &mut self,
        now: HostInstant,
        wall: Duration,
        standby: Option<StandbyReplay>,
    ) -> Duration {
        let Some(standby) = standby else {
            *self = Self::default();
            return Duration::ZERO;
        };
        let standby_since = *self.standby_since.get_or_insert(now);
        if standby.streaming && standby.progress.received_lsn == standby.progress.replayed_lsn {
            self.caught_up_at = Some(now);
            return Duration::ZERO;
        }
        let bound = self
            .caught_up_at
            .map(|caught_up_at| now.elapsed_upper_bound(caught_up_at));
        let age = standby
            .replayed_commit_at
            .map(|committed_at| wall.saturating_sub(committed_at));
        match (age, bound) {
            (Some(age), Some(bound)) => age.min(bound),
            (Some(lag), None) | (None, Some(lag)) => lag,
            (None, None) => now.elapsed_upper_bound(standby_since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lsn, Timeline};

    const WALL: u64 = 1_000_000;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn standby(received: u64, replayed: u64, committed_at: Option<u64>) -> StandbyReplay {
        StandbyReplay {
            progress: ReplayProgress {
                timeline: Timeline::FIRST,
                received_lsn: Lsn::new(received),
                replayed_lsn: Lsn::new(replayed),
            },
            streaming: true,
            replayed_commit_at: committed_at.map(Duration::from_secs),
        }
    }

    fn at(lag: &mut ReplayLag, time: u64, standby: StandbyReplay) -> Duration {
        let now = HostInstant::at(secs(time));
        lag.observe(now, secs(WALL + time), Some(standby))
    }

    #[test]
    fn idle_primary_then_no_lag_however_old_the_commit() {
        let mut lag = ReplayLag::default();
        let idle = standby(100, 100, Some(WALL - 3_600));
        assert_eq!(at(&mut lag, 0, idle), Duration::ZERO);
        assert_eq!(at(&mut lag, 600, idle), Duration::ZERO);
    }

    #[test]
    fn wal_waits_for_replay_then_age_of_newest_replayed_commit() {
        let mut lag = ReplayLag::default();
        assert_eq!(
            at(&mut lag, 0, standby(200, 100, Some(WALL - 40))),
            secs(40)
        );
        assert_eq!(
            at(&mut lag, 10, standby(300, 150, Some(WALL - 35))),
            secs(45)
        );
        assert_eq!(
            at(&mut lag, 20, standby(300, 300, Some(WALL + 19))),
            Duration::ZERO
        );
    }

    #[test]
    fn not_streaming_then_lag_grows_although_everything_received_is_replayed() {
        let mut lag = ReplayLag::default();
        assert_eq!(
            at(&mut lag, 0, standby(100, 100, Some(WALL))),
            Duration::ZERO
        );
        let cut_off = StandbyReplay {
            streaming: false,
            ..standby(100, 100, Some(WALL))
        };
        assert_eq!(at(&mut lag, 30, cut_off), secs(30));
    }

    #[test]
    fn clock_stepped_then_lag_bounded_by_time_since_caught_up() {
        let mut lag = ReplayLag::default();
        at(&mut lag, 0, standby(100, 100, Some(WALL)));
        let behind = standby(200, 100, Some(WALL));
        let stepped = |lag: &mut ReplayLag, wall| {
            lag.observe(HostInstant::at(secs(5)), secs(wall), Some(behind))
        };
        assert_eq!(stepped(&mut lag, WALL + 7_205), secs(5));
        assert_eq!(stepped(&mut lag, WALL - 7_195), Duration::ZERO);
    }

    #[test]
    fn nothing_replayed_yet_then_time_since_first_observation() {
        let mut lag = ReplayLag::default();
        let never_streamed = StandbyReplay {
            streaming: false,
            ..standby(100, 100, None)
        };
        assert_eq!(at(&mut lag, 0, never_streamed), Duration::ZERO);
        assert_eq!(at(&mut lag, 50, never_streamed), secs(50));
    }

    #[test]
    fn agent_restarted_then_lag_not_reset() {
        let mut restarted = ReplayLag::default();
        assert_eq!(
            at(&mut restarted, 0, standby(200, 100, Some(WALL - 300))),
            secs(300)
        );
    }

    #[test]
    fn primary_in_between_then_earlier_catch_up_is_no_bound() {
        let mut lag = ReplayLag::default();
        at(&mut lag, 0, standby(100, 100, Some(WALL)));
        assert_eq!(
            lag.observe(HostInstant::at(secs(1)), secs(WALL + 1), None),
            Duration::ZERO
        );
        // Rewound to a fork an hour ago.
        assert_eq!(
            at(&mut lag, 2, standby(200, 100, Some(WALL - 3_598))),
            secs(3_600)
        );
    }
}
