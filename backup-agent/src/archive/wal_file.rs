//! WAL file that PostgreSQL wants archived, with its content validated.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use causeway_core::lsn::{SegmentSize, WalFileName};

use crate::archive::wal_header::{SegmentHeader, WalFileError, check, read_start};
use crate::error::Error;

/// File in `pg_wal` whose content matches its name. A segment is not in memory.
#[derive(Debug)]
pub(crate) struct WalFile {
    pub(crate) name: WalFileName,
    /// Length in bytes.
    pub(crate) bytes: u64,
    /// Header of its first page, or all of a file that is not a segment.
    pub(crate) start: Vec<u8>,
    path: PathBuf,
}

/// Bytes of a file that are read at once.
const READ_BYTES: usize = 256 << 10;

impl WalFile {
    /// Opens the file at `path`, and checks that its content matches its name.
    ///
    /// A segment's system identifier, length, address and timeline are compared, because PostgreSQL
    /// recycles segments under new names before it has written them.
    pub(crate) fn open(path: &Path, system_id: u64) -> Result<Self, Error> {
        let text = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let refuse = |why| Error::WalFileRejected {
            name: text.to_owned(),
            why,
        };
        let name: WalFileName = text
            .parse()
            .map_err(|why| refuse(WalFileError::Name(why)))?;
        let (start, bytes) = read_start(path, name).map_err(Error::io("read", path))?;
        let history = |timeline| {
            let beside = path.with_file_name(WalFileName::History(timeline).to_string());
            std::fs::read_to_string(beside).ok()
        };
        check(name, &start, bytes, system_id, history).map_err(refuse)?;
        Ok(Self {
            name,
            bytes,
            start,
            path: path.to_owned(),
        })
    }

    /// Opens the file, to read all of it.
    pub(crate) fn content(&self) -> std::io::Result<File> {
        File::open(&self.path)
    }

    /// Returns the size of the cluster's segments, if this is one.
    pub(crate) fn segment_size(&self) -> Option<SegmentSize> {
        let header = SegmentHeader::read(&self.start).ok()?;
        SegmentSize::new(header.segment_bytes)
    }
}

/// Calls `visit` with each part of a file, in order.
pub(crate) fn read_each(path: &Path, mut visit: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => visit(bytes),
            _ => return Ok(()),
        }
    }
}
