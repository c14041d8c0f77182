//! Temporary file in which a WAL file is written, in the directory of its final path.
//!
//! Its name is fixed, so a recovery that is stopped repeatedly leaves one file in `pg_wal` and not
//! one each time: PostgreSQL removes no unknown files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use tempfile::NamedTempFile;

/// Maximum number of temporary files: one fetch uses one per bucket that it reads concurrently.
const NAMES: u32 = 16;

/// Returns an empty file in the directory of `path`, which is removed unless it is renamed.
pub(super) fn scratch_file(path: &Path) -> io::Result<NamedTempFile> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name");
    let name = path.file_name().ok_or_else(no_name)?.to_string_lossy();
    let mut last = None;
    for number in 0..NAMES {
        let made = tempfile::Builder::new()
            .prefix(&format!(".{name}.backup-agent-{number}"))
            .rand_bytes(0)
            .make_in(directory_of(path), take);
        match made {
            Ok(file) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no name is tried")))
}

pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Takes a file that no process is writing, such as one of a killed fetch.
fn take(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    let file = options.mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Its previous owner may have renamed it meanwhile.
    let is_still_there = fs::metadata(path).is_ok_and(|there| {
        file.metadata()
            .is_ok_and(|ours| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    });
    if !is_still_there {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // Not for a new file: ext4 writes out a file that was truncated to nothing at once
    // (`auto_da_alloc`).
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_file_of_a_killed_fetch_then_reused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("RECOVERYXLOG");
        let (_, left) = scratch_file(&path).unwrap().keep().unwrap();
        fs::write(&left, "half a segment").unwrap();

        let first = scratch_file(&path).unwrap();
        let second = scratch_file(&path).unwrap();
        assert_eq!(first.path(), left);
        assert_ne!(second.path(), left, "the other bucket's");
        assert_eq!(fs::read(first.path()).unwrap(), b"");

        first.persist(&path).unwrap();
        drop(second);
        let names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names, [path]);
    }
}
