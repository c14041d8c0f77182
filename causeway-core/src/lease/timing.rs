//! Times of the lease, and the check that they keep two holders apart.

use std::time::Duration;

/// Times of the lease. A holder counts them from *sending* the request that was granted, a candidate from the
/// *response* that first returned the version it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// Interval at which a holder renews.
    pub renew_interval: Duration,
    /// Timeout of one request to the store.
    pub request_timeout: Duration,
    /// Interval at which a candidate reads the lease.
    pub poll_interval: Duration,
    /// Time after which guard sends SIGINT to PostgreSQL: clients are disconnected at once, walsenders drain.
    pub stop_deadline: Duration,
    /// Time after which guard sends SIGKILL to PostgreSQL.
    pub kill_deadline: Duration,
    /// Time for which one version must have been unchanged before a candidate takes over.
    pub lease_duration: Duration,
}

/// Time that guard may need after a deadline: 0.1 s to wake up (it checks twenty times a second) and 0.5 s to
/// sweep `/proc` until no process is left.
pub const GUARD_LATENCY: Duration = Duration::from_millis(600);

/// Minimum time to guard's stop deadline for a start or a promotion: a promotion takes 0.1 to 0.3 s on an idle
/// host, and ten times that on an overloaded one.
pub const MIN_START_HEADROOM: Duration = Duration::from_secs(3);

/// Maximum difference in rate between the clocks of two hosts, in parts per million. Quartz drifts below
/// 100 ppm; the kernel lets NTP correct by 500.
pub const MAX_CLOCK_DRIFT_PPM: u32 = 1000;

impl Default for LeaseTiming {
    /// A lease of 10 s. With renewals at 2 s and requests of 1.5 s, attempts at 2.0, 3.5 and 5.0 s must all
    /// fail before the stop deadline. 8.8 s on a clock 1000 ppm slow are 8.81 s, and 10 s on one 1000 ppm
    /// fast are 9.99 s, so 1.18 s are left for guard's 0.6 s.
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

/// Times that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Two lost renewals would end the lease.
    #[error(
        "`stop-deadline-secs` is {stop_deadline:?}, and must be more than {needed:?}, which is `renew-interval-secs` plus twice \
         `request-timeout-secs`: a lease must survive two lost renewals"
    )]
    TooFewTries {
        /// Stop deadline.
        stop_deadline: Duration,
        /// Value that it must exceed.
        needed: Duration,
    },
    /// A node could be promoted before the old primary has stopped.
    #[error(
        "`lease-duration-secs` is {lease_duration:?}, and must be at least {needed:?}: `kill-deadline-secs`, 0.6 s for guard to end \
         PostgreSQL, and clocks that differ by 1000 ppm"
    )]
    LeaseDurationTooShort {
        /// Lease duration.
        lease_duration: Duration,
        /// Minimum value.
        needed: Duration,
    },
    /// The two deadlines are in the wrong order.
    #[error(
        "`kill-deadline-secs` is {kill_deadline:?}, and must be later than `stop-deadline-secs`, {stop_deadline:?}"
    )]
    NoTimeToDrain {
        /// Stop deadline.
        stop_deadline: Duration,
        /// Kill deadline.
        kill_deadline: Duration,
    },
    /// Guard would reject every promotion.
    #[error(
        "`stop-deadline-secs` is {stop_deadline:?}, and must be more than {needed:?}: `request-timeout-secs` and the 3 s that \
         guard wants ahead of it before it promotes"
    )]
    NoHeadroom {
        /// Stop deadline.
        stop_deadline: Duration,
        /// Value that it must exceed.
        needed: Duration,
    },
    /// A time is zero.
    #[error("`{0}` must be more than zero")]
    Zero(&'static str),
    /// A time is longer than a day.
    #[error("`{0}` must be at most a day")]
    TooLong(&'static str),
}

/// Maximum of each time: a day without a failover is none.
const MAX_TIME: Duration = Duration::from_hours(24);

impl LeaseTiming {
    /// Checks that two leases cannot overlap, and that a healthy primary does not stop.
    ///
    /// # Errors
    ///
    /// The first contradiction; those that endanger data come before those that endanger availability.
    pub fn checked(self) -> Result<Self, TimingError> {
        let times = [
            ("renew-interval-secs", self.renew_interval),
            ("request-timeout-secs", self.request_timeout),
            ("poll-interval-secs", self.poll_interval),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(TimingError::Zero(name));
        }
        let others = [
            ("stop-deadline-secs", self.stop_deadline),
            ("kill-deadline-secs", self.kill_deadline),
            ("lease-duration-secs", self.lease_duration),
        ];
        let mut all = times.iter().chain(&others);
        // Sums of times do not overflow below.
        if let Some((name, _)) = all.find(|(_, time)| *time > MAX_TIME) {
            return Err(TimingError::TooLong(name));
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
    fn default_times_then_accepted() {
        assert_eq!(LeaseTiming::default().checked(), Ok(LeaseTiming::default()));
    }

    proptest! {
        /// With any accepted times the old primary has stopped before the new one accepts writes.
        #[test]
        fn accepted_times_then_leases_do_not_overlap(
            kill in 1_u64..60_000, stop in 1_u64..60_000, lease in 1_u64..120_000,
        ) {
            let timing =
                LeaseTiming { kill_deadline: millis(kill), stop_deadline: millis(stop), lease_duration: millis(lease), ..LeaseTiming::default() };
            if timing.checked().is_ok() {
                let last_write = timing.kill_deadline.as_secs_f64() * 1.001 + 0.6;
                let first_write = timing.lease_duration.as_secs_f64() / 1.001;
                prop_assert!(last_write <= first_write + 1e-9);
                prop_assert!(timing.stop_deadline < timing.kill_deadline);
            }
        }
    }

    #[test]
    fn contradicting_times_then_error_names_the_setting() {
        let short = LeaseTiming {
            lease_duration: millis(9000),
            ..LeaseTiming::default()
        };
        let message = short.checked().unwrap_err().to_string();
        assert!(message.contains("`lease-duration-secs` is 9s"), "{message}");

        let endless = LeaseTiming {
            kill_deadline: Duration::MAX,
            ..LeaseTiming::default()
        };
        assert_eq!(
            endless.checked(),
            Err(TimingError::TooLong("kill-deadline-secs"))
        );

        let early = LeaseTiming {
            stop_deadline: millis(5000),
            ..LeaseTiming::default()
        };
        assert!(matches!(
            early.checked(),
            Err(TimingError::TooFewTries { .. })
        ));
    }
}
