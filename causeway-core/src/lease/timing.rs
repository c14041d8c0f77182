//! Times of the lease, and the check that they keep two holders apart.

use std::time::Duration;

/// The times of the lease. A holder counts them from when it *sent* the request that was granted, a
/// challenger from the *answer* that first showed the version it waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How often a holder renews.
    pub renew_interval: Duration,
    /// How long one request to the store may take.
    pub request_timeout: Duration,
    /// How often a challenger looks.
    pub poll_interval: Duration,
    /// When guard asks PostgreSQL to stop: clients are cut at once, walsenders drain.
    pub stop_deadline: Duration,
    /// When guard ends PostgreSQL.
    pub kill_deadline: Duration,
    /// How long one version must have stood before a challenger takes over.
    pub lease_duration: Duration,
}

/// What guard may need after a deadline: 0.1 s to wake up (it looks twenty times a second) and 0.5 s
/// to sweep `/proc` and see that nothing is left.
pub const GUARD_LATENCY: Duration = Duration::from_millis(600);

/// How far ahead guard's deadline must lie before it starts or promotes: a promotion takes 0.1 to
/// 0.3 s on an idle host, and ten times that on a struggling one.
pub const MIN_START_HEADROOM: Duration = Duration::from_secs(3);

/// How far two hosts' clocks may differ in rate, in parts per million. Quartz drifts below 100 ppm;
/// the kernel lets NTP correct by 500.
pub const MAX_CLOCK_DRIFT_PPM: u32 = 1000;

impl Default for LeaseTiming {
    /// A lease of 10 s. With renewals at 2 s and requests of 1.5 s, tries at 2.0, 3.5 and 5.0 s
    /// must all fail before the soft deadline; 8.8 s at a clock 1000 ppm slow is 8.81 s, and 10 s at
    /// one as fast is 9.99 s, so 1.18 s are left for guard's 0.6 s.
    fn default() -> Self {
        Self {
            renew_interval: Duration::from_secs(2),
            request_timeout: Duration::from_millis(1500),
            poll_interval: Duration::from_millis(500),
            stop_deadline: Duration::from_millis(7300),
            kill_deadline: Duration::from_millis(8800),
            lease_duration: Duration::from_secs(10),
        }
    }
}

/// Times that contradict each other, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// One lost renewal would end the lease.
    #[error(
        "`stop-deadline-secs` is {stop_deadline:?}, and must be more than {needed:?}, which is `renew-interval-secs` plus twice \
         `request-timeout-secs`: a lease must survive two lost renewals"
    )]
    TooFewTries {
        /// The soft deadline.
        stop_deadline: Duration,
        /// What it must be more than.
        needed: Duration,
    },
    /// A node could be promoted before the old primary has ended.
    #[error(
        "`lease-duration-secs` is {lease_duration:?}, and must be at least {needed:?}: `kill-deadline-secs`, 0.6 s for guard to end \
         PostgreSQL, and clocks that differ by 1000 ppm"
    )]
    LeaseDurationTooShort {
        /// The term.
        lease_duration: Duration,
        /// The least it may be.
        needed: Duration,
    },
    /// The two deadlines are in the wrong order.
    #[error(
        "`kill-deadline-secs` is {kill_deadline:?}, and must be later than `stop-deadline-secs`, {stop_deadline:?}"
    )]
    NoTimeToDrain {
        /// The soft deadline.
        stop_deadline: Duration,
        /// The hard deadline.
        kill_deadline: Duration,
    },
    /// Guard would refuse every promotion.
    #[error(
        "`stop-deadline-secs` is {stop_deadline:?}, and must be more than {needed:?}: `request-timeout-secs` and the 3 s that \
         guard wants ahead of it before it promotes"
    )]
    NoHeadroom {
        /// The soft deadline.
        stop_deadline: Duration,
        /// What it must be more than.
        needed: Duration,
    },
    /// A time is zero.
    #[error("`{0}` must be more than zero")]
    Zero(&'static str),
}

impl LeaseTiming {
    /// Checks that the times cannot make two nodes overlap, nor a healthy one stop.
    ///
    /// # Errors
    ///
    /// The first contradiction, those that endanger the data before those that endanger service.
    pub fn checked(self) -> Result<Self, TimingError> {
        let times = [
            ("renew-interval-secs", self.renew_interval),
            ("request-timeout-secs", self.request_timeout),
            ("poll-interval-secs", self.poll_interval),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(TimingError::Zero(name));
        }

        let slow = 1.0 + f64::from(MAX_CLOCK_DRIFT_PPM) / 1e6;
        let needed = (self.kill_deadline.mul_f64(slow) + GUARD_LATENCY).mul_f64(slow);
        if self.lease_duration < needed {
            return Err(TimingError::LeaseDurationTooShort {
                lease_duration: self.lease_duration,
                needed,
            });
        }

        let (stop_deadline, kill_deadline) = (self.stop_deadline, self.kill_deadline);
        if kill_deadline <= stop_deadline {
            return Err(TimingError::NoTimeToDrain {
                stop_deadline,
                kill_deadline,
            });
        }

        let needed = self.renew_interval + 2 * self.request_timeout;
        if stop_deadline <= needed {
            return Err(TimingError::TooFewTries {
                stop_deadline,
                needed,
            });
        }

        let needed = self.request_timeout + MIN_START_HEADROOM;
        if stop_deadline <= needed {
            return Err(TimingError::NoHeadroom {
                stop_deadline,
                needed,
            });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_default_times_are_consistent() {
        assert_eq!(LeaseTiming::default().checked(), Ok(LeaseTiming::default()));
    }

    proptest! {
        /// However the times are chosen, those that are accepted keep two holders apart.
        #[test]
        fn what_is_accepted_leaves_guard_its_time(
            hard in 1_u64..60_000, soft in 1_u64..60_000, term in 1_u64..120_000,
        ) {
            let timing =
                LeaseTiming { kill_deadline: millis(hard), stop_deadline: millis(soft), lease_duration: millis(term), ..LeaseTiming::default() };
            if timing.checked().is_ok() {
                let last_write = timing.kill_deadline.as_secs_f64() * 1.001 + 0.6;
                let first_write = timing.lease_duration.as_secs_f64() / 1.001;
                prop_assert!(last_write <= first_write + 1e-9);
                prop_assert!(timing.stop_deadline < timing.kill_deadline);
            }
        }
    }

    #[test]
    fn says_which_times_contradict_each_other() {
        let short = LeaseTiming {
            lease_duration: millis(9000),
            ..LeaseTiming::default()
        };
        let said = short.checked().unwrap_err().to_string();
        assert!(said.contains("`lease-duration-secs` is 9s"), "{said}");

        let hasty = LeaseTiming {
            stop_deadline: millis(5000),
            ..LeaseTiming::default()
        };
        assert!(matches!(
            hasty.checked(),
            Err(TimingError::TooFewTries { .. })
        ));
    }
}
