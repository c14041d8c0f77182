//! What guard does and refuses: the process that alone starts, promotes and ends PostgreSQL.
//!
//! Guard knows one thing, a deadline, and does one thing, to end a PostgreSQL that could accept
//! writes past it. It asks nobody. So a frozen, dead or confused agent cannot keep a primary alive.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::{GUARD_LATENCY, MIN_START_HEADROOM};
use crate::{Epoch, HostInstant};

/// Until when PostgreSQL may accept writes, in which epoch. Both moments are absolute, and were
/// counted from when the renewal was *sent*, so a feed that arrives late names a deadline long past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardDeadline {
    /// The epoch of the lease.
    pub epoch: Epoch,
    /// When the renewal was sent.
    pub requested_at: HostInstant,
    /// When PostgreSQL is asked to stop.
    pub stop_at: HostInstant,
    /// When it is ended.
    pub kill_at: HostInstant,
}

/// The state of PostgreSQL on this host, as guard sees it without asking PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostgresProcess {
    /// No process of it is left: the last sweep found none, and none was started since.
    Stopped,
    /// Guard's own child runs and can only follow: `standby.signal` is there, the control file says
    /// recovery, and guard has not promoted it.
    Standby,
    /// Guard's own child runs and could accept writes, now or in a moment.
    MayWrite,
    /// A postmaster that is not guard's child runs on the data directory.
    Unmanaged,
}

/// What has to be done to PostgreSQL in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardAction {
    /// Nothing.
    None,
    /// SIGINT to the postmaster: clients are cut at once, walsenders drain.
    FastShutdown,
    /// SIGKILL to the postmaster, then to every process on the data directory, until none is left.
    Kill,
}

/// Why guard does not start or promote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadlineError {
    /// It has not been told of a lease.
    #[error("the guard has not received a deadline")]
    NotArmed,
    /// The order is of another epoch than the deadline.
    #[error("the command is for epoch {ordered}, the deadline for epoch {armed}")]
    OtherEpoch {
        /// The order's.
        ordered: Epoch,
        /// The deadline's.
        armed: Epoch,
    },
    /// The deadline is nearer than three seconds.
    #[error("the stop deadline is {0:?} away, and at least 3 s are required")]
    TooLate(Duration),
    /// The feed is of an epoch that is over.
    #[error("the deadline is for epoch {fed}, older than epoch {armed} received before")]
    PastEpoch {
        /// The feed's.
        fed: Epoch,
        /// The deadline's.
        armed: Epoch,
    },
}

/// A wall clock that ran ahead of the boot clock by more than this shows that the machine was paused
/// unseen. NTP steps of a healthy host are far below it.
const MAX_CLOCK_JUMP: Duration = Duration::from_secs(1);

/// How soon after such a jump a renewal must have been sent and granted.
const RENEWAL_TIMEOUT_AFTER_JUMP: Duration = Duration::from_secs(1);

/// How long the supervisor may wait for a guard whose PostgreSQL cannot write: longer than any stall of a
/// busy host, and short enough that a frozen guard comes back without a person.
const IDLE_SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(30);

/// Guard's memory. It is not kept across a restart: a new guard is not armed, and begins by ending
/// whatever it finds.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    deadline: Option<GuardDeadline>,
    clocks: Option<(HostInstant, Duration)>,
    jumped_at: Option<HostInstant>,
}

impl Guard {
    /// Returns a guard that is not armed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the deadline that was fed last.
    pub const fn deadline(&self) -> Option<GuardDeadline> {
        self.deadline
    }

    /// Returns when a wall clock jump was seen that no renewal has answered yet.
    pub const fn wants_renewal_since(&self) -> Option<HostInstant> {
        self.jumped_at
    }

    /// Takes in a deadline. Within an epoch deadlines only move forward.
    ///
    /// # Errors
    ///
    /// [`DeadlineError::PastEpoch`] for a deadline of an epoch below the one that was fed before.
    pub fn accept_deadline(&mut self, fed: GuardDeadline) -> Result<(), DeadlineError> {
        if let Some(held) = self.deadline {
            if fed.epoch < held.epoch {
                return Err(DeadlineError::PastEpoch {
                    fed: fed.epoch,
                    armed: held.epoch,
                });
            }
            if fed.epoch == held.epoch
                && held.requested_at.has_passed_on_any_clock(fed.requested_at)
            {
                return Ok(());
            }
        }
        self.deadline = Some(fed);
        if self
            .jumped_at
            .is_some_and(|jumped_at| fed.requested_at.has_passed_on_any_clock(jumped_at))
        {
            self.jumped_at = None;
        }
        Ok(())
    }

    /// Checks that PostgreSQL may be started as a primary, or promoted, at `now`. The caller does it
    /// in the same turn of its loop, so that no freeze can come between the check and the act.
    ///
    /// # Errors
    ///
    /// The [`DeadlineError`].
    pub fn check_start_allowed(&self, now: HostInstant, epoch: Epoch) -> Result<(), DeadlineError> {
        let deadline = self.armed_for(epoch)?;
        let left = self.time_to_stop(deadline, now);
        if left < MIN_START_HEADROOM {
            return Err(DeadlineError::TooLate(left));
        }
        Ok(())
    }

    /// Checks that the commits of a running primary may be acknowledged at `now`.
    ///
    /// # Errors
    ///
    /// The [`DeadlineError`].
    pub fn check_commits_allowed(
        &self,
        now: HostInstant,
        epoch: Epoch,
    ) -> Result<(), DeadlineError> {
        let deadline = self.armed_for(epoch)?;
        let left = self.time_to_stop(deadline, now);
        if left.is_zero() {
            return Err(DeadlineError::TooLate(left));
        }
        Ok(())
    }

    /// Returns how long the supervisor may wait for guard's next message before it ends guard and
    /// PostgreSQL. A guard that is frozen ends nothing, so while PostgreSQL may write the supervisor has
    /// the same deadline as guard, and the same time after it.
    pub fn supervisor_limit(&self, now: HostInstant, server: PostgresProcess) -> Duration {
        match (server, self.deadline) {
            (PostgresProcess::MayWrite, Some(deadline)) => {
                self.time_to_kill(deadline, now) + GUARD_LATENCY
            }
            (PostgresProcess::MayWrite | PostgresProcess::Unmanaged, _) => GUARD_LATENCY,
            (PostgresProcess::Stopped | PostgresProcess::Standby, _) => IDLE_SUPERVISOR_TIMEOUT,
        }
    }

    fn armed_for(&self, epoch: Epoch) -> Result<GuardDeadline, DeadlineError> {
        let deadline = self.deadline.ok_or(DeadlineError::NotArmed)?;
        if deadline.epoch != epoch {
            return Err(DeadlineError::OtherEpoch {
                ordered: epoch,
                armed: deadline.epoch,
            });
        }
        Ok(deadline)
    }

    /// Says what to do about PostgreSQL at `now`, when the wall clock shows `wall`. To be asked at
    /// least ten times a second.
    pub fn tick(
        &mut self,
        now: HostInstant,
        wall: Duration,
        server: PostgresProcess,
    ) -> GuardAction {
        self.watch_clocks(now, wall);
        match server {
            PostgresProcess::Stopped | PostgresProcess::Standby => return GuardAction::None,
            PostgresProcess::Unmanaged => return GuardAction::Kill,
            PostgresProcess::MayWrite => {}
        }
        let Some(deadline) = self.deadline else {
            return GuardAction::Kill;
        };
        if self.time_to_kill(deadline, now).is_zero() {
            return GuardAction::Kill;
        }
        if self.time_to_stop(deadline, now).is_zero() {
            return GuardAction::FastShutdown;
        }
        GuardAction::None
    }

    fn time_to_stop(&self, deadline: GuardDeadline, now: HostInstant) -> Duration {
        let after_jump = self
            .jumped_at
            .map_or(Duration::MAX, |jumped_at| now.time_left(jumped_at + RENEWAL_TIMEOUT_AFTER_JUMP));
        now.time_left(deadline.stop_at).min(after_jump)
    }

    fn time_to_kill(&self, deadline: GuardDeadline, now: HostInstant) -> Duration {
        let to_drain = deadline.kill_at.elapsed_upper_bound(deadline.stop_at);
        let after_jump = self.jumped_at.map_or(Duration::MAX, |jumped_at| {
            now.time_left(jumped_at + RENEWAL_TIMEOUT_AFTER_JUMP + to_drain)
        });
        now.time_left(deadline.kill_at).min(after_jump)
    }

    fn watch_clocks(&mut self, now: HostInstant, wall: Duration) {
        if let Some((then, wall_then)) = self.clocks.replace((now, wall)) {
            let by_wall = wall.saturating_sub(wall_then);
            if by_wall > now.elapsed_upper_bound(then) + MAX_CLOCK_JUMP {
                self.jumped_at = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> HostInstant {
        HostInstant::at(Duration::from_secs(secs))
    }

    fn deadline(epoch: u64, requested_at: u64) -> GuardDeadline {
        GuardDeadline {
            epoch: Epoch::new(epoch),
            requested_at: at(requested_at),
            stop_at: at(requested_at + 7),
            kill_at: at(requested_at + 9),
        }
    }

    fn armed() -> Guard {
        let mut guard = Guard::new();
        guard.accept_deadline(deadline(3, 100)).unwrap();
        guard
    }

    #[test]
    fn ends_a_writable_server_at_the_deadline_and_leaves_a_standby_alone() {
        let mut guard = armed();
        let wall = Duration::from_secs;

        assert_eq!(
            guard.tick(at(101), wall(1), PostgresProcess::MayWrite),
            GuardAction::None
        );
        assert_eq!(
            guard.tick(at(107), wall(7), PostgresProcess::MayWrite),
            GuardAction::FastShutdown
        );
        assert_eq!(
            guard.tick(at(109), wall(9), PostgresProcess::MayWrite),
            GuardAction::Kill
        );
        assert_eq!(
            guard.tick(at(200), wall(100), PostgresProcess::Standby),
            GuardAction::None
        );
        assert_eq!(
            Guard::new().tick(at(1), wall(1), PostgresProcess::MayWrite),
            GuardAction::Kill
        );
    }

    #[test]
    fn a_foreign_postmaster_is_killed_whatever_the_deadline() {
        assert_eq!(
            armed().tick(at(101), Duration::ZERO, PostgresProcess::Unmanaged),
            GuardAction::Kill
        );
    }

    #[test]
    fn promotes_only_in_its_epoch_and_with_three_seconds_ahead() {
        let guard = armed();
        assert_eq!(guard.check_start_allowed(at(104), Epoch::new(3)), Ok(()));
        assert!(matches!(
            guard.check_start_allowed(at(105), Epoch::new(3)),
            Err(DeadlineError::TooLate(_))
        ));
        assert!(matches!(
            guard.check_start_allowed(at(101), Epoch::new(4)),
            Err(DeadlineError::OtherEpoch { .. })
        ));
        assert_eq!(
            Guard::new().check_start_allowed(at(1), Epoch::new(3)),
            Err(DeadlineError::NotArmed)
        );
    }

    #[test]
    fn supervisor_limit_ends_a_frozen_guard_within_the_lease() {
        let guard = armed();
        let limit = |secs, server| guard.supervisor_limit(at(secs), server);

        // The kill deadline is at 109, and 0.6 s later nothing may be left.
        assert_eq!(
            limit(100, PostgresProcess::MayWrite),
            Duration::from_millis(9_600)
        );
        assert_eq!(
            limit(108, PostgresProcess::MayWrite),
            Duration::from_millis(1_600)
        );
        assert_eq!(
            limit(120, PostgresProcess::MayWrite),
            Duration::from_millis(600)
        );
        assert_eq!(
            limit(120, PostgresProcess::Standby),
            Duration::from_secs(30)
        );
        assert_eq!(
            Guard::new().supervisor_limit(at(1), PostgresProcess::MayWrite),
            Duration::from_millis(600)
        );
    }

    #[test]
    fn commits_are_acknowledged_in_their_epoch_until_the_stop_deadline() {
        let guard = armed();
        assert_eq!(guard.check_commits_allowed(at(106), Epoch::new(3)), Ok(()));
        assert!(guard.check_commits_allowed(at(107), Epoch::new(3)).is_err());
        assert!(guard.check_commits_allowed(at(101), Epoch::new(2)).is_err());
    }

    #[test]
    fn a_deadline_never_moves_back() {
        let mut guard = armed();
        guard.accept_deadline(deadline(3, 90)).unwrap();
        assert_eq!(guard.deadline(), Some(deadline(3, 100)));
        assert!(guard.accept_deadline(deadline(2, 200)).is_err());
        assert_eq!(guard.deadline(), Some(deadline(3, 100)));
    }

    #[test]
    fn after_an_unseen_pause_only_a_new_renewal_keeps_the_server() {
        let wall = Duration::from_secs;
        let mut guard = armed();
        assert_eq!(
            guard.tick(at(101), wall(1), PostgresProcess::MayWrite),
            GuardAction::None
        );
        // The wall clock is two hours on, the boot clock one tenth of a second.
        assert_eq!(
            guard.tick(at(101), wall(7201), PostgresProcess::MayWrite),
            GuardAction::None
        );
        assert_eq!(guard.wants_renewal_since(), Some(at(101)));
        assert_eq!(
            guard.tick(at(102), wall(7202), PostgresProcess::MayWrite),
            GuardAction::FastShutdown
        );

        // A renewal sent before the jump does not answer it, one sent after it does.
        guard.accept_deadline(deadline(3, 100)).unwrap();
        assert_eq!(
            guard.tick(at(102), wall(7202), PostgresProcess::MayWrite),
            GuardAction::FastShutdown
        );
        guard.accept_deadline(deadline(3, 102)).unwrap();
        assert_eq!(
            guard.tick(at(103), wall(7203), PostgresProcess::MayWrite),
            GuardAction::None
        );
    }
}
