//! Tasks: started here, stopped together, waited for.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// The tasks of one program. Whoever starts one waits for it: `tokio::spawn` is in this file alone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    running: TaskTracker,
}

impl Tasks {
    /// Returns an empty set of tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the token that is cancelled when it is time to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that will be waited for at shutdown.
    ///
    /// The task is handed the token and must return soon after it is cancelled. It is never aborted
    /// halfway: a half-done promotion is worse than a slow exit.
    pub fn start<F, Fut>(&self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let task = task(self.stop.clone());
        self.running.spawn(async move {
            task.await;
            tracing::debug!(task = name, "task ended");
        });
    }

    /// Asks every task to stop, and waits at most `grace` for them.
    pub async fn stop(&self, grace: Duration) {
        self.stop.cancel();
        self.running.close();
        if time::timeout(grace, self.running.wait()).await.is_err() {
            warn!(
                still_running = self.running.len(),
                ?grace,
                "gave up waiting for tasks"
            );
        }
    }

    /// Waits for SIGTERM or SIGINT, or until a task asks to stop; then stops every task.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub async fn run_until_signalled(&self, grace: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
            _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
            () = self.stop.cancelled() => {}
        }
        self.stop(grace).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_what_it_started() {
        let tasks = Tasks::new();
        let (done, mut is_done) = tokio::sync::mpsc::channel(1);
        tasks.start("last words", |stop| async move {
            stop.cancelled().await;
            done.send(()).await.unwrap();
        });

        tasks.stop(Duration::from_secs(5)).await;

        assert!(is_done.try_recv().is_ok());
    }
}
