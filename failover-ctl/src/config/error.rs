//! Errors of settings.

use causeway_core::lease::TimingError;
use causeway_runtime::config::ConfigFileError;
use causeway_runtime::secret::SecretFileError;

/// Settings that cannot be right. Nothing has been touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be used at all.
    #[error(transparent)]
    Unusable(#[from] ConfigFileError),
    /// The times of the lease contradict each other.
    #[error("the times in `[lease]` contradict each other")]
    LeaseTiming(#[from] TimingError),
    /// A setting is out of place.
    #[error("`{setting}` {why}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Reason and remedy.
        why: String,
    },
    /// A file with a secret cannot be used.
    #[error("`{setting}` cannot be used")]
    Secret {
        /// Which.
        setting: &'static str,
        /// Cause.
        source: SecretFileError,
    },
}

impl SettingsError {
    /// Returns the error of a setting that is out of place.
    pub(crate) fn setting(setting: &'static str, why: impl Into<String>) -> Self {
        Self::Setting {
            setting,
            why: why.into(),
        }
    }
}
