//! Result of one check.

use std::fmt;

use serde::Serialize;

/// Result of one check, a line of the output.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CheckLine {
    /// Name of the check.
    pub(super) name: String,
    /// Result.
    pub(super) result: CheckResultWord,
    /// What was found; for a warning and a failed check also the remedy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) detail: String,
}

/// Word for a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CheckResultWord {
    /// In order.
    Ok,
    /// Works, and lacks something that an incident may need.
    Warning,
    /// Not in order.
    Failed,
    /// Not applicable, or not there yet.
    Skipped,
}

impl CheckLine {
    pub(super) fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, CheckResultWord::Ok, detail)
    }

    pub(super) fn warning(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, CheckResultWord::Warning, detail)
    }

    pub(super) fn failed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, CheckResultWord::Failed, detail)
    }

    pub(super) fn skipped(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, CheckResultWord::Skipped, detail)
    }

    fn new(name: impl Into<String>, result: CheckResultWord, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            result,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for CheckLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.result {
            CheckResultWord::Ok => "ok     ",
            CheckResultWord::Warning => "warning",
            CheckResultWord::Failed => "FAILED ",
            CheckResultWord::Skipped => "skipped",
        };
        write!(f, "{word} {}", self.name)?;
        if self.detail.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.detail)
    }
}
