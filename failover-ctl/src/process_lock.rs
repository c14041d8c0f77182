//! One agent and one guard for a node, and no second.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Takes the lock at `path` for as long as the value lives; the kernel frees it however the process
/// ends.
///
/// # Errors
///
/// When another `program` of this node has it.
pub(crate) fn lock(path: &Path, program: &str) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = file.with_context(|| format!("could not open `{}`", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another {program} is at work for this node"),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("could not lock `{}`", path.display()))
        }
    }
}
