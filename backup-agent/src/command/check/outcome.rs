//! Outcome of one check.

use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CheckOutcome {
    pub(super) name: String,
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

impl CheckOutcome {
    pub(super) fn new(name: impl Into<String>, outcome: Result<(), String>) -> Self {
        Self {
            name: name.into(),
            ok: outcome.is_ok(),
            why: outcome.err(),
        }
    }

    /// Returns a check that passes, with a note for the operator.
    pub(super) fn noted(name: impl Into<String>, note: String) -> Self {
        Self {
            name: name.into(),
            ok: true,
            why: Some(note),
        }
    }

    /// Returns a check that passes if `wrong` is empty.
    pub(super) fn of(name: impl Into<String>, wrong: &[String]) -> Self {
        if wrong.is_empty() {
            return Self::new(name, Ok(()));
        }
        Self::new(name, Err(wrong.join("; ")))
    }
}
