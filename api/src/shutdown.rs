//! The signals that ask the program to stop. As PID 1 in a container it gets none by default.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How soon the program is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// When what is under way has been finished.
    Orderly,
    /// Now.
    AtOnce,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal: SIGTERM asks for an orderly end, SIGINT for one at once.
    pub async fn next(&mut self) -> Haste {
        tokio::select! {
            _ = self.terminate.recv() => {
                info!(signal = "SIGTERM", "asked to stop");
                Haste::Orderly
            }
            _ = self.interrupt.recv() => {
                info!(signal = "SIGINT", "asked to stop");
                Haste::AtOnce
            }
        }
    }
}
