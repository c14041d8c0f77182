//! Waiting: for a condition, until a deadline, remembering what was seen last.

use std::time::Duration;

use tokio::time::{self, Instant};

/// How long to wait before looking again: short against everything the lab measures (0.1 s), long
/// enough that ten waits at once are no load.
const PAUSE: Duration = Duration::from_millis(25);

/// A wait that ended without what it was for.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:.1?} for {what}; what was seen last: {last_seen}")]
pub struct WaitTimeout {
    what: String,
    waited: Duration,
    last_seen: String,
}

/// Looks again and again until `look` returns a value. An error is what it saw instead.
///
/// # Errors
///
/// [`WaitTimeout`] after `timeout`, with what was seen last.
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
            "waited 1.0s for the third look; what was seen last: look 2"
        );
    }
}
