//! Restore plan: a manifest, spooled to a file and read again for a part of it at a time, so that
//! memory does not grow with the number of files.

use std::fs::File;
use std::io::{BufReader, Seek as _, Write as _};
use std::ops::Range;
use std::path::Path;

use causeway_core::backup::manifest::lines::ManifestLineError;
use causeway_core::backup::manifest::paths::{KnownPaths, PathChecker};
use causeway_core::backup::manifest::{self, Blob, ManifestError, ManifestReader};
use causeway_core::backup::{BackupId, Manifest};
use causeway_runtime::telemetry::chain;

use crate::encryption::decrypt_error::DecryptError;
use crate::error::Error;
use crate::storage::download::{DownloadError, Downloader, SinkDemand};
use crate::storage::manifest_sink::{ManifestOutput, ManifestSink};
use crate::storage::object_keys::ObjectKeys;

/// Maximum number of blobs that are planned at a time: about 100 bytes each, paths included. The
/// manifest is read again for each part, which takes about a second for a million files.
const MAX_PLANNED_BLOBS: u64 = 1 << 17;

/// Validated manifest with its files in a spool.
#[derive(Debug)]
pub(super) struct RestorePlan {
    head: Manifest,
    spool: File,
    paths: KnownPaths,
    /// Number of blobs in each pack.
    blobs: Vec<u64>,
}

/// Destination of a blob.
#[derive(Clone, Debug)]
pub(super) struct BlobPlace {
    /// Number of its file in [`PackBatch::paths`].
    pub(super) file: usize,
    /// Offset in the file.
    pub(super) at: u64,
    pub(super) blob: Blob,
}

/// Part of a backup that is planned at once: some packs, or some blobs of a very large pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackRun {
    packs: Range<usize>,
    /// Blobs of each pack, in the order of the manifest.
    blobs: Range<u64>,
}

/// Packs of a run, and their blobs.
#[derive(Debug)]
pub(super) struct PackBatch {
    /// Paths of the files.
    pub(super) paths: Vec<Box<str>>,
    /// Number of each pack in the manifest, and its blobs by their offset in it.
    pub(super) packs: Vec<(usize, Vec<BlobPlace>)>,
}

impl RestorePlan {
    /// Reads and validates the manifest of `backup`. Its spool is an unnamed file near `directory`,
    /// and nothing else is created.
    pub(super) async fn fetch(
        downloads: &Downloader,
        object_keys: &ObjectKeys,
        system_id: u64,
        backup: &BackupId,
        directory: &Path,
    ) -> Result<Self, Error> {
        let near = directory.ancestors().find(|ancestor| ancestor.is_dir());
        let near = near.unwrap_or(Path::new("/"));
        let spool = tempfile::tempfile_in(near).map_err(Error::io("create a file in", near))?;
        let mut sink = ManifestSink::new(ManifestSpool {
            file: spool,
            near,
            system_id,
            backup,
            plan: None,
        });
        downloads
            .run(&object_keys.manifest(backup), &mut sink)
            .await?;
        let plan = sink.output.plan;
        plan.ok_or(Error::Internal("a manifest ended without its end"))
    }

    fn read(spool: File) -> Result<Self, ManifestLineError> {
        let reader = ManifestReader::open(rewind_spool(&spool)?)?;
        let head = reader.head().clone();
        let mut blobs = vec![0; head.packs.len()];
        let mut check = PathChecker::new(&head)?;
        for file in reader {
            let file = file?;
            check.add(&file)?;
            for blob in &file.blobs {
                let count = usize::try_from(blob.pack).ok();
                let count = count.and_then(|index| blobs.get_mut(index));
                *count.ok_or_else(|| ManifestError::Blob(file.path.clone()))? += 1;
            }
        }
        let paths = check.finish()?;
        Ok(Self {
            head,
            spool,
            paths,
            blobs,
        })
    }

    /// Returns the manifest without its files.
    pub(super) fn head(&self) -> &Manifest {
        &self.head
    }

    /// Returns whether the backup has a file with this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Returns the number of blobs.
    pub(super) fn blobs(&self) -> u64 {
        self.blobs.iter().sum()
    }

    /// Calls `visit` with each file.
    pub(super) fn each_file(
        &self,
        mut visit: impl FnMut(manifest::ManifestFile) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let reader = rewind_spool(&self.spool).map_err(ManifestLineError::Read);
        let reader = reader.and_then(ManifestReader::open).map_err(unreadable)?;
        for file in reader {
            visit(file.map_err(unreadable)?)?;
        }
        Ok(())
    }

    /// Returns the runs, each of which is planned at once.
    pub(super) fn runs(&self) -> Vec<PackRun> {
        runs(&self.blobs, MAX_PLANNED_BLOBS)
    }

    /// Returns the packs and files of a run.
    pub(super) fn batch(&self, run: &PackRun) -> Result<PackBatch, Error> {
        let mut paths: Vec<Box<str>> = Vec::new();
        let first = run.packs.start;
        let mut seen = vec![0_u64; run.packs.len()];
        let mut packs: Vec<(usize, Vec<BlobPlace>)> =
            run.packs.clone().map(|pack| (pack, Vec::new())).collect();
        self.each_file(|file| {
            let mut at = 0_u64;
            let mut has_path = false;
            for blob in file.blobs {
                let raw_bytes = blob.raw_bytes;
                let pack = usize::try_from(blob.pack).unwrap_or(usize::MAX);
                let number = pack.checked_sub(first);
                let found = number.and_then(|index| packs.get_mut(index).zip(seen.get_mut(index)));
                let found = found.and_then(|((_, places), seen)| {
                    *seen += 1;
                    run.blobs.contains(&(*seen - 1)).then_some(places)
                });
                if let Some(places) = found {
                    if !has_path {
                        paths.push(file.path.as_str().into());
                        has_path = true;
                    }
                    let file = paths.len() - 1;
                    places.push(BlobPlace { file, at, blob });
                }
                at = at.saturating_add(raw_bytes);
            }
            Ok(())
        })?;
        for (_, places) in &mut packs {
            places.sort_by_key(|place| place.blob.offset);
        }
        packs.retain(|(_, places)| !places.is_empty());
        Ok(PackBatch { paths, packs })
    }
}

fn runs(blobs: &[u64], at_once: u64) -> Vec<PackRun> {
    let mut runs: Vec<PackRun> = Vec::new();
    let mut planned = u64::MAX;
    for (pack, &count) in blobs.iter().enumerate() {
        let packs = pack..pack + 1;
        match runs.last_mut() {
            Some(run) if planned.saturating_add(count) <= at_once => {
                run.packs.end = packs.end;
                planned += count;
            }
            _ if count <= at_once => {
                let blobs = 0..u64::MAX;
                runs.push(PackRun { packs, blobs });
                planned = count;
            }
            // The pack is read once for each part: a pack with many blobs has small ones.
            _ => {
                let parts =
                    (0..count.div_ceil(at_once)).map(|part| part * at_once..(part + 1) * at_once);
                runs.extend(parts.map(|blobs| PackRun {
                    packs: packs.clone(),
                    blobs,
                }));
                planned = u64::MAX;
            }
        }
    }
    runs
}

fn rewind_spool(mut spool: &File) -> std::io::Result<BufReader<&File>> {
    spool.rewind()?;
    Ok(BufReader::with_capacity(256 << 10, spool))
}

/// The spool has been read and validated before.
fn unreadable(error: ManifestLineError) -> Error {
    match error {
        ManifestLineError::Read(error) => {
            Error::io("read", Path::new("the spooled manifest"))(error)
        }
        ManifestLineError::TooLong { .. }
        | ManifestLineError::Malformed { .. }
        | ManifestLineError::FileCount { .. }
        | ManifestLineError::Invalid(_) => Error::Internal("the spooled manifest has changed"),
    }
}

/// Spools a manifest to a file, and validates it at its end.
struct ManifestSpool<'a> {
    file: File,
    near: &'a Path,
    system_id: u64,
    backup: &'a BackupId,
    plan: Option<RestorePlan>,
}

impl ManifestOutput for ManifestSpool<'_> {
    fn begin(&mut self) -> Result<(), Error> {
        let failed = |error| Error::io("write a file in", self.near)(error);
        self.file.set_len(0).map_err(failed)?;
        self.file.rewind().map_err(failed)
    }

    fn write(&mut self, content: &[u8]) -> Result<SinkDemand, DownloadError> {
        let written = self.file.write_all(content);
        written.map_err(Error::io("write a file in", self.near))?;
        Ok(SinkDemand::More)
    }

    fn end(&mut self) -> Result<&Manifest, DownloadError> {
        let failed = Error::io("write a file in", self.near);
        let file = self.file.try_clone().map_err(failed)?;
        let plan = RestorePlan::read(file).map_err(|error| DecryptError::Content(chain(&error)))?;
        let head = plan.head();
        if head.summary.id != *self.backup || head.system_id != self.system_id {
            let text = "it belongs to another backup or cluster";
            return Err(DecryptError::Content(text.to_owned()).into());
        }
        Ok(self.plan.insert(plan).head())
    }
}

#[cfg(test)]
mod tests;
