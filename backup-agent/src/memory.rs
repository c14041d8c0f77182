//! What one short command tells the next: which bucket was down a moment ago, and what it lacks.
//!
//! Losing these notes loses no data: `wal catch-up` and every backup compare the buckets themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_runtime::clock;
use tracing::{debug, warn};

/// For how long a bucket that did not answer is not asked again by a command that need not. Each
/// probe of a dead one costs up to a second, so a load of segments is slowed by a fifteenth.
const AVOIDED_FOR: Duration = Duration::from_secs(15);

/// The notes, in the state directory.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// Returns the notes kept in `directory`, which is made when there is something to note.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Says whether the bucket did not answer a moment ago.
    pub(crate) fn is_avoided(&self, bucket: &str) -> bool {
        let Ok(note) = fs::read_to_string(self.down(bucket)) else {
            return false;
        };
        let Some((boot, millis)) = note.trim().split_once(' ') else {
            return false;
        };
        let noted_at = millis.parse().map(Duration::from_millis);
        let now = clock::now().boottime();
        clock::boot_id().is_ok_and(|it| it == boot)
            && noted_at.is_ok_and(|it| it <= now && now < it + AVOIDED_FOR)
    }

    /// Notes that the bucket did not answer.
    pub(crate) fn avoid(&self, bucket: &str) {
        let boot = clock::boot_id().unwrap_or_default();
        let note = format!("{boot} {}\n", clock::now().boottime().as_millis());
        self.write(&self.down(bucket), &note);
    }

    /// Notes that the bucket answered.
    pub(crate) fn answered(&self, bucket: &str) {
        remove(&self.down(bucket));
    }

    /// Notes that the bucket lacks `key`.
    ///
    pub(crate) fn lacks(&self, bucket: &str, key: &str) {
        self.write(&self.lacking(bucket).join(file_name(key)), "");
    }

    /// Returns up to `most` keys that the bucket lacks, the oldest first.
    pub(crate) fn lacked(&self, bucket: &str, most: usize) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.lacking(bucket)) else {
            return Vec::new();
        };
        let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
        let mut keys: Vec<String> = names.map(|it| it.replace('+', "/")).collect();
        keys.sort();
        keys.truncate(most);
        keys
    }

    /// Forgets that the bucket lacked `key`.
    pub(crate) fn caught_up(&self, bucket: &str, key: &str) {
        remove(&self.lacking(bucket).join(file_name(key)));
    }

    /// Says whether notes can be kept.
    pub(crate) fn check(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        tempfile::tempfile_in(&self.directory).map(drop)
    }

    fn down(&self, bucket: &str) -> PathBuf {
        self.directory.join("down").join(bucket)
    }

    fn lacking(&self, bucket: &str) -> PathBuf {
        self.directory.join("lacking").join(bucket)
    }

    fn write(&self, path: &Path, text: &str) {
        let directory = path.parent().unwrap_or(&self.directory);
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(path, text));
        if let Err(error) = written {
            warn!(path = %path.display(), %error, "a note on a bucket could not be kept");
        }
    }
}

/// Keys hold no `+`, and a file name can hold no `/`.
fn file_name(key: &str) -> String {
    key.replace('/', "+")
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => debug!(path = %path.display(), %error, "a note could not be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_told_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(&directory.path().join("state"));
        assert!(!memory.is_avoided("a"));
        assert!(memory.lacked("a", 9).is_empty());

        memory.avoid("a");
        memory.lacks("a", "main/1/wal/2");
        memory.lacks("a", "main/1/wal/1");
        assert!(memory.is_avoided("a") && !memory.is_avoided("b"));
        assert_eq!(memory.lacked("a", 1), ["main/1/wal/1"]);

        memory.answered("a");
        memory.caught_up("a", "main/1/wal/1");
        assert!(!memory.is_avoided("a"));
        assert_eq!(memory.lacked("a", 9), ["main/1/wal/2"]);
    }
}
