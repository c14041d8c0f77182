//! Distinction between the end of the WAL and a gap, at a segment that no bucket has.

use causeway_core::Timeline;
use causeway_core::backup::wal_end::{Absence, ArchivedBeside, classify_absence, is_on_the_way};
use causeway_core::lsn::{SegmentName, WalFileName};

use crate::archive::fetch_request::FetchRequest;
use crate::archive::wal_archive::WalArchive;
use crate::control_file;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::storage::object_keys::wal_file_name;

impl WalArchive<'_> {
    /// Returns an error unless recovery may end before `segment`, which every bucket lacks.
    pub(super) async fn refuse_gap(
        &self,
        identity: &Identity,
        request: &FetchRequest,
        segment: SegmentName,
    ) -> Result<(), Error> {
        let target = request.target_timeline;
        let lineage = self.followed_lineage(identity, request, segment).await?;
        let later = self.later_segment(segment).await?;
        let known = self.histories_of_all().await?;
        let timeline = segment.timeline;
        let own = if known.contains(&timeline) {
            self.ancestors(identity, timeline).await?
        } else {
            Vec::new()
        };
        // The history of the followed timeline names every other one that matters.
        let is_followed = |other: &Timeline| target.is_none_or(|target| *other == target);
        let mut others = Vec::new();
        for other in known
            .into_iter()
            .filter(|other| *other > timeline && is_followed(other))
        {
            others.push((other, self.ancestors(identity, other).await?));
        }
        let directory = control_file::data_directory(self.config);
        let size = control_file::segment_size(&directory)?;
        if let Some((end, lineage)) = request.known_end.zip(lineage)
            && is_on_the_way(segment, end, &lineage, size)
        {
            return Err(Error::WalLost {
                name: segment.to_string(),
                known_end: end.to_string(),
            });
        }
        if later.is_none() && others.is_empty() {
            return self.refuse_foreign_archive().await;
        }
        let beside = ArchivedBeside {
            later_segment: later.is_some(),
            own_history: &own,
            other_histories: &others,
            segment_size: size,
        };
        match classify_absence(segment, &beside) {
            Absence::End => self.refuse_foreign_archive().await,
            Absence::Gap => Err(Error::WalGap {
                name: segment.to_string(),
                later: later.map_or_else(
                    || "the WAL of a timeline that branched off after it".to_owned(),
                    |later| format!("`{later}`"),
                ),
            }),
        }
    }

    /// An archive without any object of this cluster is not the end of its WAL: the settings were
    /// changed, or name another S3 service.
    async fn refuse_foreign_archive(&self) -> Result<(), Error> {
        let prefix = self.object_keys.system_prefix();
        for bucket in self.buckets.all() {
            let first = bucket.listing(&prefix, "").next().await;
            let unreachable = |last| Error::Unreachable {
                what: prefix.clone(),
                answered: 0,
                last: Box::new(last),
            };
            if first.map_err(unreachable)?.is_some() {
                return Ok(());
            }
        }
        Err(Error::NothingStored { prefix })
    }

    /// Returns a later segment of the same timeline that a bucket lists. Every bucket must respond.
    async fn later_segment(&self, segment: SegmentName) -> Result<Option<SegmentName>, Error> {
        let prefix = self.object_keys.timeline_prefix(segment.timeline);
        let after = self.object_keys.wal_file(WalFileName::Segment(segment));
        for bucket in self.buckets.all() {
            let mut listing = bucket.listing(&prefix, &after);
            let unreachable = |last| Error::Unreachable {
                what: prefix.clone(),
                answered: 0,
                last: Box::new(last),
            };
            while let Some(object) = listing.next().await.map_err(unreachable)? {
                if let Some(WalFileName::Segment(later)) = wal_file_name(&object.key) {
                    return Ok(Some(later));
                }
            }
        }
        Ok(None)
    }
}
