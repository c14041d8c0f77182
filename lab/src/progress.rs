//! Progress of long operations, one line at a time.

use std::fmt;
use std::sync::Arc;

/// Reports progress to a terminal, a client or the log. Clones report to the same sink.
#[derive(Clone)]
pub struct ProgressReporter(Arc<dyn Fn(&str) + Send + Sync>);

impl ProgressReporter {
    /// Returns a reporter that passes each line to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Returns a reporter that drops every line.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Returns a reporter that writes to the log.
    pub fn to_log() -> Self {
        Self::new(|line| tracing::info!("{line}"))
    }

    /// Reports one line.
    pub fn report(&self, line: impl AsRef<str>) {
        (self.0)(line.as_ref());
    }
}

impl fmt::Debug for ProgressReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressReporter")
    }
}
