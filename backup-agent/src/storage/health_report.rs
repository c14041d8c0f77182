//! Records of this host about the buckets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Records about one bucket. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct BucketRecord {
    /// Time when this host last stored a WAL file in it.
    pub(crate) last_wal_stored_at: Option<i64>,
    /// Time when this host last stored a base backup in it.
    pub(crate) last_base_stored_at: Option<i64>,
    /// Time since which it lacks an object that this host stored elsewhere.
    pub(crate) lacking_since: Option<i64>,
    /// Number of objects that it lacks.
    pub(crate) lacking_files: u64,
}

/// Records about the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct HealthReport {
    /// Records by bucket name.
    pub(crate) buckets: BTreeMap<String, BucketRecord>,
    /// Segments from before a fork that no bucket holds and that were incomplete on the promoted
    /// host.
    pub(crate) known_gaps: BTreeSet<String>,
}
