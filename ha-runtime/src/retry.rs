//! Retries that know their deadline. The one module that knows the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio::time::{self, Instant};

/// Whether an error is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same call may succeed later, and repeating it does no harm.
    Again,
    /// Another try would end the same way.
    Final,
}

/// Pauses that double from `first` to `longest`, each drawn from half to one and a half of itself.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

/// Calls `attempt` until it succeeds, fails finally, or the next pause would reach `deadline`.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn until<T, E, F, Fut>(
    deadline: Instant,
    pauses: Pauses,
    judge: impl Fn(&E) -> Verdict,
    mut attempt: F,
) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut backoff = ExponentialBackoff {
        initial_interval: pauses.first,
        current_interval: pauses.first,
        max_interval: pauses.longest,
        multiplier: 2.0,
        randomization_factor: 0.5,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let pause = backoff.next_backoff().unwrap_or(pauses.longest);
        if judge(&error) == Verdict::Final || Instant::now() + pause >= deadline {
            return Err(error);
        }
        time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PAUSES: Pauses = Pauses {
        first: Duration::from_millis(10),
        longest: Duration::from_millis(40),
    };

    #[tokio::test(start_paused = true)]
    async fn tries_until_the_deadline_and_then_tells() {
        let tries = Cell::new(0);
        let deadline = Instant::now() + Duration::from_secs(1);
        let result: Result<(), &str> = until(
            deadline,
            PAUSES,
            |_| Verdict::Again,
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
    async fn does_not_repeat_what_would_end_the_same_way() {
        let tries = Cell::new(0);
        let deadline = Instant::now() + Duration::from_secs(1);
        let result: Result<(), &str> = until(
            deadline,
            PAUSES,
            |_| Verdict::Final,
            || {
                tries.set(tries.get() + 1);
                async { Err("denied") }
            },
        )
        .await;

        assert_eq!((result, tries.get()), (Err("denied"), 1));
    }
}
