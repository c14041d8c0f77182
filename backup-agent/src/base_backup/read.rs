//! Readers: turn files into blobs and verify each page.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow::{Break, Continue};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use causeway_core::Lsn;
use causeway_core::backup::manifest::Digest;
use causeway_runtime::poll;
use tokio::sync::mpsc::Sender;
use zstd::bulk::Compressor;

use crate::base_backup::damage;
use crate::base_backup::damage::{DamageReport, Suspect};
use crate::base_backup::directory_walk::PlannedFile;
use crate::error::Error;

/// Bytes of a file in one blob ([`MAX_BLOB_BYTES`]). A manifest has about 150 bytes for each, so
/// the manifest of a terabyte has some 40 MB; a few blobs per reader are in memory.
///
/// [`MAX_BLOB_BYTES`]: causeway_core::backup::manifest::MAX_BLOB_BYTES
const BLOB_BYTES: usize = 4 << 20;

/// Suspects that a reader collects before they are read again.
const MAX_SUSPECTS: usize = 4096;

/// Time for which pages that changed during the backup may stay torn: a writer may wait for a slow
/// disk in the middle of a page.
const TORN_PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of reading the control file, and the time within which two readings must agree.
const CONTROL_FILE_INTERVAL: Duration = Duration::from_millis(20);
const CONTROL_FILE_TIMEOUT: Duration = Duration::from_secs(1);

const IN_BUFFER: &str = "no more bytes are read than the buffer has";

/// Report of a reader. Each reader is at one file at a time.
#[derive(Debug)]
pub(crate) enum FromReader {
    /// The next blob of the file was read.
    Blob {
        /// Number of the reader.
        reader: usize,
        blob: BlobRead,
    },
    /// The end of the file was reached.
    Finished {
        /// Number of the reader.
        reader: usize,
        /// Path of the file.
        path: String,
    },
    /// A page is damaged, and the operator has not accepted that: from now on pages are only
    /// verified.
    DamageFound,
}

/// Compressed part of a file.
#[derive(Debug)]
pub(crate) struct BlobRead {
    /// Uncompressed size in bytes.
    pub(crate) raw_bytes: u64,
    /// SHA-256 of the uncompressed bytes.
    pub(crate) sha256: Digest,
    /// zstd frame.
    pub(crate) frame: Vec<u8>,
}

/// Files that are still to be read.
pub(crate) type Planned = Arc<Mutex<Receiver<PlannedFile>>>;

/// State that the readers share.
#[derive(Debug)]
pub(crate) struct Reader {
    zstd_level: i32,
    /// LSN at which the backup began, if pages have checksums.
    started_at: Option<Lsn>,
    /// Files whose damage the operator has accepted.
    accepted: BTreeSet<String>,
    /// Whether there is other damage: then the backup has failed, and files are only verified.
    is_lost: AtomicBool,
    /// Whether a reader has failed: then the others stop.
    is_over: AtomicBool,
    findings: Mutex<Findings>,
}

#[derive(Debug, Default)]
struct Findings {
    damage: DamageReport,
    /// Pages with a mismatch that have changed since the backup began.
    torn: Vec<Suspect>,
}

impl Reader {
    /// Returns the state of the readers. With `started_at`, page checksums are verified.
    pub(crate) fn new(
        zstd_level: i32,
        started_at: Option<Lsn>,
        accepted: BTreeSet<String>,
    ) -> Self {
        Self {
            zstd_level,
            started_at,
            accepted,
            is_lost: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            findings: Mutex::new(Findings::default()),
        }
    }

    /// Reads files that no other reader has begun, as reader number `reader`, until the queue is
    /// empty or closed.
    pub(crate) fn run(
        &self,
        reader: usize,
        planned: &Planned,
        out: &Sender<FromReader>,
    ) -> Result<(), Error> {
        let done = self.read_files(reader, planned, out);
        if done.is_err() {
            self.stop();
        }
        done
    }

    /// Stops every reader after its current blob.
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn read_files(
        &self,
        reader: usize,
        planned: &Planned,
        out: &Sender<FromReader>,
    ) -> Result<(), Error> {
        let compressor = self.compressor();
        let compressor =
            compressor.map_err(|_| Error::Internal("zstd cannot be used at this level"))?;
        let mut one = OneReader {
            shared: self,
            compressor,
            number: reader,
            out,
            buffer: vec![0; BLOB_BYTES],
            suspects: Vec::new(),
        };
        while !self.is_over.load(Ordering::Relaxed) {
            let next = planned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(file) = next else {
                break;
            };
            match one.read(&file) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // The file vanished after it was listed, which its WAL records.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &file.location)(error)),
            }
        }
        let confirmed = one.confirm();
        confirmed.map_err(Error::io(
            "read again files in",
            Path::new("the data directory"),
        ))
    }

    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Sorts mismatching pages into damaged ones and ones that PostgreSQL has changed since the
    /// backup began, which are read again at the end. Returns whether the backup has failed.
    fn classify_suspects(&self, suspects: Vec<Suspect>) -> bool {
        let mut findings = self.findings();
        for suspect in suspects {
            let is_changed = self
                .started_at
                .is_some_and(|started_at| suspect.lsn > started_at);
            if is_changed && findings.torn.len() < MAX_SUSPECTS {
                findings.torn.push(suspect);
            } else {
                findings.damage.add(&suspect.path, suspect.block);
            }
        }
        let is_lost = findings.damage.exceeds(&self.accepted);
        is_lost && !self.is_lost.swap(true, Ordering::Relaxed)
    }

    /// Reads the torn pages again, after everything else, and returns the accepted damage.
    pub(crate) fn confirm_torn_pages(&self) -> Result<DamageReport, Error> {
        let mut torn = std::mem::take(&mut self.findings().torn);
        let until = Instant::now() + TORN_PAGE_TIMEOUT;
        while !torn.is_empty() && Instant::now() < until {
            let failed = Error::io("read again files in", Path::new("the data directory"));
            torn = damage::confirm(torn).map_err(failed)?;
        }
        let mut findings = self.findings();
        for page in torn {
            findings.damage.add(&page.path, page.block);
        }
        let damage = findings.damage.clone();
        if damage.exceeds(&self.accepted) {
            return Err(Error::PageChecksums {
                pages: damage.pages(),
                report: damage.report(),
            });
        }
        Ok(damage)
    }

    /// Reads the control file, which a checkpoint may be writing: two readings must agree.
    pub(crate) async fn read_control_file(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let mut before = None;
        let deadline = tokio::time::Instant::now() + CONTROL_FILE_TIMEOUT;
        let polled = poll::until(deadline, CONTROL_FILE_INTERVAL, || {
            std::future::ready(match std::fs::read(path) {
                Ok(now) if before.as_ref() == Some(&now) => Break(Ok(now)),
                Ok(now) => {
                    before = Some(now);
                    Continue(())
                }
                Err(error) => Break(Err(Error::io("read", path)(error))),
            })
        });
        match polled.await {
            Break(read) => read,
            Continue(()) => Err(Error::Incomplete(
                "the control file is written faster than it can be read".to_owned(),
            )),
        }
    }

    /// Returns a compressor for blobs. Its tables are larger than most files, and are reused.
    pub(crate) fn compressor(&self) -> io::Result<Compressor<'static>> {
        Compressor::new(self.zstd_level)
    }

    fn findings(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compresses bytes into a blob.
pub(crate) fn blob(compressor: &mut Compressor<'_>, bytes: &[u8]) -> io::Result<BlobRead> {
    let sha256 = digest::digest(&digest::SHA256, bytes);
    let sha256 = sha256.as_ref().try_into().map_err(io::Error::other)?;
    Ok(BlobRead {
        raw_bytes: u64::try_from(bytes.len()).map_err(io::Error::other)?,
        sha256: Digest::new(sha256),
        frame: compressor.compress(bytes)?,
    })
}

/// One reader, with a buffer for one blob.
struct OneReader<'a> {
    shared: &'a Reader,
    number: usize,
    out: &'a Sender<FromReader>,
    buffer: Vec<u8>,
    compressor: Compressor<'static>,
    /// Pages that are confirmed together, once the backup has failed.
    suspects: Vec<Suspect>,
}

impl OneReader<'_> {
    /// Reads one file. Returns whether the queue is still open.
    fn read(&mut self, planned: &PlannedFile) -> io::Result<bool> {
        let file = File::open(&planned.location)?;
        // Bytes that are appended from here on are in the WAL.
        let end = file.metadata()?.len();
        let mut at = 0;
        while at < end && !self.shared.is_over.load(Ordering::Relaxed) {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let length = self.buffer.len().min(wanted);
            let room = self.buffer.get_mut(..length).expect(IN_BUFFER);
            let length = read_at(&file, room, at)?;
            if length == 0 {
                break;
            }
            self.check_pages(&file, planned, at, length)?;
            if !self.shared.is_lost() {
                let bytes = self.buffer.get(..length).expect(IN_BUFFER);
                let blob = blob(&mut self.compressor, bytes)?;
                let reader = self.number;
                if !self.send(FromReader::Blob { reader, blob }) {
                    return Ok(false);
                }
            }
            at += u64::try_from(length).unwrap_or(u64::MAX);
        }
        if self.shared.is_over.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if self.shared.is_lost() {
            return Ok(true);
        }
        let path = planned.path.clone();
        let reader = self.number;
        Ok(self.send(FromReader::Finished { reader, path }))
    }

    fn send(&self, done: FromReader) -> bool {
        self.out.blocking_send(done).is_ok()
    }

    fn check_pages(
        &mut self,
        file: &File,
        planned: &PlannedFile,
        at: u64,
        length: usize,
    ) -> io::Result<()> {
        let (Some(first), Some(_)) = (planned.first_page, self.shared.started_at) else {
            return Ok(());
        };
        let bytes = self.buffer.get_mut(..length).expect(IN_BUFFER);
        let suspects = damage::find_suspects(planned, first, at, bytes);
        if suspects.is_empty() {
            return Ok(());
        }
        if self.shared.is_lost() {
            self.suspects.extend(suspects);
            if self.suspects.len() >= MAX_SUSPECTS {
                self.confirm()?;
            }
            return Ok(());
        }
        let pauses = if self.shared.accepted.contains(&planned.path) {
            damage::short_pauses()
        } else {
            damage::long_pauses()
        };
        let confirmed = damage::confirm_in(file, bytes, at, suspects, pauses)?;
        if self.shared.classify_suspects(confirmed) {
            self.send(FromReader::DamageFound);
        }
        Ok(())
    }

    /// Confirms the pages that were found after the backup had failed.
    fn confirm(&mut self) -> io::Result<()> {
        let confirmed = damage::confirm(std::mem::take(&mut self.suspects))?;
        self.shared.classify_suspects(confirmed);
        Ok(())
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
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
