//! Rules of guard, the process that supervises PostgreSQL and fences it (a software watchdog).
//!
//! Guard has a deadline, and ends a PostgreSQL that could accept writes past it. It depends on no other
//! process, so a frozen, crashed or faulty agent cannot keep a primary running.

mod fencing_watch;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::fencing_watch::FencingWatch;
use crate::lease::{GUARD_LATENCY, MIN_START_HEADROOM};
use crate::{Epoch, HostInstant};

/// Deadline until which PostgreSQL may accept writes in an epoch. Its instants are absolute and count from
/// *sending* the renewal, so a deadline that arrives late has already passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardDeadline {
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Time at which the renewal was sent.
    pub requested_at: HostInstant,
    /// Stop deadline: SIGINT (fast shutdown).
    pub stop_at: HostInstant,
    /// Kill deadline: SIGKILL.
    pub kill_at: HostInstant,
}

/// State of PostgreSQL on this host, which guard derives without connecting to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostgresProcess {
    /// No process of it is left: the last sweep found none, and guard has started none since.
    Stopped,
    /// Guard's child runs and can only be a standby: `standby.signal` exists, the control file reports
    /// recovery, and guard has not promoted it.
    Standby,
    /// Guard's child runs and accepts writes, or may soon.
    MayWrite,
    /// A postmaster that is not guard's child runs on the data directory.
    Unmanaged,
}

/// Action on PostgreSQL in one iteration of guard's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardAction {
    /// Nothing.
    None,
    /// SIGINT to the postmaster: clients are disconnected at once, walsenders drain.
    FastShutdown,
    /// SIGKILL to the postmaster, then to every process on the data directory, until none is left.
    Kill,
}

/// Reason why guard rejects a deadline, a start or a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadlineError {
    /// It has received no deadline.
    #[error("the guard has not received a deadline")]
    NotArmed,
    /// The command is for another epoch than the deadline.
    #[error("the command is for epoch {ordered}, the deadline for epoch {armed}")]
    OtherEpoch {
        /// Epoch of the command.
        ordered: Epoch,
        /// Epoch of the deadline.
        armed: Epoch,
    },
    /// The stop deadline is less than three seconds away.
    #[error("the stop deadline is {0:?} away, and at least 3 s are required")]
    TooLate(Duration),
    /// The deadline is for an earlier epoch.
    #[error("the deadline is for epoch {fed}, older than epoch {armed} received before")]
    PastEpoch {
        /// Epoch of the new deadline.
        fed: Epoch,
        /// Epoch of the deadline.
        armed: Epoch,
    },
}

/// Difference by which the wall clock may run ahead of the boot clock: more means that the host was paused
/// without notice. NTP steps of a healthy host are far below it.
const MAX_CLOCK_JUMP: Duration = Duration::from_secs(1);

/// Time after such a jump within which a renewal must have been sent and granted.
const RENEWAL_TIMEOUT_AFTER_JUMP: Duration = Duration::from_secs(1);

/// Time for which the supervisor waits for a guard whose PostgreSQL cannot write: longer than any stall of a
/// busy host, and short enough to restart a frozen guard without an operator.
const IDLE_SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(30);

/// State of guard. It does not survive a restart: a new guard is not armed, and begins by ending every
/// PostgreSQL process that it finds.
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

    /// Returns the last accepted deadline.
    pub const fn deadline(&self) -> Option<GuardDeadline> {
        self.deadline
    }

    /// Returns the time of a wall-clock jump without a renewal since.
    pub const fn wants_renewal_since(&self) -> Option<HostInstant> {
        self.jumped_at
    }

    /// Accepts a deadline. Within an epoch, deadlines only move forward.
    ///
    /// # Errors
    ///
    /// [`DeadlineError::PastEpoch`] for a deadline of an epoch below the accepted one.
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

    /// Checks that PostgreSQL may be started as a primary, or promoted, at `now`. The caller acts in the same
    /// iteration of its loop, so that no freeze can come between check and action.
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

    /// Returns the time for which the supervisor waits for guard's next message before it ends guard and
    /// PostgreSQL. A frozen guard ends no process, so while PostgreSQL may write the supervisor has guard's
    /// deadline, and the same time after it.
    pub fn supervisor_limit(&self, now: HostInstant, server: PostgresProcess) -> Duration {
        match (server, self.deadline) {
            (PostgresProcess::MayWrite, Some(deadline)) => self
                .time_to_kill(deadline, now)
                .saturating_add(GUARD_LATENCY),
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

    /// Returns the action on PostgreSQL at `now`, with the wall clock at `wall`. The caller calls it at least
    /// ten times a second.
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
        let after_jump = self.jumped_at.map_or(Duration::MAX, |jumped_at| {
            now.time_left(jumped_at + RENEWAL_TIMEOUT_AFTER_JUMP)
        });
        now.time_left(deadline.stop_at).min(after_jump)
    }

    fn time_to_kill(&self, deadline: GuardDeadline, now: HostInstant) -> Duration {
        let to_drain = deadline.kill_at.elapsed_upper_bound(deadline.stop_at);
        let after_jump = self.jumped_at.map_or(Duration::MAX, |jumped_at| {
            now.time_left(jumped_at + RENEWAL_TIMEOUT_AFTER_JUMP.saturating_add(to_drain))
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
mod tests;
