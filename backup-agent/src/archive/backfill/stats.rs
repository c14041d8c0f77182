//! Counts of a backfill.

use std::collections::BTreeMap;

/// Counts of each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackfillStats {
    /// Counts by bucket name.
    pub(crate) buckets: BTreeMap<String, BucketStats>,
}

/// Counts of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketStats {
    /// Number of copied objects.
    pub(crate) copied: usize,
    /// Number of objects that it still lacks and that a retry may copy.
    pub(crate) lacking: usize,
    /// Keys that it lacks until an operator has resolved the cause, which is named.
    pub(crate) unresolved: BTreeMap<String, String>,
    /// Number of objects that are older than all of its own, and were ignored.
    pub(crate) older: usize,
    /// Whether it has no backup although another bucket has one.
    pub(crate) has_no_backup: bool,
}
