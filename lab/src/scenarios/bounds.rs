//! Bounds on downtime that hold on a machine of any speed.
//!
//! A bound is the sum of the protocol's timers, which take as long on every machine, and of the
//! machine's work, with a margin for a slower one. The actual times are measured and printed, and
//! `make bench-failover` compares them with Patroni's in the same run.

use std::time::Duration;

use crate::workload::checker::Expectation;

/// Factor by which a machine may be slower than the quiet one (2 cores) on which work was measured.
const SLOWDOWN_FACTOR: u32 = 3;

/// Lease duration (10 s) and a candidate's poll interval (0.5 s): `lease.lease-duration-secs` and
/// `lease.poll-interval-secs` of the lab's settings.
const LEASE_TIMERS: Duration = Duration::from_millis(10_500);

/// Timers between a new primary and its first write: a client tries another host after 2 s, and the
/// DNS server caches a record for 0.5 s.
const CLIENT_TIMERS: Duration = Duration::from_millis(2_500);

/// Validity of a successful write probe (3 s), `policy.write-probe-timeout-secs` (15 s), and the time
/// from the guard's stop deadline to its kill deadline (1.5 s).
const HANG_TIMERS: Duration = Duration::from_millis(19_500);

/// Expectation that no row is lost, and that downtime is at most the protocol's timers and three
/// times the work of a quiet machine.
pub const fn bound(timers: Duration, work: Duration) -> Expectation {
    Expectation {
        downtime: timers.saturating_add(work.saturating_mul(SLOWDOWN_FACTOR)),
        rows_lost: 0,
    }
}

/// Bound if PostgreSQL goes on serving: no timer runs, and no commit takes a second.
pub const fn no_downtime_bound() -> Expectation {
    bound(Duration::ZERO, Duration::from_secs(1))
}

/// Bound if PostgreSQL ends and restarts on the same node: crash recovery and a reconnect.
pub const fn restart_bound() -> Expectation {
    bound(CLIENT_TIMERS, Duration::from_secs(1))
}

/// Bound if another node waits for the lease to expire, promotes, and clients find it.
pub const fn takeover_bound() -> Expectation {
    bound(
        LEASE_TIMERS.saturating_add(CLIENT_TIMERS),
        Duration::from_secs(1),
    )
}

/// Bound if a hung server is killed and the lease released before it expires.
pub const fn release_bound() -> Expectation {
    bound(
        HANG_TIMERS.saturating_add(CLIENT_TIMERS),
        Duration::from_secs(1),
    )
}

/// Bound if an operator's command promotes a node: the lease expires, and two commands run one
/// after the other, each with timeouts of 2 s on nodes that do not respond.
pub const fn promotion_bound() -> Expectation {
    let commands = Duration::from_secs(8);
    let timers = LEASE_TIMERS
        .saturating_add(CLIENT_TIMERS)
        .saturating_add(commands);
    bound(timers, Duration::from_secs(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_machine_then_margin_for_work_only() {
        let expectation = bound(Duration::from_secs(10), Duration::from_secs(2));

        assert_eq!(expectation.downtime, Duration::from_secs(16));
        assert_eq!(expectation.rows_lost, 0);
    }

    #[test]
    fn lease_expiry_then_bound_between_timers_and_two_leases() {
        let bound = takeover_bound().downtime;

        assert!(bound > LEASE_TIMERS + CLIENT_TIMERS, "{bound:?}");
        assert!(bound < 2 * LEASE_TIMERS, "{bound:?}");
    }
}
