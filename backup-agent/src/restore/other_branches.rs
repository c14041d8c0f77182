//! End of a timeline whose last segment exists only as a copy on a branch.

use causeway_core::Lsn;
use causeway_core::backup::TimelineHistory;
use causeway_runtime::telemetry::chain;
use tracing::warn;

use crate::archive::reach::KnownReach;
use crate::archive::wal_archive::WalArchive;
use crate::encryption::keys::Identity;
use crate::error::Error;

/// Fails if the timeline to restore ends in a segment that it does not have itself. PostgreSQL
/// archives the segment in which it is promoted as `.partial`, which recovery does not request, and
/// starts the new timeline with a copy of it.
pub(super) async fn refuse_partial_end(
    archive: &WalArchive<'_>,
    identity: &Identity,
    lineage: &TimelineHistory,
    reach: &KnownReach,
) -> Result<(), Error> {
    let timeline = lineage.timeline();
    let last = reach
        .segments
        .last
        .filter(|segment| segment.timeline == timeline);
    let whole_until = match last {
        Some(last) => last.start(reach.segment_size).get() + reach.segment_size.bytes(),
        None => lineage.begin(timeline).map_or(0, Lsn::get),
    };
    let mut furthest = None;
    for other in archive.histories_of_all().await? {
        if other <= timeline {
            continue;
        }
        match archive.ancestors(identity, other).await {
            Ok(ancestors) => {
                let branch = TimelineHistory::new(other, ancestors);
                let left_at = branch.left_at(timeline).map(|left_at| (left_at, other));
                furthest = furthest.max(left_at);
            }
            Err(why @ (Error::Damaged { .. } | Error::WalFileRejected { .. })) => {
                warn!(timeline = %other, error = %chain(&why), "history unreadable");
            }
            Err(why) => return Err(why),
        }
    }
    match furthest {
        Some((left_at, child)) if left_at.get() > whole_until => Err(reach.unreachable_target(format!(
            "timeline {timeline} continued to {left_at}, and its last segment is archived only in part: `--target-timeline {child} --target-lsn {left_at} --target-exclusive` restores all of it"
        ))),
        Some(_) | None => Ok(()),
    }
}
