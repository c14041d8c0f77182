//! Retries within a budget. The one module that knows the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio::time::{self, Instant};

/// Whether an error is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// The same call may succeed later, and repeating it does no harm.
    Transient,
    /// Another try would end the same way.
    Permanent,
}

/// Pauses between tries: they double from the first to the longest, each with a jitter of half of
/// itself.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The first pause.
    pub initial_backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
}

impl RetryPolicy {
    /// Returns the pauses in order, from the first.
    pub fn backoff(self) -> RetryBackoff {
        RetryBackoff {
            longest: self.max_backoff,
            next: ExponentialBackoff {
                initial_interval: self.initial_backoff,
                current_interval: self.initial_backoff,
                max_interval: self.max_backoff,
                multiplier: 2.0,
                randomization_factor: 0.5,
                max_elapsed_time: None,
                ..ExponentialBackoff::default()
            },
        }
    }
}

/// The pauses of one call, which grow from one to the next.
#[derive(Debug)]
pub struct RetryBackoff {
    longest: Duration,
    next: ExponentialBackoff,
}

impl RetryBackoff {
    /// Returns the next pause.
    pub fn next_pause(&mut self) -> Duration {
        self.next.next_backoff().unwrap_or(self.longest)
    }
}

/// How long one call is tried. A try that moves bytes may take as long as they need: only what
/// exceeds `transfer` counts against `timeout`.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// The time that pauses and answers may take in all.
    pub timeout: Duration,
    /// The time that the bytes of one try need.
    pub transfer: Duration,
}

/// Calls `attempt` until it succeeds, fails for good, or the next pause would reach `deadline`.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn until<T, E, F, Fut>(
    deadline: Instant,
    policy: RetryPolicy,
    classify: impl Fn(&E) -> RetryClass,
    attempt: F,
) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let budget = RetryBudget {
        timeout: deadline.saturating_duration_since(Instant::now()),
        transfer: Duration::ZERO,
    };
    within(budget, policy, classify, attempt).await
}

/// Calls `attempt` until it succeeds, fails for good, or the next pause would exceed `budget`.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn within<T, E, F, Fut>(
    budget: RetryBudget,
    policy: RetryPolicy,
    classify: impl Fn(&E) -> RetryClass,
    mut attempt: F,
) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut backoff = policy.backoff();
    // Where the budget would end if no byte had been moved. Pauses are a little longer than asked for,
    // so that it is compared with the clock, and not with their sum.
    let mut end = Instant::now() + budget.timeout;
    loop {
        let began = Instant::now();
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        end += began.elapsed().min(budget.transfer);
        let pause = backoff.next_pause();
        if classify(&error) == RetryClass::Permanent || Instant::now() + pause >= end {
            return Err(error);
        }
        time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        initial_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(40),
    };

    #[tokio::test(start_paused = true)]
    async fn transient_error_then_tried_until_the_deadline() {
        let tries = Cell::new(0);
        let deadline = Instant::now() + Duration::from_secs(1);
        let result: Result<(), &str> = until(
            deadline,
            POLICY,
            |_| RetryClass::Transient,
            || {
                tries.set(tries.get() + 1);
                async { Err("away") }
            },
        )
        .await;

        assert_eq!(result, Err("away"));
        assert!(tries.get() > 10, "{}", tries.get());
        assert!(Instant::now() <= deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_error_then_tried_once() {
        let tries = Cell::new(0);
        let deadline = Instant::now() + Duration::from_secs(1);
        let result: Result<(), &str> = until(
            deadline,
            POLICY,
            |_| RetryClass::Permanent,
            || {
                tries.set(tries.get() + 1);
                async { Err("denied") }
            },
        )
        .await;

        assert_eq!((result, tries.get()), (Err("denied"), 1));
    }

    /// A transfer of 20 s through a narrow link may break and be repeated, although nothing else may
    /// take more than a second.
    #[tokio::test(start_paused = true)]
    async fn bytes_moved_then_their_time_costs_no_budget() {
        let tries = Cell::new(0);
        let budget = RetryBudget {
            timeout: Duration::from_secs(1),
            transfer: Duration::from_secs(30),
        };
        let result: Result<u32, &str> = within(
            budget,
            POLICY,
            |_| RetryClass::Transient,
            || async {
                tries.set(tries.get() + 1);
                time::sleep(Duration::from_secs(20)).await;
                if tries.get() < 4 { Err("cut") } else { Ok(4) }
            },
        )
        .await;

        assert_eq!(result, Ok(4));
    }
}
