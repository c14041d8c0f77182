//! How the lab says what it does and what it waits for, wherever it is heard.

use std::fmt;
use std::sync::Arc;

/// Hears one line at a time. Clones speak to the same listener.
#[derive(Clone)]
pub struct Voice(Arc<dyn Fn(&str) + Send + Sync>);

impl Voice {
    /// Returns the voice that `listener` hears.
    pub fn new(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Returns a voice that speaks into the log.
    pub fn logged() -> Self {
        Self::new(|line| tracing::info!("{line}"))
    }

    /// Says one line.
    pub fn say(&self, line: impl AsRef<str>) {
        (self.0)(line.as_ref());
    }
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voice")
    }
}
