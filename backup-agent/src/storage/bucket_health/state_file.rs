//! Files that several processes update: each is locked for a moment, and replaced whole.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// Time to wait for another process. An update takes milliseconds; a frozen process must not stop the archiver.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Readable by all users: `node_exporter` runs as another one.
const MODE: u32 = 0o644;

/// Locks the file at `path`, until the returned file is dropped.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)?;
    give_to_owner(&file, path)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let text = format!("another process holds `{}`", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_INTERVAL),
        }
    }
}

/// Replaces a file atomically. The mode is set after its creation, because PostgreSQL and the units have a umask that
/// would hide it from other users.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(MODE))?;
    give_to_owner(file.as_file(), path)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Gives a file that root has made to the owner of its directory, who could not update it otherwise.
fn give_to_owner(file: &File, path: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let directory = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    fchown(file, Some(directory.uid()), Some(directory.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_held_by_another_then_error_within_its_timeout() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = lock(&path).unwrap();
        assert_eq!(lock(&path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(held);
        lock(&path).unwrap();
    }
}
