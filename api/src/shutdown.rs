//! The signals that ask the program to stop. As PID 1 in a container it gets none by default.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How soon the program is to end.
#[derive(PartialEq, Eq)]
pub(crate) enum Haste {
    /// When what is under way has been finished.
    Orderly,
    /// Now.
    AtOnce,
}

impl Signals {
    pub(crate) fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("could not listen for signals");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal: SIGTERM asks for an orderly end, SIGINT for one at once.
    pub(crate) async fn next(&mut self) -> Haste {
        let (signal, haste) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", Haste::Orderly),
            _ = self.interrupt.recv() => ("SIGINT", Haste::AtOnce),
        };
        info!(signal, "asked to stop");
        haste
    }
}
