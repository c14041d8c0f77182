//! Objects in the buckets, read from their disks, and the restore result that they allow.

use std::collections::BTreeSet;
use std::path::Path;

use super::sandbox::{FaultyBucket, Sandbox};
use super::schedule::{BucketName, ObjectKind};
use super::timeline_model::{
    ReportedBackup, TimelineModel, TimelineModels, WalOffset, parse_segment,
};

/// Objects of some buckets, by key without the cluster prefix.
#[derive(Debug, Default)]
pub(super) struct BucketContents {
    /// Keys in any of the buckets.
    all_keys: BTreeSet<String>,
    /// Keys with an undamaged object in any of the buckets.
    undamaged_keys: BTreeSet<String>,
}

/// Result that a restore from these buckets must have.
#[derive(Debug)]
pub(super) struct RestoreExpectation<'a> {
    /// Newest timeline in the buckets.
    pub(super) branch: &'a TimelineModel,
    /// End of the WAL in the buckets.
    pub(super) wal_end: WalOffset,
    /// Number of rows that the restore must return.
    pub(super) required_rows: usize,
    /// Oldest usable backup.
    pub(super) oldest_backup: Option<&'a ReportedBackup>,
    /// Reason for which the restore may fail; `None` if it must succeed.
    pub(super) excuse: Option<String>,
}

impl FaultyBucket {
    /// Returns each object's key without the cluster prefix, and its file.
    pub(super) fn keys(&self) -> Vec<(String, std::path::PathBuf)> {
        let mut found = Vec::new();
        collect_files(&self.objects, &mut found);
        let mut keys: Vec<_> = found
            .into_iter()
            .filter_map(|path| {
                let key = path.strip_prefix(&self.objects).ok()?.to_str()?;
                // The prefix is the cluster name and the system identifier.
                let key = key.splitn(3, '/').nth(2)?.to_owned();
                Some((key, path))
            })
            .collect();
        keys.sort();
        keys
    }
}

impl BucketContents {
    /// Reads the keys of some buckets, given the damaged objects.
    pub(super) fn of(
        sandbox: &Sandbox,
        read: &[BucketName],
        damaged: &BTreeSet<(BucketName, String)>,
    ) -> Self {
        let mut contents = Self::default();
        for which in read {
            for (key, _) in sandbox.bucket(*which).keys() {
                if !damaged.contains(&(*which, key.clone())) {
                    contents.undamaged_keys.insert(key.clone());
                }
                contents.all_keys.insert(key);
            }
        }
        contents
    }

    /// Tests whether an undamaged object has this key.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.undamaged_keys.contains(key)
    }

    /// Returns every key.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.all_keys.iter()
    }

    fn segments(keys: &BTreeSet<String>) -> Vec<(u32, u64)> {
        keys.iter().filter_map(|key| segment_of(key)).collect()
    }

    /// Returns the expected restore result; `None` if the buckets have nothing of a known timeline.
    pub(super) fn expect_restore<'a>(
        &self,
        branches: &'a TimelineModels,
        backups: &'a [ReportedBackup],
        confirmed: Option<(u32, usize)>,
    ) -> Option<RestoreExpectation<'a>> {
        let listed = Self::segments(&self.all_keys);
        let histories = self.all_keys.iter().filter_map(|key| history_of(key));
        let with_history = histories.max().unwrap_or(1);
        // A segment proves its timeline even without a history file.
        let newest = listed
            .iter()
            .map(|(timeline, _segment)| *timeline)
            .fold(with_history, u32::max);
        let branch = branches.get(&newest)?;
        let usable: Vec<&ReportedBackup> = backups
            .iter()
            .filter(|backup| {
                branch.contains(backup) && backup.keys.iter().all(|key| self.contains(key))
            })
            .collect();
        let stop = usable.iter().map(|backup| backup.stop).max().unwrap_or(0);
        let wal_end = branch.wal_end(&listed).unwrap_or(0).max(stop);
        let mut required_rows = branch.rows_until(wal_end);
        if let Some((timeline, rows)) = confirmed
            && timeline == newest
        {
            required_rows = required_rows.max(rows);
        }
        let undamaged = Self::segments(&self.undamaged_keys);
        let oldest = usable.iter().min_by_key(|backup| backup.rows);
        let excuse = match oldest {
            None => Some("this timeline has no undamaged backup".to_owned()),
            Some(_) if with_history < newest => {
                Some(format!("timeline {newest} has no history file"))
            }
            Some(oldest) => self.find_damage().or_else(|| {
                let missing = branch.missing_segment(oldest.start, &undamaged);
                let end = (branch.wal_end(&undamaged) != branch.wal_end(&listed))
                    .then(|| "the last segment is damaged".to_owned());
                missing
                    .map(|name| format!("segment {name} is missing"))
                    .or(end)
            }),
        };
        Some(RestoreExpectation {
            branch,
            wal_end,
            required_rows,
            oldest_backup: oldest.copied(),
            excuse,
        })
    }

    /// Returns a key whose object is damaged in every bucket that has it.
    fn find_damage(&self) -> Option<String> {
        let damaged = self.all_keys.difference(&self.undamaged_keys).next()?;
        Some(format!("`{damaged}` is damaged"))
    }
}

/// Returns the timeline and number of the segment with this key.
pub(super) fn segment_of(key: &str) -> Option<(u32, u64)> {
    let name = key.strip_prefix("wal/")?.split_once('/')?.1;
    parse_segment(name)
}

fn history_of(key: &str) -> Option<u32> {
    let name = key.strip_prefix("history/")?.strip_suffix(".history")?;
    u32::from_str_radix(name, 16).ok()
}

/// Tests whether a key names an object of this kind.
pub(super) fn is_of_kind(kind: ObjectKind, key: &str) -> bool {
    match kind {
        ObjectKind::Segment => segment_of(key).is_some(),
        ObjectKind::Pack => key.contains("/pack/"),
        ObjectKind::Manifest => key.ends_with("/manifest"),
        ObjectKind::TimelineHistory => history_of(key).is_some(),
    }
}

fn collect_files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_files(&path, found);
        } else {
            found.push(path);
        }
    }
}
