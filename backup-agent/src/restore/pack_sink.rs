//! Sink of one pack: decompresses its blobs and writes them into their files.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use causeway_core::backup::manifest::Blob;

use crate::encryption::decompress::PartDecompressor;
use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::header::ObjectHeader;
use crate::error::Error;
use crate::restore::directory::TargetDirectory;
use crate::restore::plan::BlobPlace;
use crate::restore::restore_progress::RestoreProgress;
use crate::storage::download::{DownloadError, DownloadSink, SinkDemand};

/// Maximum rest of a pack that is read although it is not needed: the connection can then be
/// reused.
const MAX_SKIPPED_BYTES: u64 = 1 << 20;

/// Files that a batch of packs is written into.
pub(super) struct OpenFiles {
    directory: Arc<TargetDirectory>,
    paths: Arc<[Box<str>]>,
    /// The file that was written last, with its number.
    open: Option<(usize, File)>,
}

impl OpenFiles {
    /// Returns the files with these paths in `directory`, none of them open.
    pub(super) fn new(directory: Arc<TargetDirectory>, paths: Arc<[Box<str>]>) -> Self {
        Self {
            directory,
            paths,
            open: None,
        }
    }

    fn path(&self, number: usize) -> &str {
        self.paths.get(number).map_or("", |path| path)
    }

    fn open(&mut self, number: usize) -> Result<&File, Error> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = self.directory.path(self.path(number));
            let file = TargetDirectory::open(&path).map_err(Error::io("open", &path))?;
            self.open = Some((number, file));
        }
        let open = self.open.as_ref().map(|(_, file)| file);
        open.ok_or(Error::Internal("a file was not opened"))
    }
}

/// Sink of one pack.
pub(super) struct PackSink {
    files: OpenFiles,
    decompressor: PartDecompressor,
    progress: Arc<RestoreProgress>,
    payload_bytes: u64,
    /// Blobs by offset in the payload. The first `next` are written.
    left: Vec<BlobPlace>,
    next: usize,
    /// Offset in the payload before which all bytes have been consumed.
    begin: u64,
}

impl PackSink {
    /// Returns a sink that writes the blobs `left`, sorted by offset, of a pack with this payload.
    pub(super) fn new(
        files: OpenFiles,
        progress: Arc<RestoreProgress>,
        payload_bytes: u64,
        left: Vec<BlobPlace>,
    ) -> Self {
        Self {
            files,
            decompressor: PartDecompressor::default(),
            progress,
            payload_bytes,
            left,
            next: 0,
            begin: 0,
        }
    }

    /// Returns whether every blob is in its file.
    pub(super) fn is_complete(&self) -> bool {
        self.left.is_empty()
    }

    /// Removes every blob that is already in its file from the blobs to write.
    pub(super) fn keep_existing_blobs(&mut self) -> Result<(), Error> {
        let places = std::mem::take(&mut self.left);
        for place in places {
            let mut bytes = vec![0; usize::try_from(place.blob.raw_bytes).unwrap_or(0)];
            let file = self.files.open(place.file)?;
            // A shorter file lacks it; an unreadable one is written again.
            let is_there = file.read_exact_at(&mut bytes, place.at).is_ok()
                && has_checksum(&place.blob, &bytes);
            if is_there {
                self.progress.add(place.blob.raw_bytes);
            } else {
                self.left.push(place);
            }
        }
        Ok(())
    }

    fn write(&mut self, place: &BlobPlace, frame: &[u8]) -> Result<(), DownloadError> {
        let bytes = self.decompressor.decompress(frame, place.blob.raw_bytes)?;
        if !has_checksum(&place.blob, bytes) {
            let path = self.files.path(place.file);
            let text = format!("a blob of `{path}` has another checksum");
            return Err(DecryptError::Content(text).into());
        }
        let written = self.files.open(place.file)?.write_all_at(bytes, place.at);
        written.map_err(Error::io("write", Path::new(self.files.path(place.file))))?;
        self.progress.add(place.blob.raw_bytes);
        Ok(())
    }

    /// Writes every blob that is complete in `payload`.
    fn write_whole(&mut self, payload: &[u8]) -> Result<(), DownloadError> {
        while let Some(place) = self.left.get(self.next) {
            let Some(from) = place.blob.offset.checked_sub(self.begin) else {
                return Err(Error::Internal("blobs of a pack are out of order").into());
            };
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let length = usize::try_from(place.blob.stored_bytes).unwrap_or(usize::MAX);
            let Some(frame) = payload.get(from..from.saturating_add(length)) else {
                break;
            };
            let place = place.clone();
            self.write(&place, frame)?;
            self.next += 1;
        }
        Ok(())
    }
}

impl DownloadSink for PackSink {
    fn begin(&mut self) -> Result<(), Error> {
        self.left.drain(..self.next);
        self.next = 0;
        self.begin = 0;
        Ok(())
    }

    fn take(&mut self, payload: &mut Vec<u8>) -> Result<SinkDemand, DownloadError> {
        self.write_whole(payload)?;
        // The bytes before the next blob have been used, or are not needed.
        let next = self.left.get(self.next).map(|place| place.blob.offset);
        let unused = next.map_or(u64::MAX, |offset| offset.saturating_sub(self.begin));
        let unused = usize::try_from(unused)
            .unwrap_or(usize::MAX)
            .min(payload.len());
        payload.drain(..unused);
        self.begin += u64::try_from(unused).unwrap_or(0);
        if next.is_none() && self.payload_bytes.saturating_sub(self.begin) > MAX_SKIPPED_BYTES {
            return Ok(SinkDemand::Nothing);
        }
        Ok(SinkDemand::More)
    }

    fn end(&mut self, payload: &mut Vec<u8>, _header: &ObjectHeader) -> Result<(), DownloadError> {
        self.take(payload)?;
        let end = self.begin + u64::try_from(payload.len()).unwrap_or(u64::MAX);
        if self.next < self.left.len() || end != self.payload_bytes {
            let text = format!("it has {end} bytes instead of {}", self.payload_bytes);
            return Err(DecryptError::Content(text).into());
        }
        Ok(())
    }

    fn progress(&self) -> u64 {
        // Written blobs are removed from `left` when the next attempt begins.
        let left = self.left.len() - self.next;
        u64::MAX - u64::try_from(left).unwrap_or(0)
    }
}

fn has_checksum(blob: &Blob, bytes: &[u8]) -> bool {
    u64::try_from(bytes.len()).is_ok_and(|length| length == blob.raw_bytes)
        && digest::digest(&digest::SHA256, bytes).as_ref() == blob.sha256.bytes()
}

#[cfg(test)]
mod tests {
    use causeway_core::backup::manifest::Digest;

    use super::*;

    const PAGES: [&[u8]; 3] = [b"first page", b"second", b"third and last"];

    /// Two files share a blob, and both receive it.
    #[test]
    fn shared_blob_then_in_each_file() {
        let world = World::new();
        let mut sink = world.sink(&[(0, 0, 0), (0, 10, 1), (1, 0, 1), (1, 6, 2)]);
        let mut payload = world.payload.clone();
        sink.begin().unwrap();
        assert_eq!(sink.take(&mut payload).unwrap(), SinkDemand::More);
        assert!(payload.is_empty());
        assert_eq!(world.content("0"), b"first pagesecond");
        assert_eq!(world.content("1"), b"secondthird and last");
        assert_eq!(sink.progress.blobs(), 4);
    }

    /// An interrupted pack resumes with its missing blobs, wherever it was cut.
    #[test]
    fn read_cut_anywhere_then_rest_is_written() {
        for cut in 0..World::new().payload.len() {
            let world = World::new();
            let mut sink = world.sink(&[(0, 0, 0), (1, 0, 1), (0, 10, 2)]);
            for length in [cut, world.payload.len()] {
                sink.begin().unwrap();
                let mut payload = Vec::new();
                for byte in &world.payload[..length] {
                    payload.push(*byte);
                    sink.take(&mut payload).unwrap();
                }
            }
            assert_eq!(world.content("0"), b"first pagethird and last");
            assert_eq!(world.content("1"), b"second");
            assert_eq!(sink.progress.blobs(), 3, "{cut}");
        }
    }

    #[test]
    fn interrupted_then_only_missing_parts_left() {
        let world = World::new();
        std::fs::write(world.root.path().join("0"), b"first pageSECOND").unwrap();
        let mut sink = world.sink(&[(0, 0, 0), (0, 10, 1), (1, 0, 2)]);
        sink.keep_existing_blobs().unwrap();
        let left: Vec<_> = sink
            .left
            .iter()
            .map(|place| (place.file, place.at))
            .collect();
        assert_eq!(left, [(0, 10), (1, 0)]);
    }

    /// A validly encrypted pack may still not be the one in the manifest.
    #[test]
    fn other_content_then_not_written() {
        let world = World::new();
        let mut sink = world.sink(&[(0, 0, 0)]);
        sink.left[0].blob.sha256 = Digest::new([1; 32]);
        sink.begin().unwrap();
        let broken = sink.take(&mut world.payload.clone()).unwrap_err();
        assert!(matches!(broken, DownloadError::Damaged(_)));
        assert_eq!(world.content("0"), b"");
    }

    struct World {
        root: tempfile::TempDir,
        payload: Vec<u8>,
        blobs: Vec<Blob>,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in ["0", "1"] {
                std::fs::write(root.path().join(name), b"").unwrap();
            }
            let mut payload = Vec::new();
            let blobs = PAGES.iter().map(|page| {
                let frame = zstd::bulk::compress(page, 1).unwrap();
                let sha256 = digest::digest(&digest::SHA256, page);
                let blob = Blob {
                    pack: 0,
                    offset: payload.len().try_into().unwrap(),
                    stored_bytes: frame.len().try_into().unwrap(),
                    raw_bytes: page.len().try_into().unwrap(),
                    sha256: Digest::new(sha256.as_ref().try_into().unwrap()),
                };
                payload.extend(frame);
                blob
            });
            let blobs = blobs.collect();
            Self {
                root,
                payload,
                blobs,
            }
        }

        /// Returns a sink whose places are a file, a position in it and a blob each.
        fn sink(&self, places: &[(usize, u64, usize)]) -> PackSink {
            let place = |&(file, at, blob): &(usize, u64, usize)| {
                let blob = self.blobs[blob].clone();
                BlobPlace { file, at, blob }
            };
            let mut left: Vec<_> = places.iter().map(place).collect();
            left.sort_by_key(|place| place.blob.offset);
            let files = OpenFiles::new(
                Arc::new(TargetDirectory::of(self.root.path())),
                ["0", "1"].map(Into::into).to_vec().into(),
            );
            let progress = Arc::new(RestoreProgress::new(30));
            PackSink::new(
                files,
                progress,
                self.payload.len().try_into().unwrap(),
                left,
            )
        }

        fn content(&self, name: &str) -> Vec<u8> {
            std::fs::read(self.root.path().join(name)).unwrap()
        }
    }
}
