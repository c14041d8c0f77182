//! Lock files of a PostgreSQL server that was killed.
//!
//! PostgreSQL refuses to start while any process of its user has the process id in the file (`CreateLockFile` in
//! `src/backend/utils/init/miscinit.c`), and after a boot another program often has it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::config::PostgresSettings;

/// Removes the lock files of this data directory. The guard has verified that no process uses it.
///
/// # Errors
///
/// When one cannot be removed.
pub(super) fn remove_stale(postgres: &PostgresSettings) -> io::Result<()> {
    let data = &postgres.data_directory;
    remove_file(&data.join("postmaster.pid"))?;
    let lock = socket_lock(postgres);
    if belongs_to(&lock, data) {
        remove_file(&lock)?;
    }
    Ok(())
}

fn socket_lock(postgres: &PostgresSettings) -> PathBuf {
    let name = format!(".s.PGSQL.{}.lock", postgres.port);
    postgres.socket_directory.join(name)
}

/// Returns whether the second line of the lock file names this data directory: another cluster may use the same
/// socket directory.
fn belongs_to(lock: &Path, data: &Path) -> bool {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let Ok(text) = fs::read_to_string(lock) else {
        return false; // PostgreSQL reports a lock file that it cannot read.
    };
    let named = text.lines().nth(1).map(Path::new);
    named.is_some_and(|path| resolved(path) == resolved(data))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            warn!(path = %path.display(), "stale lock file removed");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::Nodes;

    #[test]
    fn pid_reused_by_another_process_then_locks_removed() {
        let nodes = Nodes::new();
        let postgres = nodes.node("a").host().postgres;
        let (data, own) = (&postgres.data_directory, std::process::id());
        let pid = data.join("postmaster.pid");
        fs::create_dir_all(data).unwrap();
        fs::create_dir_all(&postgres.socket_directory).unwrap();
        fs::write(&pid, format!("{own}\n{}\n", data.display())).unwrap();
        let lock = socket_lock(&postgres);
        fs::write(&lock, format!("{own}\n{}\n", data.display())).unwrap();

        remove_stale(&postgres).unwrap();
        assert!(!pid.exists() && !lock.exists());
        remove_stale(&postgres).unwrap();

        fs::write(&lock, format!("{own}\n/another/cluster\n")).unwrap();
        remove_stale(&postgres).unwrap();
        assert!(lock.exists(), "lock file of another cluster");
    }
}
