//! The signals that stop the program. As PID 1 in a container it gets none by default.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// The way to stop.
#[derive(PartialEq, Eq)]
pub(crate) enum ShutdownMode {
    /// Requests in progress are answered first.
    Graceful,
    /// Requests in progress are aborted.
    Immediate,
}

impl Signals {
    pub(crate) fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("could not listen for signals");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal: SIGTERM is a graceful shutdown, SIGINT an immediate one.
    pub(crate) async fn next(&mut self) -> ShutdownMode {
        let (signal, mode) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", ShutdownMode::Graceful),
            _ = self.interrupt.recv() => ("SIGINT", ShutdownMode::Immediate),
        };
        info!(signal, "shutdown requested");
        mode
    }
}
