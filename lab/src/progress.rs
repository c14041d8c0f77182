//! How the lab says what it does and what it waits for, wherever it is heard.

use std::fmt;
use std::sync::Arc;

/// Hears one line at a time. Clones speak to the same listener.
#[derive(Clone)]
pub struct ProgressReporter(Arc<dyn Fn(&str) + Send + Sync>);

impl ProgressReporter {
    /// Returns the voice that `listener` hears.
    pub fn new(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Returns a voice that speaks into the log.
    pub fn to_log() -> Self {
        Self::new(|line| tracing::info!("{line}"))
    }

    /// Says one line.
    pub fn report(&self, line: impl AsRef<str>) {
        (self.0)(line.as_ref());
    }
}

impl fmt::Debug for ProgressReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voice")
    }
}
