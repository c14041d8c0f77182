//! WAL on this host's disk, read without a server: its timelines, and where each ends.

mod page;
pub(crate) mod position;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use causeway_core::lsn::{Ancestor, SegmentName, SegmentSize, WalFileName};
use causeway_core::{Lsn, Timeline};

use self::records::WalReader;

/// `pg_wal` directory.
#[derive(Debug)]
pub(crate) struct WalDirectory {
    path: PathBuf,
    size: SegmentSize,
    /// Whether any page shows that a segment was written, and not only the first.
    every_page: bool,
    /// Numbers of the segments, complete or `.partial`, by timeline.
    segments: BTreeMap<Timeline, BTreeSet<u64>>,
    files: Vec<WalFileName>,
}

/// WAL file with records that another history lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WalPastFork {
    /// Name.
    pub(crate) name: WalFileName,
    /// Size.
    pub(crate) bytes: u64,
}

impl WalPastFork {
    /// Returns its segment; none for a history file.
    pub(crate) const fn segment(&self) -> Option<SegmentName> {
        match self.name {
            WalFileName::Segment(name) | WalFileName::Partial(name) => Some(name),
            WalFileName::History(_) | WalFileName::BackupLabel(..) => None,
        }
    }
}

impl WalDirectory {
    /// Reads the WAL of the data directory `data`.
    pub(crate) fn read(data: &Path) -> io::Result<Self> {
        Self::open(&data.join("pg_wal"), false)
    }

    /// Reads a WAL directory by every page, for callers that must not miss a segment: a crash can keep a later page and
    /// lose the first.
    pub(crate) fn scan_all(path: &Path) -> io::Result<Self> {
        Self::open(path, true)
    }

    fn open(path: &Path, every_page: bool) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            if let Some(Ok(name)) = entry?.file_name().to_str().map(str::parse) {
                files.push(name);
            }
        }
        files.sort();
        let size = segment_size(path, &files);
        let mut segments: BTreeMap<Timeline, BTreeSet<u64>> = BTreeMap::new();
        for name in &files {
            if let WalFileName::Segment(segment) | WalFileName::Partial(segment) = name {
                segments
                    .entry(segment.timeline)
                    .or_default()
                    .insert(segment.start(size).get() / size.bytes());
            }
        }
        Ok(Self {
            path: path.to_owned(),
            size,
            every_page,
            segments,
            files,
        })
    }

    /// Returns the newest timeline with records, and the end of its last record.
    pub(crate) fn end(&self) -> io::Result<Option<(Timeline, Lsn)>> {
        for timeline in self.segments.keys().rev() {
            if let Some(end) = self.end_of(*timeline)? {
                return Ok(Some((*timeline, end)));
            }
        }
        Ok(None)
    }

    /// Returns the end of the last record of `timeline`, if it has any.
    pub(crate) fn end_of(&self, timeline: Timeline) -> io::Result<Option<Lsn>> {
        for number in self.segments.get(&timeline).into_iter().flatten().rev() {
            if self.is_written(timeline, *number)? {
                return self.find_end_from(timeline, *number).map(Some);
            }
        }
        Ok(None)
    }

    /// Returns the position at which a segment begins.
    pub(crate) fn start(&self, segment: SegmentName) -> Lsn {
        segment.start(self.size)
    }

    /// Returns the segment size.
    pub(crate) const fn segment_size(&self) -> SegmentSize {
        self.size
    }

    /// Returns where the records of `timeline` end, read from segment `number` on.
    fn find_end_from(&self, timeline: Timeline, number: u64) -> io::Result<Lsn> {
        let mut read = |number| self.read_segment(timeline, number);
        WalReader::new(self.size, &mut read).end(number)
    }

    /// Returns whether `timeline` holds records past `left_at`.
    pub(crate) fn has_records_past(&self, timeline: Timeline, left_at: Lsn) -> io::Result<bool> {
        let Some(numbers) = self.segments.get(&timeline) else {
            return Ok(false);
        };
        let at = left_at.get() / self.size.bytes();
        for number in numbers.range(at + 1..) {
            if self.is_written(timeline, *number)? {
                return Ok(true);
            }
        }
        let Some(last_page) = self.last_page(timeline, at)? else {
            return Ok(false);
        };
        let end = self.find_end_from(timeline, at)?;
        // If the records cannot be read up to the fork, the last written page decides.
        Ok(end > left_at || (end < left_at && last_page > left_at))
    }

    /// Returns the files with records that a primary on `newest`, whose history is `ancestors`, does not have; every
    /// file with records if the primary's history is unknown.
    pub(crate) fn files_past_fork(
        &self,
        primary: Option<(Timeline, &[Ancestor])>,
    ) -> io::Result<Vec<WalPastFork>> {
        let mut beyond = Vec::new();
        for name in &self.files {
            let (WalFileName::Segment(segment) | WalFileName::Partial(segment)) = name else {
                continue;
            };
            if self.is_past_fork(*segment, primary)? {
                beyond.push(self.file(*name)?);
            }
        }
        // Only histories up to the newest of these timelines count: later ones do not describe them, and would change
        // the set.
        let newest = beyond.iter().map(|file| file.name.timeline()).max();
        for name in &self.files {
            if matches!(name, WalFileName::History(timeline) if Some(*timeline) <= newest) {
                beyond.push(self.file(*name)?);
            }
        }
        Ok(beyond)
    }

    /// Returns whether a primary whose history is `ancestors` shares records in this segment: those before its fork
    /// from the timeline.
    pub(crate) fn has_shared_records(&self, segment: SegmentName, ancestors: &[Ancestor]) -> bool {
        let left = ancestors
            .iter()
            .find(|ancestor| ancestor.timeline == segment.timeline);
        left.is_some_and(|ancestor| segment.start(self.size) < ancestor.left_at)
    }

    /// Returns whether one of these timelines has the same segment in this directory, complete and written.
    pub(crate) fn is_on_any_timeline(
        &self,
        segment: SegmentName,
        timelines: impl IntoIterator<Item = Timeline>,
    ) -> io::Result<bool> {
        let number = segment.start(self.size).get() / self.size.bytes();
        for timeline in timelines {
            let name = WalFileName::Segment(SegmentName {
                timeline,
                ..segment
            });
            if self.files.contains(&name) && self.is_written(timeline, number)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_past_fork(
        &self,
        segment: SegmentName,
        primary: Option<(Timeline, &[Ancestor])>,
    ) -> io::Result<bool> {
        let number = segment.start(self.size).get() / self.size.bytes();
        let is_written = || self.is_written(segment.timeline, number);
        let Some((newest, ancestors)) = primary else {
            return is_written();
        };
        if segment.timeline == newest {
            return Ok(false);
        }
        let left = ancestors
            .iter()
            .find(|ancestor| ancestor.timeline == segment.timeline);
        let Some(left_at) = left.map(|ancestor| ancestor.left_at) else {
            return is_written();
        };
        let at = left_at.get() / self.size.bytes();
        if number == at {
            return self.has_records_past(segment.timeline, left_at);
        }
        Ok(number > at && is_written()?)
    }

    fn file(&self, name: WalFileName) -> io::Result<WalPastFork> {
        let bytes = fs::metadata(self.path.join(name.to_string()))?.len();
        Ok(WalPastFork { name, bytes })
    }

    /// Returns whether a segment was written under its name: the pages of a recycled one have another address.
    fn is_written(&self, timeline: Timeline, number: u64) -> io::Result<bool> {
        let start = number * self.size.bytes();
        for name in self.names(timeline, number) {
            let mut first = vec![0; page::USUAL];
            match File::open(&name).and_then(|mut file| file.read_exact(&mut first)) {
                Ok(()) if page::last_page(&first, start).is_some() => return Ok(true),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(self.every_page && self.last_page(timeline, number)?.is_some())
    }

    /// Returns the position of the last page written into a segment.
    fn last_page(&self, timeline: Timeline, number: u64) -> io::Result<Option<Lsn>> {
        let start = number * self.size.bytes();
        let bytes = self.read_segment(timeline, number)?;
        Ok(bytes
            .and_then(|bytes| page::last_page(&bytes, start))
            .map(Lsn::new))
    }

    fn read_segment(&self, timeline: Timeline, number: u64) -> io::Result<Option<Vec<u8>>> {
        for path in self.names(timeline, number) {
            match fs::read(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => return read.map(Some),
            }
        }
        Ok(None)
    }

    /// Returns the file names that a segment can have.
    fn names(&self, timeline: Timeline, number: u64) -> [PathBuf; 2] {
        let start = Lsn::new(number.saturating_mul(self.size.bytes()));
        let name = SegmentName::containing(timeline, start, self.size);
        [WalFileName::Segment(name), WalFileName::Partial(name)]
            .map(|file_name| self.path.join(file_name.to_string()))
    }
}

/// Returns the segment size, from the size of the files.
fn segment_size(path: &Path, files: &[WalFileName]) -> SegmentSize {
    let sizes = files.iter().filter_map(|name| match name {
        WalFileName::Segment(_) => {
            let length = fs::metadata(path.join(name.to_string())).ok()?.len();
            SegmentSize::new(length)
        }
        WalFileName::Partial(_) | WalFileName::History(_) | WalFileName::BackupLabel(..) => None,
    });
    sizes
        .max_by_key(|size| size.bytes())
        .unwrap_or(SegmentSize::DEFAULT)
}

#[cfg(test)]
mod tests;
