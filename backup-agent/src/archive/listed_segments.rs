//! WAL segments that the buckets list.

use crate::encryption::decrypt_error::DecryptError;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;
use crate::storage::object_keys::{ObjectKeys, wal_file_name};
use causeway_core::backup::{BackupSummary, HeldSegments, TimelineHistory, WalGap};
use causeway_core::lsn::{SegmentName, SegmentSize, WalFileName};
use causeway_core::{Lsn, Timeline};
use causeway_runtime::telemetry::chain;
use std::collections::{BTreeMap, BTreeSet};

/// Segments of some timelines, from a position on.
#[derive(Clone, Debug)]
pub(crate) struct ListedSegments {
    /// Segments in all responding buckets together.
    pub(super) all: HeldSegments,
    /// Segments by bucket.
    pub(super) buckets: Vec<(String, HeldSegments)>,
    /// Length of the listed objects by bucket.
    pub(super) bytes: BTreeMap<String, u64>,
    /// Buckets that did not respond.
    pub(super) silent: BTreeSet<String>,
}

/// Lists the segments of `timelines` from `from` on.
pub(crate) async fn list_segments(
    buckets: &Buckets,
    object_keys: &ObjectKeys,
    size: SegmentSize,
    from: Lsn,
    timelines: impl IntoIterator<Item = Timeline>,
) -> Result<ListedSegments, Error> {
    let mut list_segments = ListedSegments {
        all: HeldSegments::new(size),
        buckets: Vec::new(),
        bytes: BTreeMap::new(),
        silent: BTreeSet::new(),
    };
    for timeline in timelines {
        let first = SegmentName::containing(timeline, from, size);
        // S3 lists the keys after a given key, without that key: the key without its last digit
        // sorts right before it.
        let mut before = object_keys.wal_file(WalFileName::Segment(first));
        before.pop();
        let lists = buckets
            .list_objects(&object_keys.timeline_prefix(timeline), &before)
            .await?;
        let answered = |name: &str| lists.iter().any(|(bucket, _)| bucket.name() == name);
        let names = buckets.all().iter().map(Bucket::name);
        let silent: Vec<_> = names.filter(|name| !answered(name)).collect();
        list_segments
            .silent
            .extend(silent.into_iter().map(ToOwned::to_owned));
        for (bucket, objects) in lists {
            let bytes: u64 = objects.iter().map(|object| object.size).sum();
            let listed = &mut list_segments.bytes;
            *listed.entry(bucket.name().to_owned()).or_default() += bytes;
            let names = objects
                .iter()
                .filter_map(|object| wal_file_name(&object.key));
            let segments = names.filter_map(|name| match name {
                WalFileName::Segment(segment) if segment >= first => Some(segment),
                WalFileName::Segment(_)
                | WalFileName::Partial(_)
                | WalFileName::History(_)
                | WalFileName::BackupLabel(..) => None,
            });
            let held = list_segments.of(bucket.name());
            for segment in segments {
                list_segments.all.insert(segment);
                if let Some((_, own)) = list_segments.buckets.get_mut(held) {
                    own.insert(segment);
                }
            }
        }
    }
    Ok(list_segments)
}

impl ListedSegments {
    /// Returns the index of a bucket in the list.
    fn of(&mut self, bucket: &str) -> usize {
        let found = self.buckets.iter().position(|(name, _)| name == bucket);
        found.unwrap_or_else(|| {
            let none = HeldSegments::new(self.all.segment_size());
            self.buckets.push((bucket.to_owned(), none));
            self.buckets.len() - 1
        })
    }

    /// Returns the gaps from `backup` on along `lineage`: of all buckets together or, if there is
    /// none, of each bucket.
    pub(super) fn gaps(
        &self,
        lineage: &TimelineHistory,
        backup: &BackupSummary,
        holders: &[String],
    ) -> Vec<(String, WalGap)> {
        if let Some(gap) = self.all.reach(lineage, backup.start_lsn).gap {
            let place = if self.silent.is_empty() {
                "every bucket"
            } else {
                "every bucket that responded"
            };
            return vec![(place.to_owned(), gap)];
        }
        let own = self
            .buckets
            .iter()
            .filter(|(name, _)| holders.contains(name));
        own.filter_map(|(name, held)| {
            let gap = held.reach(lineage, backup.start_lsn).gap?;
            Some((format!("bucket `{name}`"), gap))
        })
        .collect()
    }
}

/// Returns all timelines of these lineages.
pub(crate) fn timelines(lineages: &[TimelineHistory]) -> BTreeSet<Timeline> {
    let ancestors = lineages.iter().flat_map(TimelineHistory::stretches);
    let ancestors = ancestors.map(|(timeline, _, _)| timeline);
    ancestors
        .chain(lineages.iter().map(TimelineHistory::timeline))
        .collect()
}

/// Returns the segment size of a backup.
pub(crate) fn segment_size(
    object_keys: &ObjectKeys,
    backup: &BackupSummary,
) -> Result<SegmentSize, Error> {
    let size = backup.segment_size();
    size.map_err(|error| {
        let why = DecryptError::Content(chain(&error));
        Error::damaged(&object_keys.manifest(&backup.id))(why)
    })
}

/// Returns the timelines with WAL, and the buckets that did not respond.
pub(crate) async fn written_timelines(
    buckets: &Buckets,
    object_keys: &ObjectKeys,
) -> Result<(BTreeSet<Timeline>, Vec<String>), Error> {
    let lists = buckets.folders(&object_keys.wal_prefix()).await?;
    let answered = |queried: &&Bucket| {
        lists
            .iter()
            .any(|(bucket, _)| bucket.name() == queried.name())
    };
    let silent = buckets.all().iter().filter(|bucket| !answered(bucket));
    let silent = silent.map(|bucket| bucket.name().to_owned()).collect();
    let names = lists.iter().flat_map(|(_, names)| names);
    let numbers = names.filter_map(|name| u32::from_str_radix(name, 16).ok());
    Ok((numbers.filter_map(Timeline::new).collect(), silent))
}
