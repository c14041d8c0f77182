//! Ancestors of the local server's timeline, read from its history file.

use std::path::Path;
use std::time::Duration;

use causeway_core::agent::LocalObservation;
use causeway_core::failover::observation::ServerView;
use causeway_core::lsn::TimelineHistory;
use causeway_core::{HostInstant, Timeline};

use crate::data_directory::timeline_history;

/// Interval between attempts to read a history file: a standby that switches to a timeline by streaming writes
/// the file shortly afterwards.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Ancestors of one timeline, read once.
#[derive(Debug, Default)]
pub(super) struct AncestryFile {
    read: Option<TimelineHistory>,
    tried_at: Option<HostInstant>,
}

impl AncestryFile {
    /// Returns the ancestors of the server's timeline; none while they are unknown.
    pub(super) fn read(
        &mut self,
        data: &Path,
        now: HostInstant,
        look: &LocalObservation,
    ) -> Option<TimelineHistory> {
        let timeline = timeline(look)?;
        if let Some(read) = self.read.as_ref()
            && read.timeline() == timeline
        {
            return Some(read.clone());
        }
        let tried = self.tried_at;
        if tried.is_some_and(|tried_at| now.elapsed_upper_bound(tried_at) < RETRY_INTERVAL) {
            return None;
        }
        self.read = timeline_history::read(data, timeline)
            .ok()
            .map(|ancestors| TimelineHistory::new(timeline, ancestors));
        self.tried_at = self.read.is_none().then_some(now);
        self.read.clone()
    }
}

fn timeline(look: &LocalObservation) -> Option<Timeline> {
    if let Some(primary) = look.primary {
        return Some(primary.position.timeline);
    }
    match look.server {
        ServerView::Standby(progress) => Some(progress.timeline),
        ServerView::Unguarded
        | ServerView::Stopped(_)
        | ServerView::Unresponsive
        | ServerView::MayWrite => None,
    }
}
