//! Spool of a manifest's lines, kept on disk until the first line is known, and the upload of the
//! manifest from it.

use std::fs::{self, File as DiskFile};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use causeway_core::backup::Manifest;
use causeway_core::backup::manifest::lines::ManifestLineError;
use causeway_core::backup::manifest::paths::PathChecker;
use causeway_core::backup::manifest::{ManifestFile, ManifestReader, lines};

use crate::base_backup::bucket_writers::BucketWriters;
use crate::config::Config;
use crate::encryption::metadata::ManifestMetadata;
use crate::encryption::stream::Encryptor;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::multipart_upload::PART_BYTES;
use crate::storage::object_keys::ObjectKeys;

/// Bytes of the spool that are compressed at a time.
const READ_BYTES: usize = 256 << 10;

/// Files of a backup in progress. The files of a large database would not fit in memory.
#[derive(Debug)]
pub(crate) struct FileSpool {
    /// Unnamed file, which is removed with the process.
    out: BufWriter<DiskFile>,
    directory: PathBuf,
    files: u64,
    raw_bytes: u64,
}

impl FileSpool {
    /// Creates an empty spool in `directory`.
    pub(crate) fn create(directory: &Path) -> Result<Self, Error> {
        let made = fs::create_dir_all(directory).and_then(|()| tempfile::tempfile_in(directory));
        let out = made.map_err(Error::io("create a temporary file in", directory))?;
        Ok(Self {
            out: BufWriter::new(out),
            directory: directory.to_owned(),
            files: 0,
            raw_bytes: 0,
        })
    }

    /// Adds a file whose blobs are all stored.
    pub(crate) fn add(&mut self, file: &ManifestFile) -> Result<(), Error> {
        let line = lines::file_line(file)?;
        let written = self.out.write_all(&line);
        written.map_err(Error::io("write a temporary file in", &self.directory))?;
        self.files += 1;
        self.raw_bytes += file.bytes();
        Ok(())
    }

    /// Returns the number of files.
    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    /// Returns the total size of the files in bytes.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Returns the lines from the first.
    fn into_lines(self) -> Result<DiskFile, Error> {
        let failed = |error| Error::io("read a temporary file in", &self.directory)(error);
        let mut file = self
            .out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        file.rewind().map_err(failed)?;
        Ok(file)
    }
}

/// Validates the manifest as a restore does: a manifest that a restore would refuse must not pass
/// for a backup.
fn check_restorable(manifest: &Manifest, spooled: &mut DiskFile) -> Result<(), Error> {
    let head = lines::head_line(manifest)?;
    let mut paths = PathChecker::new(manifest).map_err(ManifestLineError::from)?;
    for file in ManifestReader::open(head.as_slice().chain(BufReader::new(&mut *spooled)))? {
        paths.add(&file?).map_err(ManifestLineError::from)?;
    }
    paths.finish().map_err(ManifestLineError::from)?;
    let failed = Error::io("read", Path::new("the spooled files of the manifest"));
    spooled.rewind().map_err(failed)
}

/// Stores the manifest in the buckets that hold every pack, which completes the backup, and returns
/// the buckets that have it.
pub(crate) async fn store(
    config: &Config,
    object_keys: &ObjectKeys,
    manifest: &Manifest,
    files: FileSpool,
    holders: &[Bucket],
) -> Result<Vec<String>, Error> {
    let key = object_keys.manifest(&manifest.summary.id);
    let mut writers = BucketWriters::start(holders, config.required_buckets);
    match send(config, &key, manifest, files, &mut writers).await {
        Ok(()) => {
            let stored = writers.finish().await?;
            Ok(stored
                .iter()
                .map(|bucket| bucket.name().to_owned())
                .collect())
        }
        Err(error) => {
            writers.abandon().await;
            Err(error)
        }
    }
}

async fn send(
    config: &Config,
    key: &str,
    manifest: &Manifest,
    files: FileSpool,
    writers: &mut BucketWriters,
) -> Result<(), Error> {
    let failed = |error: io::Error| Error::io("seal", Path::new(key))(error);
    let metadata = ManifestMetadata {
        summary: manifest.summary.clone(),
    };
    let mut encryptor = Encryptor::new(&config.recipients, key, &metadata).map_err(failed)?;
    let mut encoder =
        zstd::stream::write::Encoder::new(Vec::new(), config.limits.zstd_level).map_err(failed)?;
    encoder
        .write_all(&lines::head_line(manifest)?)
        .map_err(failed)?;
    let mut spooled = files.into_lines()?;
    check_restorable(manifest, &mut spooled)?;
    writers.begin(key.to_owned()).await?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = spooled.read(&mut buffer).map_err(failed)?;
        encoder
            .write_all(buffer.get(..length).unwrap_or(&buffer))
            .map_err(failed)?;
        encryptor
            .write(&std::mem::take(encoder.get_mut()))
            .map_err(failed)?;
        if length == 0 {
            break;
        }
        if encryptor.encrypted_bytes() >= PART_BYTES {
            writers.part(Bytes::from(encryptor.take())).await?;
        }
    }
    let end = encoder.finish().map_err(failed)?;
    encryptor.write(&end).map_err(failed)?;
    writers
        .last(Bytes::from(encryptor.finish().map_err(failed)?))
        .await
}

#[cfg(test)]
mod tests {
    use causeway_core::backup::manifest::{Blob, Digest};

    use super::*;

    #[test]
    fn files_added_then_counted_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let mut spool = FileSpool::create(&state).unwrap();
        for path in ["PG_VERSION", "base/5/1259"] {
            let blob = Blob {
                pack: 0,
                offset: 0,
                stored_bytes: 5,
                raw_bytes: 3,
                sha256: Digest::new([0; 32]),
            };
            let file = ManifestFile {
                path: path.to_owned(),
                blobs: vec![blob],
            };
            spool.add(&file).unwrap();
        }

        assert_eq!((spool.files(), spool.raw_bytes()), (2, 6));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "it has no name");
        let mut text = String::new();
        let mut lines = spool.into_lines().unwrap();
        lines.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("{\"path\":\"PG_VERSION\""), "{text}");
    }
}
