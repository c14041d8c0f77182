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
mod tests;
