//! Waits for a condition, with a timeout that reports the last observation.

use std::time::Duration;

use tokio::time::{self, Instant};

/// Interval between two checks: short compared with everything the lab measures (0.1 s), and long
/// enough that ten concurrent waits are no load.
const PAUSE: Duration = Duration::from_millis(25);

/// Timeout of a wait, with the last observation.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:.1?} for {what}; last observation: {last_seen}")]
pub struct WaitTimeout {
    what: String,
    waited: Duration,
    last_seen: String,
}

/// Calls `look` until it returns a value. Its error is the last observation.
///
/// # Errors
///
/// [`WaitTimeout`] after `timeout`, with the last observation.
pub async fn until<T, F, Fut>(what: &str, timeout: Duration, mut look: F) -> Result<T, WaitTimeout>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + timeout;
    let mut last_seen = "nothing yet".to_owned();
    while Instant::now() < deadline {
        match time::timeout_at(deadline, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last_seen = seen,
            Err(_elapsed) => break,
        }
        time::sleep(PAUSE).await;
    }
    Err(WaitTimeout {
        what: what.to_owned(),
        waited: timeout,
        last_seen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timeout_then_last_observation_in_error() {
        let mut looks = 0;
        let gave_up = until("the third look", Duration::from_secs(1), || {
            looks += 1;
            std::future::ready(Err::<(), _>(format!("look {}", looks.min(2))))
        })
        .await
        .unwrap_err();

        assert_eq!(
            gave_up.to_string(),
            "waited 1.0s for the third look; last observation: look 2"
        );
    }
}
