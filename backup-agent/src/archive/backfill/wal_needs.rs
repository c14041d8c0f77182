//! WAL that a bucket needs: earlier WAL has expired there and is not copied back.

use causeway_core::Timeline;
use causeway_core::backup::BackupSummary;
use causeway_core::lsn::{SegmentName, WalFileName};

/// Positions from which on a bucket needs WAL.
///
/// In a bucket with backups these are their start positions: replay from a backup reads the
/// segments from its start on, on its timeline and on higher ones. In a bucket without backups its
/// own segments take their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WalNeeds {
    /// If one position precedes another and is on no higher timeline, only the first one is listed.
    from: Vec<SegmentName>,
    has_backups: bool,
    oldest_timeline: Option<Timeline>,
}

impl WalNeeds {
    /// Returns the needs of a bucket with these backups.
    pub(super) fn of<'a>(backups: impl IntoIterator<Item = &'a BackupSummary>) -> Self {
        let mut needs = Self::default();
        for backup in backups {
            // A summary with another segment size is not read.
            if let Ok(size) = backup.segment_size() {
                let first = SegmentName::containing(backup.timeline, backup.start_lsn, size);
                needs.has_backups = true;
                needs.begin_at(first);
            }
        }
        needs
    }

    fn begin_at(&mut self, first: SegmentName) {
        let oldest = self.oldest_timeline.get_or_insert(first.timeline);
        *oldest = first.timeline.min(*oldest);
        if !self.includes(first) {
            self.from.retain(|other| !is_before(first, *other));
            self.from.push(first);
        }
    }

    /// Records that the bucket has this object.
    pub(super) fn held(&mut self, key: &str) {
        let Some(segment) = segment_of(key) else {
            return;
        };
        if self.has_backups {
            let oldest = self.oldest_timeline.get_or_insert(segment.timeline);
            *oldest = segment.timeline.min(*oldest);
        } else {
            self.begin_at(segment);
        }
    }

    /// Returns whether the bucket needs this object.
    pub(super) fn include(&self, key: &str) -> bool {
        segment_of(key).is_some_and(|segment| self.includes(segment))
    }

    fn includes(&self, segment: SegmentName) -> bool {
        self.from.iter().any(|first| is_before(*first, segment))
    }

    /// Returns the oldest timeline of which the bucket has or needs any object.
    pub(super) fn oldest_timeline(&self) -> Option<Timeline> {
        self.oldest_timeline
    }
}

/// Returns whether `segment` can be replayed after `first`, which is one of the positions.
fn is_before(first: SegmentName, segment: SegmentName) -> bool {
    let position = |segment: SegmentName| (segment.log, segment.segment);
    first.timeline <= segment.timeline && position(first) <= position(segment)
}

/// Returns the segment of `key`, or of its `.partial` or `.backup` file.
fn segment_of(key: &str) -> Option<SegmentName> {
    let name = key.rsplit('/').next()?.get(..24)?;
    if let Ok(WalFileName::Segment(segment)) = name.parse() {
        return Some(segment);
    }
    None
}

#[cfg(test)]
mod tests {
    use causeway_core::Lsn;
    use causeway_core::backup::WallTime;

    use super::*;

    #[test]
    fn bucket_without_a_backup_then_needs_wal_after_its_own() {
        let mut needs = WalNeeds::default();
        assert!(!needs.include(&key(1, 3)));
        needs.held(&key(1, 3));
        needs.held(&key(1, 5));
        assert!(!needs.include(&key(1, 2)));
        assert!(needs.include(&key(1, 4)) && needs.include(&key(1, 9)));
        assert!(needs.include(&format!("{}.partial", key(1, 6))));
        assert!(needs.include(&key(2, 3)) && !needs.include(&key(2, 2)));
        assert_eq!(needs.oldest_timeline(), Timeline::new(1));
    }

    /// Timeline 1 was continued after timeline 2 had branched off, and a lifecycle rule by age has
    /// left only that part of it.
    #[test]
    fn newer_abandoned_branch_then_expired_wal_not_needed() {
        let mut needs = WalNeeds::of(&[backup(2, 12)]);
        needs.held(&key(1, 11));
        needs.held(&key(1, 15));
        assert!(!needs.include(&key(2, 10)) && !needs.include(&key(2, 11)));
        assert!(needs.include(&key(2, 12)) && needs.include(&key(2, 14)));
        assert!(needs.include(&key(3, 13)) && !needs.include(&key(3, 11)));
        assert!(!needs.include(&key(1, 14)));

        let mut without = WalNeeds::default();
        without.held(&key(1, 11));
        without.held(&key(1, 12));
        assert!(!without.include(&key(2, 10)));
    }

    #[test]
    fn backup_older_than_all_wal_then_its_wal_is_needed() {
        let mut needs = WalNeeds::of(&[backup(1, 9), backup(1, 4)]);
        needs.held(&key(1, 8));
        assert!(needs.include(&key(1, 4)) && !needs.include(&key(1, 3)));
    }

    fn key(timeline: u32, number: u32) -> String {
        format!("main/1/wal/{timeline:08X}/{timeline:08X}00000000{number:08X}")
    }

    fn backup(timeline: u32, number: u64) -> BackupSummary {
        let lsn = Lsn::new((number << 24) + 40);
        BackupSummary {
            id: "20261120T201500Z-5f3a9c01".parse().unwrap(),
            timeline: Timeline::new(timeline).unwrap(),
            start_lsn: lsn,
            stop_lsn: lsn,
            started_at: WallTime::from_micros(0),
            stopped_at: WallTime::from_micros(0),
            segment_bytes: 16 << 20,
            raw_bytes: 0,
            stored_bytes: 0,
            damaged_pages: 0,
        }
    }
}
