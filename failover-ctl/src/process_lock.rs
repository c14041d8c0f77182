//! One agent and one guard for a node, and no second.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Takes the lock at `path` for as long as the value lives; the kernel frees it however the process
/// ends.
///
/// # Errors
///
/// When another `program` of this node has it.
pub(crate) fn lock(path: &Path, program: &str) -> anyhow::Result<Flock<File>> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = file.with_context(|| format!("could not open `{}`", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => bail!("another {program} is at work for this node"),
        Err((_, errno)) => {
            Err(errno).with_context(|| format!("could not lock `{}`", path.display()))
        }
    }
}
