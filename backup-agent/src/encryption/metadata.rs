//! The metadata in an object's header, which can be read without an identity.

use causeway_core::backup::BackupSummary;
use serde::{Deserialize, Serialize};

use crate::encryption::fingerprint::Fingerprint;

/// Metadata of a WAL file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WalMetadata {
    /// Tells a second push of the same file from one of another.
    pub(crate) fingerprint: Fingerprint,
}

/// Metadata of a manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ManifestMetadata {
    /// When, where and how large.
    pub(crate) summary: BackupSummary,
}
