//! Records of this host about the buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

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
    /// Whether the last request was answered and allowed; `None` before the first.
    pub(crate) is_reachable: Option<bool>,
    /// Whether the last push found another server's WAL there under the name of its own.
    pub(crate) has_conflict: bool,
    /// Whether the last check found other system identifiers below the cluster's name, and not this database's.
    pub(crate) is_foreign: bool,
    /// Length of the backups, and of the WAL since the oldest, by the last listing.
    pub(crate) repository_bytes: u64,
}

/// Records about the base backups of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct BackupRecord {
    /// Time when one last failed.
    pub(crate) last_failed_at: Option<i64>,
    /// Duration of the last successful one.
    pub(crate) last_duration_secs: u64,
    /// Bytes that the last successful one added to a bucket.
    pub(crate) last_stored_bytes: u64,
}

/// Restore that has filled a directory on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FilledDirectory {
    /// The directory.
    pub(crate) path: PathBuf,
    /// System identifier of the restored cluster.
    pub(crate) system_id: u64,
    /// Time when the restore began.
    pub(crate) began_at: i64,
}

/// Records about restores on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct RestoreRecord {
    /// The last one that is not verified yet.
    pub(crate) unverified: Option<FilledDirectory>,
    /// Time when one was last verified.
    pub(crate) last_verified_at: Option<i64>,
    /// Time from the beginning of that one to the database that answered.
    pub(crate) last_duration_secs: u64,
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
    /// Segments after the oldest backup that no bucket has.
    pub(crate) missing_segments: u64,
    /// End of the oldest backup after which no segment is missing.
    pub(crate) oldest_recovery_point: Option<i64>,
    /// Records about base backups.
    pub(crate) backup: BackupRecord,
    /// Records about restores.
    pub(crate) restore: RestoreRecord,
}
