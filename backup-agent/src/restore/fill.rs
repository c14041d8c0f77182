//! Packs in, files out: several packs at once, each read as a stream and never held whole.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use ha_core::backup::Manifest;
use ha_core::backup::manifest::{Blob, File};
use ha_runtime::telemetry::chain;
use tokio::task::JoinSet;
use tracing::warn;

use crate::buckets::Buckets;
use crate::config::Config;
use crate::error::Failure;
use crate::layout::Layout;
use crate::object_store::{Bucket, StoreError};
use crate::restore::directory::Directory;
use crate::seal::{Damaged, Identity, Opener, decompress};

/// A pack, and what is in it.
#[derive(Clone, Debug)]
struct Task {
    key: String,
    payload_bytes: u64,
    /// By offset in the payload.
    blobs: BTreeMap<u64, Place>,
}

/// Where a blob belongs.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    offset: u64,
    blob: Blob,
}

/// Why a pack could not be restored from one bucket.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it could not be read")]
    Store(#[from] StoreError),
    #[error("it is damaged")]
    Damaged(#[from] Damaged),
    #[error("`{path}` could not be written")]
    Write {
        path: String,
        source: std::io::Error,
    },
}

/// Fills the files of `manifest`, which are there and empty.
pub(crate) async fn fill(
    config: &Config,
    buckets: &Buckets,
    layout: &Layout,
    identity: Identity,
    manifest: &Manifest,
    files: &[File],
    directory: &Directory,
) -> Result<(), Failure> {
    let mut waiting = tasks(layout, manifest, files, directory).into_iter();
    let identity = Arc::new(identity);
    let mut running = JoinSet::new();
    loop {
        while running.len() < config.limits.parallelism
            && let Some(task) = waiting.next()
        {
            running.spawn(restore_pack(
                buckets.all().to_vec(),
                Arc::clone(&identity),
                task,
            ));
        }
        match running.join_next().await {
            None => return Ok(()),
            Some(Ok(done)) => done?,
            Some(Err(_)) => return Err(Failure::Internal("restoring a pack panicked")),
        }
    }
}

fn tasks(layout: &Layout, manifest: &Manifest, files: &[File], directory: &Directory) -> Vec<Task> {
    let mut tasks: Vec<Task> = manifest
        .packs
        .iter()
        .map(|it| Task {
            key: layout.pack(&it.backup, it.number),
            payload_bytes: it.payload_bytes,
            blobs: BTreeMap::new(),
        })
        .collect();
    for file in files {
        let path = directory.path(&file.path);
        let mut offset = 0;
        for blob in &file.blobs {
            let number = usize::try_from(blob.pack).unwrap_or(usize::MAX);
            if let Some(task) = tasks.get_mut(number) {
                let place = Place {
                    path: path.clone(),
                    offset,
                    blob: blob.clone(),
                };
                task.blobs.insert(blob.offset, place);
            }
            offset += blob.raw_bytes;
        }
    }
    tasks.retain(|it| !it.blobs.is_empty());
    tasks
}

/// Restores one pack from the first bucket that gives it whole. A second try writes the same bytes
/// to the same places.
async fn restore_pack(
    buckets: Vec<Bucket>,
    identity: Arc<Identity>,
    task: Task,
) -> Result<(), Failure> {
    let mut last = Failure::Internal("there are no buckets");
    for bucket in &buckets {
        let broken = match restore_from(bucket, &identity, &task).await {
            Ok(()) => return Ok(()),
            Err(broken) => broken,
        };
        warn!(bucket = bucket.name(), key = %task.key, error = %chain(&broken), "a pack could not be restored from a bucket");
        last = match broken {
            Broken::Store(last) => Failure::Unreachable {
                what: task.key.clone(),
                answered: 0,
                last: Box::new(last),
            },
            Broken::Damaged(why) => Failure::damaged(&task.key)(why),
            Broken::Write { path, source } => {
                return Err(Failure::io("write", path.as_ref())(source));
            }
        };
    }
    Err(last)
}

async fn restore_from(bucket: &Bucket, identity: &Identity, task: &Task) -> Result<(), Broken> {
    let mut body = bucket.open(&task.key).await?;
    let mut opener = Opener::new(identity, &task.key);
    let mut payload = Vec::new();
    // What lies before `begin` in the payload has been used and dropped.
    let mut begin = 0_u64;
    let mut blobs = task.blobs.values().peekable();
    while let Some(part) = body.next().await {
        let part = part.map_err(|it| bucket.broken_off(&task.key, it))?;
        opener.push(&part, &mut payload)?;
        begin += use_up(&mut blobs, begin, &mut payload)?;
    }
    opener.finish(&mut payload)?;
    begin += use_up(&mut blobs, begin, &mut payload)?;
    let end = begin + u64::try_from(payload.len()).unwrap_or(u64::MAX);
    if blobs.peek().is_some() || end != task.payload_bytes {
        let text = format!("it has {end} bytes instead of {}", task.payload_bytes);
        return Err(Damaged::Content(text).into());
    }
    Ok(())
}

/// Writes every blob that `payload` holds whole, drops what lies before the next one, and returns
/// how much was dropped.
fn use_up<'a>(
    blobs: &mut std::iter::Peekable<impl Iterator<Item = &'a Place>>,
    begin: u64,
    payload: &mut Vec<u8>,
) -> Result<u64, Broken> {
    let mut used = 0;
    while let Some(place) = blobs.peek() {
        let from = usize::try_from(place.blob.offset - begin).unwrap_or(usize::MAX);
        let length = usize::try_from(place.blob.stored_bytes).unwrap_or(usize::MAX);
        let end = from.saturating_add(length);
        let Some(frame) = payload.get(from..end) else {
            break;
        };
        write(place, frame)?;
        used = end;
        blobs.next();
    }
    payload.drain(..used);
    Ok(u64::try_from(used).unwrap_or(0))
}

fn write(place: &Place, frame: &[u8]) -> Result<(), Broken> {
    let Place { path, offset, blob } = place;
    let bytes = decompress(frame, blob.raw_bytes)?;
    let found = digest::digest(&digest::SHA256, &bytes);
    if found.as_ref() != blob.sha256.bytes() {
        let text = format!("a part of `{}` has another checksum", path.display());
        return Err(Damaged::Content(text).into());
    }
    let opened = OpenOptions::new().write(true).open(path);
    let written = opened.and_then(|it| it.write_all_at(&bytes, *offset));
    written.map_err(|source| Broken::Write {
        path: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use ha_core::backup::manifest::Digest;

    use super::*;

    /// A genuine pack can still not be the one that the manifest means.
    #[test]
    fn writes_only_a_blob_that_has_its_checksum() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1259");
        std::fs::write(&path, b"").unwrap();
        let frame = zstd::bulk::compress(b"page", 1).unwrap();
        let sha256 = |it: &[u8]| digest::digest(&digest::SHA256, it).as_ref().try_into();
        let place = |of: &[u8]| Place {
            path: path.clone(),
            offset: 0,
            blob: Blob {
                pack: 0,
                offset: 0,
                stored_bytes: 13,
                raw_bytes: 4,
                sha256: Digest::new(sha256(of).unwrap()),
            },
        };

        assert!(write(&place(b"rage"), &frame).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        write(&place(b"page"), &frame).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"page");
    }
}
