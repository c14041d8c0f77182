//! What the buckets hold, looked up on their disks, and what can be asked of a restore from it.

use std::collections::BTreeSet;
use std::path::Path;

use super::sandbox::{FaultyBucket, Sandbox};
use super::schedule::{BucketName, ObjectKind};
use super::timeline_model::{
    ReportedBackup, TimelineModel, TimelineModels, WalOffset, parse_segment,
};

/// The objects of some buckets, by their key without the cluster's part.
#[derive(Debug, Default)]
pub(super) struct BucketContents {
    /// In any of them.
    listed: BTreeSet<String>,
    /// Undamaged in any of them.
    whole: BTreeSet<String>,
}

/// What a restore from these buckets can be held to.
#[derive(Debug)]
pub(super) struct RestoreExpectation<'a> {
    /// The newest timeline that is there.
    pub(super) branch: &'a TimelineModel,
    /// Up to where the WAL reaches.
    pub(super) reach: WalOffset,
    /// How many rows must come back.
    pub(super) demanded: usize,
    /// The oldest usable backup.
    pub(super) first: Option<&'a ReportedBackup>,
    /// Why it may fail; none if it must succeed.
    pub(super) excuse: Option<String>,
}

impl FaultyBucket {
    /// Returns the key of every object without the cluster's part, and its file.
    pub(super) fn keys(&self) -> Vec<(String, std::path::PathBuf)> {
        let mut found = Vec::new();
        files(&self.objects, &mut found);
        let mut keys: Vec<_> = found
            .into_iter()
            .filter_map(|path| {
                let key = path.strip_prefix(&self.objects).ok()?.to_str()?;
                // The cluster's name, and the system identifier.
                let key = key.splitn(3, '/').nth(2)?.to_owned();
                Some((key, path))
            })
            .collect();
        keys.sort();
        keys
    }
}

impl BucketContents {
    /// Looks at some buckets, of which some objects are damaged.
    pub(super) fn of(
        site: &Sandbox,
        read: &[BucketName],
        damaged: &BTreeSet<(BucketName, String)>,
    ) -> Self {
        let mut contents = Self::default();
        for which in read {
            for (key, _) in site.bucket(*which).keys() {
                if !damaged.contains(&(*which, key.clone())) {
                    contents.whole.insert(key.clone());
                }
                contents.listed.insert(key);
            }
        }
        contents
    }

    /// Tests whether an undamaged object of this key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.whole.contains(key)
    }

    /// Returns every key.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.listed.iter()
    }

    fn segments(of: &BTreeSet<String>) -> Vec<(u32, u64)> {
        of.iter().filter_map(|value| segment_of(value)).collect()
    }

    /// Returns what a restore can be held to; none if nothing that was written is there.
    pub(super) fn view<'a>(
        &self,
        branches: &'a TimelineModels,
        backups: &'a [ReportedBackup],
        confirmed: Option<(u32, usize)>,
    ) -> Option<RestoreExpectation<'a>> {
        let listed = Self::segments(&self.listed);
        let histories = self.listed.iter().filter_map(|key| history_of(key));
        let with_history = histories.max().unwrap_or(1);
        // A segment shows that there is a timeline even where its history lacks.
        let newest = listed.iter().map(|key| key.0).fold(with_history, u32::max);
        let branch = branches.get(&newest)?;
        let usable: Vec<&ReportedBackup> = backups
            .iter()
            .filter(|backup| branch.has(backup) && backup.keys.iter().all(|key| self.has(key)))
            .collect();
        let stop = usable.iter().map(|backup| backup.stop).max().unwrap_or(0);
        let reach = branch.reach(&listed).unwrap_or(0).max(stop);
        let mut demanded = branch.rows_until(reach);
        if let Some((timeline, rows)) = confirmed
            && timeline == newest
        {
            demanded = demanded.max(rows);
        }
        let whole = Self::segments(&self.whole);
        let first = usable.iter().min_by_key(|backup| backup.rows);
        let excuse = match first {
            None => Some("no backup of this timeline is whole".to_owned()),
            Some(_) if with_history < newest => Some(format!("timeline {newest} has no history")),
            Some(first) => self.damage().or_else(|| {
                let lacking = branch.gap(first.start, &whole);
                let end = (branch.reach(&whole) != branch.reach(&listed))
                    .then(|| "the last segment is damaged".to_owned());
                lacking.map(|name| format!("segment {name} lacks")).or(end)
            }),
        };
        Some(RestoreExpectation {
            branch,
            reach,
            demanded,
            first: first.copied(),
            excuse,
        })
    }

    /// Returns an object that is damaged wherever it is.
    fn damage(&self) -> Option<String> {
        let damaged = self.listed.difference(&self.whole).next()?;
        Some(format!("`{damaged}` is damaged"))
    }
}

/// Returns the segment that a key is of.
pub(super) fn segment_of(key: &str) -> Option<(u32, u64)> {
    let name = key.strip_prefix("wal/")?.split_once('/')?.1;
    parse_segment(name)
}

fn history_of(key: &str) -> Option<u32> {
    let name = key.strip_prefix("history/")?.strip_suffix(".history")?;
    u32::from_str_radix(name, 16).ok()
}

/// Tests whether a key is of an object of this kind.
pub(super) fn is_a(object: ObjectKind, key: &str) -> bool {
    match object {
        ObjectKind::Segment => segment_of(key).is_some(),
        ObjectKind::Pack => key.contains("/pack/"),
        ObjectKind::Manifest => key.ends_with("/manifest"),
        ObjectKind::TimelineHistory => history_of(key).is_some(),
    }
}

fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}
