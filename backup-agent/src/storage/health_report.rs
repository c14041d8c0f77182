//! What this host has recorded of the buckets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What is recorded of one bucket. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct BucketRecord {
    /// When this host last stored a WAL file in it.
    pub(crate) last_wal_stored_at: Option<i64>,
    /// When this host last stored a base backup in it.
    pub(crate) last_base_stored_at: Option<i64>,
    /// Since when it lacks something that this host stored elsewhere.
    pub(crate) lacking_since: Option<i64>,
    /// How many objects it lacks.
    pub(crate) lacking_files: u64,
}

/// What is recorded of the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct HealthReport {
    /// Of each bucket, by its name.
    pub(crate) buckets: BTreeMap<String, BucketRecord>,
    /// Segments from before a fork that no bucket holds, and that were not whole on the host which
    /// was promoted.
    pub(crate) known_gaps: BTreeSet<String>,
}
