//! Counts of a backfill.

use std::collections::BTreeMap;

/// What was copied, for each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackfillStats {
    /// Of each bucket that was looked at.
    pub(crate) buckets: BTreeMap<String, BucketStats>,
}

/// What was copied to one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketStats {
    /// How many objects were copied.
    pub(crate) copied: usize,
    /// How many it still lacks, and another try may bring.
    pub(crate) lacking: usize,
    /// Those that it lacks until an operator has done something, by their keys; and why.
    pub(crate) unresolved: BTreeMap<String, String>,
    /// How many are older than all that it holds, and were not looked at any further.
    pub(crate) older: usize,
    /// Whether it holds no backup, though another bucket does.
    pub(crate) has_no_backup: bool,
}
