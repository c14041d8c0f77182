//! Position of a node in the WAL, from `pg_wal` without a server.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use causeway_core::lsn::{SegmentName, SegmentSize, WalFileName};
use causeway_core::{Lsn, Timeline};

use crate::data_directory::wal::page;

/// Returns whether `pg_wal` has the WAL of `timeline` up to `lsn`: the page at `lsn` exists and has its own address. A
/// recycled segment has the addresses of an older one in its pages (`xlp_pageaddr` in
/// `src/include/access/xlog_internal.h`).
pub(crate) fn contains_wal_up_to(pg_wal: &Path, timeline: Timeline, lsn: Lsn) -> bool {
    segments(pg_wal).is_ok_and(|found| {
        found
            .iter()
            .filter(|(name, _)| name.timeline == timeline)
            .any(|(name, size)| segment_contains_page(pg_wal, *name, *size, lsn))
    })
}

/// Returns the newest timeline whose WAL in `pg_wal` reaches `lsn`: the timeline that a standby received or replayed
/// last. Neither the control file nor the server has it before the next restartpoint.
///
/// # Errors
///
/// When the directory cannot be read.
pub(crate) fn timeline_at(pg_wal: &Path, lsn: Lsn) -> io::Result<Option<Timeline>> {
    let found = segments(pg_wal)?;
    let holding = found
        .iter()
        .filter(|(name, size)| segment_contains_page(pg_wal, *name, *size, lsn));
    Ok(holding.map(|(name, _)| name.timeline).max())
}

/// Returns the highest timeline among the file names in `pg_wal`, written or reserved.
///
/// # Errors
///
/// When the directory cannot be read.
pub(crate) fn highest_timeline(pg_wal: &Path) -> io::Result<Option<Timeline>> {
    let mut highest = None;
    for entry in fs::read_dir(pg_wal)? {
        let name = entry?.file_name();
        let found = match name.to_str().map(str::parse) {
            Some(Ok(WalFileName::Segment(name))) => Some(name.timeline),
            Some(Ok(WalFileName::History(timeline))) => Some(timeline),
            _ => None,
        };
        highest = highest.max(found);
    }
    Ok(highest)
}

/// Returns whether any timeline's segment in `pg_wal`, complete or `.partial`, contains the page at `lsn`.
///
/// # Errors
///
/// When the directory cannot be read.
pub(crate) fn contains_page(pg_wal: &Path, lsn: Lsn) -> io::Result<bool> {
    for entry in fs::read_dir(pg_wal)? {
        let entry = entry?;
        let name = entry.file_name();
        let (WalFileName::Segment(name) | WalFileName::Partial(name)) =
            (match name.to_str().map(str::parse) {
                Some(Ok(name)) => name,
                Some(Err(_)) | None => continue,
            })
        else {
            continue;
        };
        let Some(size) = entry
            .metadata()
            .ok()
            .and_then(|metadata| SegmentSize::new(metadata.len()))
        else {
            continue;
        };
        let start = name.start(size).get();
        let page = lsn.get() - lsn.get() % page::USUAL_BYTES;
        let inside = page
            .checked_sub(start)
            .filter(|offset| *offset < size.bytes());
        let found = inside.and_then(|offset| page_address(&entry.path(), offset).ok());
        if found == Some(page) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the segments in `pg_wal`, each with the size of its file.
fn segments(pg_wal: &Path) -> io::Result<Vec<(SegmentName, SegmentSize)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(pg_wal)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(Ok(WalFileName::Segment(name))) = name.to_str().map(str::parse) else {
            continue;
        };
        // PostgreSQL may recycle (rename) a segment after the listing.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if let Some(size) = SegmentSize::new(metadata.len()) {
            found.push((name, size));
        }
    }
    Ok(found)
}

fn segment_contains_page(pg_wal: &Path, name: SegmentName, size: SegmentSize, lsn: Lsn) -> bool {
    let Some(last) = lsn.get().checked_sub(1) else {
        return false;
    };
    if SegmentName::containing(name.timeline, Lsn::new(last), size) != name {
        return false;
    }
    let page = last - last % page::USUAL_BYTES;
    let offset = page - name.start(size).get();
    page_address(&pg_wal.join(name.to_string()), offset).is_ok_and(|found| found == page)
}

/// Reads `xlp_pageaddr`, at byte 8 of each page's header.
fn page_address(path: &Path, offset: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset + 8))?;
    let mut address = [0; 8];
    file.read_exact(&mut address)?;
    Ok(u64::from_ne_bytes(address))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const SEGMENT: u64 = 1 << 20;

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }

    /// Writes a segment whose pages up to `end` have its own addresses, and later ones those of another.
    fn segment(pg_wal: &Path, on: u32, number: u64, end: u64) {
        let size = SegmentSize::new(SEGMENT).unwrap();
        let start = Lsn::new(number * SEGMENT);
        let name = SegmentName::containing(timeline(on), start, size);
        let file = File::create(pg_wal.join(name.to_string())).unwrap();
        file.set_len(SEGMENT).unwrap();
        for page in (0..SEGMENT).step_by(8192) {
            let address = start.get() + page;
            let own = if address < end {
                address
            } else {
                address - 2 * SEGMENT
            };
            file.write_all_at(&own.to_ne_bytes(), page + 8).unwrap();
        }
    }

    #[test]
    fn wal_up_to_a_page_then_reached_there_and_no_further() {
        let directory = tempfile::tempdir().unwrap();
        let end = 5 * SEGMENT + 3 * 8192;
        segment(directory.path(), 1, 5, end);
        let reached = |lsn| contains_wal_up_to(directory.path(), timeline(1), Lsn::new(lsn));

        assert!(reached(end));
        assert!(reached(end - 100));
        assert!(!reached(end + 1), "the page after it is a recycled one");
        assert!(!reached(5 * SEGMENT), "the segment before it is gone");
        assert!(!contains_wal_up_to(
            directory.path(),
            timeline(2),
            Lsn::new(end)
        ));
        assert!(!reached(0));
    }

    #[test]
    fn two_timelines_hold_the_position_then_the_newer_one() {
        let directory = tempfile::tempdir().unwrap();
        let fork = 5 * SEGMENT + 2 * 8192;
        segment(directory.path(), 1, 5, 6 * SEGMENT);
        segment(directory.path(), 2, 5, fork);
        let found = |lsn| timeline_at(directory.path(), Lsn::new(lsn)).unwrap();

        assert_eq!(found(fork), Some(timeline(2)));
        assert_eq!(found(fork + 8192), Some(timeline(1)));
        assert_eq!(found(9 * SEGMENT), None);
    }

    #[test]
    fn no_directory_then_nothing_is_reached() {
        let missing = Path::new("/nonexistent/pg_wal");
        assert!(!contains_wal_up_to(missing, timeline(1), Lsn::new(100)));
        assert!(timeline_at(missing, Lsn::new(100)).is_err());
    }
}
