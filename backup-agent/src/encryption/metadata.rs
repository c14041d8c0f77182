//! Metadata in an object's header, readable without an identity.

use causeway_core::backup::BackupSummary;
use serde::{Deserialize, Serialize};

use crate::encryption::fingerprint::Fingerprint;

/// Metadata of a WAL file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WalMetadata {
    /// Distinguishes a second push of the same file from a push of another.
    pub(crate) fingerprint: Fingerprint,
}

/// Metadata of a manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ManifestMetadata {
    /// Times, WAL positions and sizes.
    pub(crate) summary: BackupSummary,
}
