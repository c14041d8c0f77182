//! The metadata in an object's header, which can be read without an identity.

use causeway_core::backup::BackupSummary;
use serde::{Deserialize, Serialize};

use crate::encryption::fingerprint::Fingerprint;

/// What can be read of a log file without an identity.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WalMetadata {
    /// Tells a second push of the same file from one of another.
    pub(crate) fingerprint: Fingerprint,
}

/// What can be read of a manifest without an identity.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ManifestMetadata {
    /// When, where and how large.
    pub(crate) summary: BackupSummary,
}
