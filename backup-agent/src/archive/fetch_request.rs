//! A WAL file that is asked for, and for whom.

use std::path::PathBuf;
use std::time::Duration;

use causeway_core::Timeline;
use causeway_core::lsn::{SegmentName, WalFileName};

/// For whom a file is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchMode {
    /// For a standby, which asks again: an absent file is reported as soon as it is likely.
    Standby,
    /// For a recovery that ends where a file is absent: it is so only if every bucket says it, and
    /// none lists anything later.
    Recovery,
}

/// What is fetched.
#[derive(Clone, Debug)]
pub(crate) struct FetchRequest {
    /// Which file.
    pub(crate) name: WalFileName,
    /// Which of several of this name.
    pub(crate) slot: u32,
    /// Where it is put.
    pub(crate) path: PathBuf,
    /// For whom.
    pub(crate) mode: FetchMode,
    /// The timeline that recovery follows, if it is known.
    pub(crate) target_timeline: Option<Timeline>,
    /// The last segment that `restore` saw along the timeline that recovery follows.
    pub(crate) known_end: Option<SegmentName>,
    /// For how long a bucket that fails is asked again.
    pub(crate) retry_timeout: Duration,
}

impl FetchRequest {
    /// Says whether this is the history of a timeline that is not the one that recovery follows.
    pub(super) fn only_number_counts(&self) -> bool {
        match (self.name, self.target_timeline) {
            (WalFileName::History(timeline), Some(target)) => timeline != target,
            _ => false,
        }
    }
}
