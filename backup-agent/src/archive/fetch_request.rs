//! Request for a WAL file.

use std::path::PathBuf;
use std::time::Duration;

use causeway_core::Timeline;
use causeway_core::lsn::{SegmentName, WalFileName};

/// Purpose of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchMode {
    /// A standby, which retries: an absent file is reported as soon as its absence is likely.
    Standby,
    /// A standby that was restored and has only the archive yet. A promotion ends its recovery at the first failure, so a
    /// file is absent only if every bucket responds so.
    RestoredStandby,
    /// A recovery, which ends at an absent file: it is absent only if every bucket responds so, and
    /// none lists a later one.
    Recovery,
}

impl FetchMode {
    /// Returns whether PostgreSQL requests the file again after a failure, until it is promoted.
    pub(super) fn is_standby(self) -> bool {
        match self {
            Self::Standby | Self::RestoredStandby => true,
            Self::Recovery => false,
        }
    }
}

/// File to fetch.
#[derive(Clone, Debug)]
pub(crate) struct FetchRequest {
    /// Name of the file.
    pub(crate) name: WalFileName,
    /// Slot, if there are several files with this name.
    pub(crate) slot: u32,
    /// Path to write it to.
    pub(crate) path: PathBuf,
    /// Purpose of the fetch.
    pub(crate) mode: FetchMode,
    /// Timeline that recovery follows, if known.
    pub(crate) target_timeline: Option<Timeline>,
    /// Last segment that `restore` found along the timeline that recovery follows.
    pub(crate) known_end: Option<SegmentName>,
    /// Retry timeout of a failing bucket.
    pub(crate) retry_timeout: Duration,
}

impl FetchRequest {
    /// Returns whether this is the history of a timeline that recovery does not follow.
    pub(super) fn only_number_counts(&self) -> bool {
        match (self.name, self.target_timeline) {
            (WalFileName::History(timeline), Some(target)) => timeline != target,
            _ => false,
        }
    }
}
