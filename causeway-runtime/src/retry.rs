//! Retries within a budget: the only module that uses the `backoff` crate.

mod progress_budget;

pub use progress_budget::ProgressBudget;

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio::time::{self, Instant};

/// Whether a call is retried after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// The same call may succeed later, and repeating it is safe.
    Transient,
    /// A retry would fail the same way.
    Permanent,
}

/// Backoff between attempts: it doubles from the first to the longest, with a jitter of half of each.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// First backoff.
    pub initial_backoff: Duration,
    /// Longest backoff.
    pub max_backoff: Duration,
}

impl RetryPolicy {
    /// Returns a policy whose backoff does not grow.
    pub const fn constant(backoff: Duration) -> Self {
        Self {
            initial_backoff: backoff,
            max_backoff: backoff,
        }
    }

    /// Returns the backoff of one call.
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

/// Backoff of one call.
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

    /// Sleeps for the next pause: for a loop that no deadline ends.
    pub async fn pause(&mut self) {
        time::sleep(self.next_pause()).await;
    }

    /// Sleeps for the next pause, unless it would reach `deadline`. Returns whether another attempt may follow.
    pub async fn pause_before(&mut self, deadline: Instant) -> bool {
        let pause = self.next_pause();
        let is_in_time = Instant::now() + pause < deadline;
        if is_in_time {
            time::sleep(pause).await;
        }
        is_in_time
    }
}

/// Time budget of one call. An attempt that transfers data may take the time that the data needs: only the time
/// above `transfer` counts against `timeout`.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// Total time for backoff and responses.
    pub timeout: Duration,
    /// Time for the data of one attempt.
    pub transfer: Duration,
}

/// Calls `attempt` until it succeeds, fails permanently, or the next pause would reach `deadline`.
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
    until_notify(deadline, policy, classify, |_| {}, attempt).await
}

/// Like [`until`], and calls `notify` with the error before each further attempt.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn until_notify<T, E, F, Fut>(
    deadline: Instant,
    policy: RetryPolicy,
    classify: impl Fn(&E) -> RetryClass,
    notify: impl Fn(&E),
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
    repeat(budget, policy, classify, notify, attempt).await
}

/// Calls `attempt` until it succeeds, fails permanently, or the next pause would exceed `budget`.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn within<T, E, F, Fut>(
    budget: RetryBudget,
    policy: RetryPolicy,
    classify: impl Fn(&E) -> RetryClass,
    attempt: F,
) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    repeat(budget, policy, classify, |_| {}, attempt).await
}

async fn repeat<T, E, F, Fut>(
    budget: RetryBudget,
    policy: RetryPolicy,
    classify: impl Fn(&E) -> RetryClass,
    notify: impl Fn(&E),
    mut attempt: F,
) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut backoff = policy.backoff();
    // End of the budget if no data had been transferred. Pauses are a little longer than requested, so the end
    // is compared with the clock and not with their sum.
    let mut end = Instant::now() + budget.timeout;
    loop {
        let began = Instant::now();
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        end += began.elapsed().min(budget.transfer);
        if classify(&error) == RetryClass::Permanent || !backoff.pause_before(end).await {
            return Err(error);
        }
        notify(&error);
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
    async fn transient_error_then_retried_until_the_deadline() {
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
    async fn permanent_error_then_not_retried() {
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

    #[tokio::test(start_paused = true)]
    async fn attempt_follows_then_notified_of_the_error() {
        let mut tries = 0;
        let notified = Cell::new(0);
        let result: Result<u32, u32> = until_notify(
            Instant::now() + Duration::from_secs(1),
            POLICY,
            |error| match error {
                3 => RetryClass::Permanent,
                _ => RetryClass::Transient,
            },
            |error| notified.set(notified.get() * 10 + error),
            || {
                tries += 1;
                std::future::ready(Err(tries))
            },
        )
        .await;

        assert_eq!((result, notified.get()), (Err(3), 12));
    }

    /// A transfer of 20 s over a slow network may fail and be repeated, although everything else has one
    /// second.
    #[tokio::test(start_paused = true)]
    async fn data_transferred_then_budget_excludes_its_time() {
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
