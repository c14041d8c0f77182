//! Polling: waits until an observed condition holds.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{self, Instant};

/// Calls `probe` every `interval` until it breaks or `deadline` has come. Returns the value of the break, or the last
/// observation, which was made at the deadline.
///
/// A probe that is under way is not cut off: its own timeouts bound it.
pub async fn until<T, S, F, Fut>(
    deadline: Instant,
    interval: Duration,
    mut probe: F,
) -> ControlFlow<T, S>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ControlFlow<T, S>>,
{
    loop {
        let observed = probe().await;
        let now = Instant::now();
        if observed.is_break() || now >= deadline {
            return observed;
        }
        time::sleep_until(deadline.min(now + interval)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::ops::ControlFlow::{Break, Continue};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(400);
    const TIMEOUT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn condition_holds_then_its_value() {
        let began = Instant::now();
        let mut probes = 0;
        let polled = until(began + TIMEOUT, INTERVAL, || {
            probes += 1;
            ready(if probes == 2 {
                Break("held")
            } else {
                Continue(())
            })
        });

        assert_eq!(polled.await, Break("held"));
        assert_eq!(began.elapsed(), INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_then_observation_made_there() {
        let began = Instant::now();
        let polled = until(began + TIMEOUT, INTERVAL, async || {
            Continue::<(), _>(began.elapsed())
        });

        assert_eq!(polled.await, Continue(TIMEOUT));
    }
}
