//! Part of an ancestor's segment that belongs to the timeline that a server follows.
//!
//! A primary that fails over with a standby behind it has archived WAL past the fork. Until the new
//! timeline's copy of the fork's segment is archived, PostgreSQL requests the ancestor's, and would
//! replay transactions that the new timeline never had.

use std::fs;
use std::io;
use std::path::Path;

use causeway_core::backup::{SegmentShare, TimelineHistory};
use causeway_core::lsn::{SegmentName, WalFileName, parse_history};
use causeway_core::{Lsn, Timeline};
use tempfile::NamedTempFile;

use crate::archive::fetch_request::FetchRequest;
use crate::archive::scratch_file::directory_of;
use crate::archive::wal_archive::WalArchive;
use crate::control_file;
use crate::encryption::keys::Identity;
use crate::error::Error;

/// Name under which a server requests segments (`RestoreArchivedFile` in
/// `src/backend/access/transam/xlogarchive.c`). `pg_rewind` reads a segment under its own name, and
/// needs the abandoned branch.
const SERVER_FILE: &str = "RECOVERYXLOG";

impl WalArchive<'_> {
    /// Returns the part of `segment` that the requesting server may replay.
    pub(super) async fn followed_share(
        &self,
        identity: &Identity,
        request: &FetchRequest,
        segment: SegmentName,
    ) -> Result<SegmentShare, Error> {
        let is_server = request.path.ends_with(SERVER_FILE);
        if request.mode.is_standby() && !is_server {
            return Ok(SegmentShare::Whole);
        }
        let lineage = self.followed_lineage(identity, request, segment).await?;
        let Some(lineage) = lineage.filter(|lineage| lineage.left_at(segment.timeline).is_some())
        else {
            return Ok(SegmentShare::Whole);
        };
        let data_directory = control_file::data_directory(self.config);
        Ok(lineage.share(segment, control_file::segment_size(&data_directory)?))
    }

    /// Returns the lineage of the timeline that the server follows, if it is known.
    pub(super) async fn followed_lineage(
        &self,
        identity: &Identity,
        request: &FetchRequest,
        segment: SegmentName,
    ) -> Result<Option<TimelineHistory>, Error> {
        let directory = directory_of(&request.path);
        let Some(target) = request.target_timeline else {
            let branch = newest_branch(directory, segment.timeline);
            return branch.map_err(Error::io("read", directory));
        };
        if target == Timeline::FIRST {
            return Ok(Some(TimelineHistory::new(target, Vec::new())));
        }
        let local = read_local_history(directory, target);
        let lineage = match local.map_err(Error::io("read", directory))? {
            Some(lineage) => lineage,
            None => TimelineHistory::new(target, self.ancestors(identity, target).await?),
        };
        Ok(Some(lineage))
    }
}

/// Returns the lineage of a timeline from its history in `pg_wal`, where PostgreSQL keeps that of
/// the timeline that it follows (`readTimeLineHistory` in `src/backend/access/transam/timeline.c`).
///
/// An unreadable history is an error: without it, the server would replay WAL past a fork.
fn read_local_history(directory: &Path, timeline: Timeline) -> io::Result<Option<TimelineHistory>> {
    let name = WalFileName::History(timeline).to_string();
    let text = match fs::read(directory.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let Ok(ancestors) = parse_history(&String::from_utf8_lossy(&text)) else {
        return Ok(None); // A placeholder, or no history.
    };
    Ok((!ancestors.is_empty()).then(|| TimelineHistory::new(timeline, ancestors)))
}

/// Returns the lineage of the newest timeline in `pg_wal` that descends from `timeline`.
fn newest_branch(directory: &Path, timeline: Timeline) -> io::Result<Option<TimelineHistory>> {
    let mut newer = Vec::new();
    for entry in fs::read_dir(directory)? {
        match entry?.file_name().to_str().map(str::parse) {
            Some(Ok(WalFileName::History(found))) if found > timeline => newer.push(found),
            Some(_) | None => {}
        }
    }
    newer.sort_unstable();
    for newer in newer.into_iter().rev() {
        let lineage = read_local_history(directory, newer)?;
        if let Some(lineage) = lineage.filter(|lineage| lineage.left_at(timeline).is_some()) {
            return Ok(Some(lineage));
        }
    }
    Ok(None)
}

/// Overwrites a segment with zeros, which end the WAL, from `left_at` on.
pub(super) fn truncate_at_fork(file: &NamedTempFile, left_at: Lsn) -> io::Result<()> {
    let bytes = file.as_file().metadata()?.len();
    let kept = left_at.get() % bytes;
    file.as_file().set_len(kept)?;
    file.as_file().set_len(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_in_pg_wal_then_newest_branch_used() {
        let directory = tempfile::tempdir().unwrap();
        let pg_wal = directory.path();
        let one = Timeline::FIRST;
        assert!(newest_branch(pg_wal, one).unwrap().is_none());

        let write = |name: &str, text: &str| fs::write(pg_wal.join(name), text).unwrap();
        write(
            "00000002.history",
            "1\t0/500000\tno recovery target specified\n",
        );
        write(
            "00000003.history",
            "1\t0/600000\tno recovery target specified\n",
        );
        write(
            "00000004.history",
            "# Reserved by failover-ctl: this timeline was never written.\n",
        );
        write("00000005.history", "this is no history\n");
        let found = newest_branch(pg_wal, one).unwrap().unwrap();
        assert_eq!(found.timeline().get(), 3);
        assert_eq!(found.left_at(one), Some(Lsn::new(0x60_0000)));
        let two = Timeline::new(2).unwrap();
        assert!(newest_branch(pg_wal, two).unwrap().is_none());

        // Not an older branch, past whose fork the server would replay.
        fs::create_dir(pg_wal.join("00000006.history")).unwrap();
        assert!(newest_branch(pg_wal, one).is_err());
        assert!(newest_branch(&pg_wal.join("none"), one).is_err());
    }

    #[test]
    fn segment_cut_then_zeros_from_the_fork_on() {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![7; 1 << 20]).unwrap();

        truncate_at_fork(&file, Lsn::new(0xB0_0320)).unwrap();

        let content = fs::read(file.path()).unwrap();
        assert_eq!(content.len(), 1 << 20);
        assert!(content[..0x320].iter().all(|byte| *byte == 7));
        assert!(content[0x320..].iter().all(|byte| *byte == 0));
    }
}
