//! Readers: files in, blobs out, each page looked at on its way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aws_lc_rs::digest;
use ha_core::Lsn;
use ha_core::backup::manifest::Digest;
use tokio::sync::mpsc::Sender;

use crate::base_backup::data_directory::PlannedFile;
use crate::base_backup::page::{PAGE_BYTES, PageState, inspect};
use crate::error::Failure;

/// How much of a file one blob holds ([`MAX_BLOB_BYTES`]). A manifest has about 150 bytes for each, so
/// a terabyte's is some 40 MB; a few blobs per reader are in memory.
///
/// [`MAX_BLOB_BYTES`]: ha_core::backup::manifest::MAX_BLOB_BYTES
const BLOB_BYTES: usize = 4 << 20;

/// How often a page is read again that does not match: PostgreSQL may be writing it, which takes
/// far less than one pause.
const READ_AGAIN: u32 = 5;

const PAUSE: Duration = Duration::from_millis(20);

/// What a reader has done. Each is at one file at a time.
#[derive(Debug)]
pub(crate) enum FromReader {
    /// It read the next blob of its file.
    Blob {
        /// Its number.
        reader: usize,
        /// The blob.
        blob: BlobRead,
    },
    /// It reached the end of its file.
    Finished {
        /// Its number.
        reader: usize,
        /// The path of the file.
        path: String,
    },
}

/// A part of a file, compressed.
#[derive(Debug)]
pub(crate) struct BlobRead {
    /// How many bytes it holds.
    pub(crate) raw_bytes: u64,
    /// Their checksum.
    pub(crate) sha256: Digest,
    /// A zstd frame.
    pub(crate) frame: Vec<u8>,
}

/// What the readers share.
#[derive(Debug)]
pub(crate) struct Reader {
    files: Vec<PlannedFile>,
    next: AtomicUsize,
    zstd_level: i32,
    /// Where the backup began, if pages carry checksums.
    checked_before: Option<Lsn>,
    findings: Mutex<Findings>,
}

#[derive(Debug, Default)]
struct Findings {
    damaged: u64,
    first_damaged: Option<(String, u64)>,
    newest_torn: Lsn,
}

impl Reader {
    /// Returns what is needed to read `files`. With `checked_before`, pages are compared with their
    /// checksums: one that was changed since that position may be torn, and replay repairs it.
    pub(crate) fn new(
        files: Vec<PlannedFile>,
        zstd_level: i32,
        checked_before: Option<Lsn>,
    ) -> Self {
        Self {
            files,
            next: AtomicUsize::new(0),
            zstd_level,
            checked_before,
            findings: Mutex::new(Findings::default()),
        }
    }

    /// Reads files that no other reader has begun, as reader `reader`, until there are none or the
    /// queue is closed.
    pub(crate) fn run(&self, reader: usize, out: &Sender<FromReader>) -> Result<(), Failure> {
        let mut buffer = vec![0; BLOB_BYTES];
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = self.files.get(number) else {
                return Ok(());
            };
            match self.read_file(reader, file, &mut buffer, out) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // It vanished after it was listed: the WAL says so.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::io("read", &file.location)(error)),
            }
        }
    }

    /// Says whether the queue is still open.
    fn read_file(
        &self,
        reader: usize,
        planned: &PlannedFile,
        buffer: &mut [u8],
        out: &Sender<FromReader>,
    ) -> io::Result<bool> {
        let file = File::open(&planned.location)?;
        // What is appended from here on is in the log.
        let end = file.metadata()?.len();
        let mut at = 0;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let room = buffer.len().min(wanted);
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            let length = read_at(&file, buffer, at)?;
            if length == 0 {
                break;
            }
            let bytes = buffer.get_mut(..length).unwrap_or_default();
            if let Some(first) = planned.first_page
                && self.checked_before.is_some()
            {
                self.check_pages(&file, planned, first, at, bytes)?;
            }
            let blob = self.blob(bytes)?;
            if out
                .blocking_send(FromReader::Blob { reader, blob })
                .is_err()
            {
                return Ok(false);
            }
            at += u64::try_from(length).unwrap_or(u64::MAX);
        }
        let path = planned.path.clone();
        let finished = FromReader::Finished { reader, path };
        Ok(out.blocking_send(finished).is_ok())
    }

    fn blob(&self, bytes: &[u8]) -> io::Result<BlobRead> {
        let sha256 = digest::digest(&digest::SHA256, bytes);
        let sha256 = sha256.as_ref().try_into().map_err(io::Error::other)?;
        Ok(BlobRead {
            raw_bytes: u64::try_from(bytes.len()).map_err(io::Error::other)?,
            sha256: Digest::new(sha256),
            frame: zstd::bulk::compress(bytes, self.zstd_level)?,
        })
    }

    fn check_pages(
        &self,
        file: &File,
        planned: &PlannedFile,
        first: u32,
        at: u64,
        bytes: &mut [u8],
    ) -> io::Result<()> {
        let (pages, _) = bytes.as_chunks_mut::<PAGE_BYTES>();
        let page_bytes = u64::try_from(PAGE_BYTES).map_err(io::Error::other)?;
        for (number, page) in pages.iter_mut().enumerate() {
            let offset = at + u64::try_from(number).map_err(io::Error::other)? * page_bytes;
            let in_file = u32::try_from(offset / page_bytes).map_err(io::Error::other)?;
            let block = first.wrapping_add(in_file);
            if inspect(page, block) != PageState::Sound {
                self.look_again(file, planned, block, offset, page)?;
            }
        }
        Ok(())
    }

    fn look_again(
        &self,
        file: &File,
        planned: &PlannedFile,
        block: u32,
        offset: u64,
        page: &mut [u8; PAGE_BYTES],
    ) -> io::Result<()> {
        for _ in 0..READ_AGAIN {
            thread::sleep(PAUSE);
            // A shorter file was truncated meanwhile, and the log says so.
            if read_at(file, page, offset)? < PAGE_BYTES {
                return Ok(());
            }
            if inspect(page, block) == PageState::Sound {
                return Ok(());
            }
        }
        let PageState::Mismatch { lsn } = inspect(page, block) else {
            return Ok(());
        };
        self.note(|it| {
            if self.checked_before.is_some_and(|start| lsn > start) {
                it.newest_torn = it.newest_torn.max(lsn);
                return;
            }
            it.damaged += 1;
            let found = (planned.path.clone(), u64::from(block));
            it.first_damaged.get_or_insert(found);
        });
        Ok(())
    }

    /// Reads the control file, which a checkpoint may be writing: two readings must agree.
    pub(crate) async fn read_control_file(&self, path: &Path) -> Result<BlobRead, Failure> {
        let read = || std::fs::read(path).map_err(Failure::io("read", path));
        let mut before = read()?;
        for _ in 0..READ_AGAIN {
            tokio::time::sleep(PAUSE).await;
            let now = read()?;
            if now == before {
                return self.blob(&now).map_err(Failure::io("read", path));
            }
            before = now;
        }
        Err(Failure::Incomplete(
            "the control file is written faster than it can be read".to_owned(),
        ))
    }

    /// Fails if a page is damaged.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        self.note(|it| match it.first_damaged.clone() {
            None => Ok(()),
            Some((path, block)) => Err(Failure::PageChecksums {
                pages: it.damaged,
                path,
                block,
            }),
        })
    }

    /// Returns the newest position that a page claims which was still torn after every reading.
    pub(crate) fn newest_torn(&self) -> Lsn {
        self.note(|it| it.newest_torn)
    }

    fn note<T>(&self, note: impl FnOnce(&mut Findings) -> T) -> T {
        note(&mut self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|it| !it.is_empty()) {
        let offset = at + u64::try_from(filled).map_err(io::Error::other)?;
        match file.read_at(rest, offset) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
