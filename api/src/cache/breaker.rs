//! When Redis is asked, and when it is left alone.
//!
//! A rule without a clock and without a socket: it is told what happened and when, and answers
//! whether the next request may ask.

use std::time::Duration;

use tokio::time::Instant;

/// This many failures without a success between them open the breaker.
const FAILURES_TO_OPEN: u32 = 5;
/// How long it stays open before one request tries again.
const OPEN_FOR: Duration = Duration::from_secs(5);
/// One that tries and is never heard of again, because its client left, holds others up for this long.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// Leave to ask Redis. Its outcome counts until the breaker opens, or starts anew: what was begun
/// before that says nothing about the time after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit(u64);

/// Keeps requests from waiting for a Redis that does not answer, and from reading what a write of
/// this process should have invalidated.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Which permits count.
    era: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One request tries.
    Probing {
        until: Instant,
    },
    /// An invalidation has failed. Until it has been made good, or all that it was about has expired,
    /// nobody reads.
    Owing {
        until: Instant,
    },
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            state: State::Closed { failures: 0 },
            era: 0,
        }
    }

    /// Returns leave to ask Redis, if it is to be asked at `now`.
    pub(super) fn permit(&mut self, now: Instant) -> Option<Permit> {
        match self.state {
            State::Closed { .. } => Some(Permit(self.era)),
            State::Open { until } | State::Probing { until } | State::Owing { until } => {
                if now < until {
                    return None;
                }
                let until = now + PROBE_PATIENCE;
                self.state = State::Probing { until };
                Some(Permit(self.era))
            }
        }
    }

    /// Returns leave to make good what is owed, if anything is at `now`.
    pub(super) fn debt(&self, now: Instant) -> Option<Permit> {
        match self.state {
            State::Owing { until } if now < until => Some(Permit(self.era)),
            State::Closed { .. }
            | State::Open { .. }
            | State::Probing { .. }
            | State::Owing { .. } => None,
        }
    }

    /// Returns whether what `permit` allowed still counts.
    pub(super) fn counts(&self, permit: Permit) -> bool {
        permit.0 == self.era
    }

    /// Takes in that Redis answered.
    pub(super) fn succeeded(&mut self, permit: Permit) {
        if self.counts(permit) {
            self.state = State::Closed { failures: 0 };
        }
    }

    /// Takes in that Redis did not answer, or not usefully.
    pub(super) fn failed(&mut self, permit: Permit, now: Instant) {
        if !self.counts(permit) {
            return;
        }
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                let failures = failures + 1;
                self.state = State::Closed { failures };
            }
            State::Closed { .. } | State::Open { .. } | State::Probing { .. } => {
                let until = now + OPEN_FOR;
                self.open(State::Open { until });
            }
            State::Owing { .. } => {}
        }
    }

    /// Takes in that an invalidation failed, and that what it was about will have expired at `until`.
    pub(super) fn owe(&mut self, until: Instant) {
        self.open(State::Owing { until });
    }

    /// Makes what is under way count no more.
    pub(super) fn begin_era(&mut self) {
        self.era += 1;
    }

    fn open(&mut self, state: State) {
        self.begin_era();
        self.state = state;
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Returns whether the last answer was a good one.
    pub(super) fn is_well(&self) -> bool {
        matches!(self.state, State::Closed { failures: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened_at(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_TO_OPEN {
            let permit = breaker.permit(now).unwrap();
            breaker.failed(permit, now);
        }
        breaker
    }

    #[test]
    fn opens_after_five_failures_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        let permit = breaker.permit(now).unwrap();
        for _ in 0..4 {
            breaker.failed(permit, now);
        }
        assert!(!breaker.is_open() && !breaker.is_well());
        breaker.succeeded(permit);
        assert!(breaker.is_well());
        for _ in 0..4 {
            breaker.failed(permit, now);
        }
        assert!(!breaker.is_open());
        breaker.failed(permit, now);
        assert!(breaker.is_open());
        assert_eq!(breaker.permit(now), None);
    }

    #[test]
    fn lets_one_try_after_five_seconds() {
        let now = Instant::now();
        let mut breaker = opened_at(now);
        assert_eq!(breaker.permit(now + 4 * SECOND), None);

        let again = now + OPEN_FOR;
        let probe = breaker.permit(again).unwrap();
        assert_eq!(breaker.permit(again), None);
        breaker.failed(probe, again);
        assert_eq!(breaker.permit(again + 4 * SECOND), None);

        let again = again + OPEN_FOR;
        let probe = breaker.permit(again).unwrap();
        breaker.succeeded(probe);
        assert!(breaker.is_well());
    }

    #[test]
    fn does_not_wait_for_ever_for_the_one_that_tries() {
        let now = Instant::now();
        let mut breaker = opened_at(now);
        let again = now + OPEN_FOR;
        assert!(breaker.permit(again).is_some());
        assert!(breaker.permit(again + PROBE_PATIENCE).is_some());
    }

    #[test]
    fn what_began_before_it_opened_does_not_close_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        let slow = breaker.permit(now).unwrap();
        breaker.owe(now + 60 * SECOND);
        breaker.succeeded(slow);
        assert!(breaker.is_open());
        breaker.failed(slow, now);
        assert_eq!(breaker.permit(now + 30 * SECOND), None);
    }

    #[test]
    fn a_debt_is_paid_or_expires() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.owe(now + 60 * SECOND);
        let first = breaker.debt(now).unwrap();
        breaker.failed(first, now);
        assert!(breaker.debt(now + SECOND).is_some());

        // Another write fails while the first debt is being paid: that payment is not for it.
        breaker.owe(now + 70 * SECOND);
        breaker.succeeded(first);
        assert!(breaker.is_open());
        let second = breaker.debt(now).unwrap();
        breaker.succeeded(second);
        assert!(breaker.is_well());

        breaker.owe(now + 60 * SECOND);
        assert_eq!(breaker.debt(now + 60 * SECOND), None);
        assert!(breaker.permit(now + 60 * SECOND).is_some());
    }
}
