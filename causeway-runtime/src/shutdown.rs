//! Tasks of a program, and its graceful shutdown.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Tasks of one program, which waits for all of them: `tokio::spawn` occurs only in this file.
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

    /// Returns the token that is cancelled at shutdown.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that shutdown waits for.
    ///
    /// The task receives the token and must return soon after it is cancelled. It is never aborted: an
    /// interrupted promotion is worse than a slow exit.
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

    /// Cancels the token, and waits at most `grace` for the tasks.
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

    /// Waits for SIGTERM, SIGINT or the cancelled token, then stops every task.
    ///
    /// # Errors
    ///
    /// An error if the signal handlers cannot be installed.
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
    async fn stopped_then_every_task_has_ended() {
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
