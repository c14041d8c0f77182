//! Retries of a transfer that may take any time as long as it progresses.

use std::time::Duration;

use tokio::time::Instant;

use super::{RetryBackoff, RetryPolicy};

/// Time budget of a transfer, counted from its last progress.
#[derive(Debug)]
pub struct ProgressBudget {
    policy: RetryPolicy,
    timeout: Duration,
    backoff: RetryBackoff,
    ends_at: Instant,
}

impl ProgressBudget {
    /// Returns the budget of a transfer that begins now and fails after `timeout` without progress.
    pub fn new(policy: RetryPolicy, timeout: Duration) -> Self {
        Self {
            policy,
            timeout,
            backoff: policy.backoff(),
            ends_at: Instant::now() + timeout,
        }
    }

    /// Records progress: backoff and timeout begin again.
    pub fn restart(&mut self) {
        *self = Self::new(self.policy, self.timeout);
    }

    /// Waits for the backoff before the next attempt, and returns whether there is one: not if the pause would reach
    /// the end of the budget.
    pub async fn wait_for_attempt(&mut self) -> bool {
        self.backoff.pause_before(self.ends_at).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        initial_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(40),
    };

    #[tokio::test(start_paused = true)]
    async fn progress_then_whole_timeout_again() {
        let timeout = Duration::from_secs(1);
        let mut budget = ProgressBudget::new(POLICY, timeout);
        let began = Instant::now();
        while budget.wait_for_attempt().await {}
        let spent = began.elapsed();
        assert!(spent < timeout && spent > timeout / 2, "{spent:?}");

        budget.restart();
        let restarted = Instant::now();
        assert!(budget.wait_for_attempt().await);
        let pause = restarted.elapsed();
        assert!(
            pause < Duration::from_millis(20),
            "backoff begins again: {pause:?}"
        );
        while budget.wait_for_attempt().await {}
        assert!(restarted.elapsed() > timeout / 2);
    }
}
