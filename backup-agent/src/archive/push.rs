//! Archiving of the files in `pg_wal`.

use crate::archive::encrypted_wal_file::EncryptedWalFile;
use crate::archive::store::ExistingObject;
use crate::archive::wal_archive::WalArchive;
use crate::archive::wal_file::WalFile;
use crate::archive::wal_header::WalFileError;
use crate::encryption::fingerprint::Fingerprint;
use crate::error::Error;
use causeway_core::Timeline;
use causeway_core::backup::TimelineHistory;
use causeway_core::lsn::{SegmentName, SegmentSize, WalFileName, parse_history};
use causeway_runtime::telemetry::chain;
use std::collections::BTreeSet;
use std::path::Path;
use tracing::{error, info};

/// Stands for the name of a bucket in the conflict of a file with every slot of every bucket.
pub(crate) const EACH_BUCKET: &str = "each";

/// Maximum number of files with one name, if there may be several.
const SLOTS: u32 = 100;

impl WalArchive<'_> {
    /// Archives the file at `path`. After it returns, PostgreSQL may remove its copy.
    ///
    /// The history of a new timeline is preceded by the local segments of its ancestors that the
    /// archive lacks.
    pub(crate) async fn push(&self, path: &Path) -> Result<(), Error> {
        let file = WalFile::open(path, self.system_id)?;
        if let WalFileName::History(timeline) = file.name {
            self.push_ancestors(timeline, &file.start, path).await?;
        }
        self.store(&file).await?;
        info!(file = %file.name, "WAL file archived");
        Ok(())
    }

    async fn store(&self, file: &WalFile) -> Result<(), Error> {
        match file.name {
            WalFileName::Segment(_) | WalFileName::History(_) => {
                self.store_as(file, &self.object_keys.wal_file(file.name))
                    .await
            }
            WalFileName::Partial(_) | WalFileName::BackupLabel(..) => {
                self.store_in_slot(file).await
            }
        }
    }

    async fn store_as(&self, file: &WalFile, key: &str) -> Result<(), Error> {
        let encrypted = EncryptedWalFile::new(self.config, file, key)?;
        self.buckets.store(&encrypted).await
    }

    /// Stores a file of a kind that may have several with one name: each promotion out of a segment
    /// leaves another `.partial`, and later files wait until it is archived. The same file is
    /// stored in the same slot of each bucket.
    async fn store_in_slot(&self, file: &WalFile) -> Result<(), Error> {
        let mut conflict = Error::Internal("there is no slot");
        for slot in 0..SLOTS {
            let key = self.object_keys.slot(file.name, slot);
            let is_same = |fingerprint: &Fingerprint| {
                file.content()
                    .and_then(|content| fingerprint.matches(&key, content))
            };
            let found = self.buckets.compare(&key, is_same).await;
            if found.contains(&ExistingObject::Other) {
                conflict = Error::Conflict {
                    bucket: EACH_BUCKET.to_owned(),
                    key,
                };
                continue;
            }
            match self.store_as(file, &key).await {
                // Another host took the slot.
                Err(why @ Error::Conflict { .. }) => conflict = why,
                stored => return stored,
            }
        }
        Err(conflict)
    }

    /// Archives the complete segments before each fork. At promotion PostgreSQL marks the ones that
    /// the old primary had not archived as done, and never archives them (seen on 15.20).
    ///
    /// A segment that is neither archived nor complete here is lost to this host, and the new
    /// timeline must be archived nevertheless: it is recorded as a gap, which `check`, the metrics
    /// and `wal backfill` report until a bucket has it.
    async fn push_ancestors(
        &self,
        timeline: Timeline,
        history: &[u8],
        path: &Path,
    ) -> Result<(), Error> {
        let text = String::from_utf8_lossy(history);
        // Not an empty history: the segments before the forks would be lost.
        let ancestors = parse_history(&text).map_err(|why| Error::WalFileRejected {
            name: WalFileName::History(timeline).to_string(),
            why: WalFileError::NoHistory(why),
        })?;
        let lineage = TimelineHistory::new(timeline, ancestors);
        let directory = path.parent().unwrap_or(Path::new("."));
        let here = segments_in(directory)?;
        let Some(size) = segment_size(directory, &here, self.system_id)? else {
            return Ok(());
        };
        for wanted in segments_before_forks(&here, &lineage, size) {
            let Some(first) = wanted.first() else {
                continue;
            };
            let holders = self.holders(*first).await?;
            let oldest = holders.iter().filter_map(BTreeSet::first).min();
            for segment in &wanted {
                let held = holders
                    .iter()
                    .filter(|holder| holder.contains(segment))
                    .count();
                // Segments older than all archived ones have expired.
                let is_expired = oldest.is_some_and(|oldest| segment < oldest);
                let is_known = !is_expired || here.contains(segment);
                if held < self.buckets.required() && is_known {
                    self.push_ancestor(*segment, directory, held).await?;
                }
            }
        }
        Ok(())
    }

    async fn push_ancestor(
        &self,
        segment: SegmentName,
        directory: &Path,
        held: usize,
    ) -> Result<(), Error> {
        let path = directory.join(segment.to_string());
        let why = match WalFile::open(&path, self.system_id) {
            Ok(file) => {
                self.store(&file).await?;
                info!(file = %segment, "segment before the fork archived");
                return Ok(());
            }
            Err(why @ Error::WalFileRejected { .. }) => why,
            Err(why @ Error::Io { .. }) if !path.exists() => why,
            Err(why) => return Err(why),
        };
        if held == 0 {
            error!(file = %segment, error = %chain(&why), "segment before the fork lost");
            self.buckets.health().add_gap(segment);
        }
        Ok(())
    }
}

/// Returns, for each ancestor with segments here, those from the first one to the fork.
fn segments_before_forks(
    here: &[SegmentName],
    lineage: &TimelineHistory,
    size: SegmentSize,
) -> Vec<Vec<SegmentName>> {
    let whole = |segment: &SegmentName| lineage.is_whole_before_a_fork(*segment, size);
    let mut first: Vec<SegmentName> = here.iter().copied().filter(whole).collect();
    first.sort();
    first.dedup_by_key(|segment| segment.timeline);
    let from = |first| {
        std::iter::successors(Some(first), move |segment: &SegmentName| {
            Some(segment.next(size))
        })
    };
    first
        .into_iter()
        .map(|first| from(first).take_while(whole).collect())
        .collect()
}

fn segments_in(directory: &Path) -> Result<Vec<SegmentName>, Error> {
    let failed = |error| Error::io("list", directory)(error);
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(Ok(WalFileName::Segment(segment))) = name.to_str().map(str::parse) {
            segments.push(segment);
        }
    }
    segments.sort();
    Ok(segments)
}

/// Returns the size of the segments in `directory`, from the first one that is written.
///
/// An unreadable one is an error: without a size, no segment before a fork is archived.
fn segment_size(
    directory: &Path,
    names: &[SegmentName],
    system_id: u64,
) -> Result<Option<SegmentSize>, Error> {
    for name in names {
        let path = directory.join(name.to_string());
        match WalFile::open(&path, system_id) {
            Ok(file) if file.segment_size().is_some() => return Ok(file.segment_size()),
            Ok(_) | Err(Error::WalFileRejected { .. }) => {}
            // PostgreSQL may have recycled it meanwhile.
            Err(Error::Io { .. }) if !path.exists() => {}
            Err(why) => return Err(why),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_unreadable_then_size_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["000000010000000000000001", "000000010000000000000002"];
        let names = names.map(|name| {
            let WalFileName::Segment(segment) = name.parse().unwrap() else {
                panic!("{name} is a segment")
            };
            segment
        });
        std::fs::write(directory.path().join(names[0].to_string()), "recycled").unwrap();
        assert_eq!(segment_size(directory.path(), &names, 1).unwrap(), None);

        std::fs::create_dir(directory.path().join(names[1].to_string())).unwrap();
        assert!(segment_size(directory.path(), &names, 1).is_err());
    }
}
