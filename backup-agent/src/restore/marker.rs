//! Marker file in a directory with an incomplete restore, by which the next run resumes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use causeway_core::backup::BackupId;
use causeway_core::backup::manifest::paths::{CONTROL_FILE, MARKER};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;
use crate::restore::wal_link;

const FORMAT: u32 = 1;

/// Parameters of a restore that has begun, which the next run must continue with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Marker {
    format: u32,
    /// Distinguishes this restore from another one that marked a tablespace's directory.
    restore_id: Uuid,
    /// System identifier of the cluster.
    pub(crate) system_id: u64,
    /// The backup.
    pub(crate) backup: BackupId,
    /// Directory of each tablespace, by its link.
    pub(crate) tablespaces: Vec<(String, PathBuf)>,
    /// Target of the link `pg_wal`; `None` if the WAL is in the target directory itself.
    wal_directory: Option<PathBuf>,
}

/// Marker of a target directory, locked against a second restore into it.
#[derive(Debug)]
pub(crate) struct LockedMarker {
    /// Content of the marker.
    pub(crate) marker: Marker,
    /// Whether an earlier run wrote it.
    pub(crate) is_resumed: bool,
    _lock: File,
}

impl Marker {
    /// Returns the marker of a new restore.
    pub(crate) fn new(
        system_id: u64,
        backup: BackupId,
        tablespaces: Vec<(String, PathBuf)>,
        wal_directory: Option<PathBuf>,
    ) -> Self {
        Self {
            format: FORMAT,
            restore_id: Uuid::new_v4(),
            system_id,
            backup,
            tablespaces,
            wal_directory,
        }
    }

    /// Returns the marker of an interrupted restore in `directory`, or `None` if the directory is
    /// empty but for a link `pg_wal` to an empty directory, or does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] if it has other content, and [`Error::Restored`] if the restore was
    /// complete except for its marker.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>, Error> {
        if is_free(directory, &[wal_link::NAME])? {
            wal_link::check(directory)?;
            return Ok(None);
        }
        let path = directory.join(MARKER);
        let not_empty = || Error::NotEmpty {
            path: directory.to_owned(),
        };
        let has = |name: &str| directory.join(name).exists();
        let is_started = has("postmaster.pid") || !has("backup_label");
        match fs::read(&path) {
            Ok(_) if has(CONTROL_FILE) && !is_started => Err(Error::Restored {
                path: directory.to_owned(),
            }),
            Ok(_) if has(CONTROL_FILE) || has("postmaster.pid") => Err(not_empty()),
            Ok(text) => match serde_json::from_slice::<Self>(&text) {
                Ok(marker) if marker.format == FORMAT => Ok(Some(marker)),
                // A run that ended before it had written its marker has written nothing else.
                Ok(_) | Err(_) if is_free(directory, &[MARKER, wal_link::NAME])? => {
                    wal_link::check(directory)?;
                    Ok(None)
                }
                Ok(_) | Err(_) => Err(not_empty()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                wal_link::refuse_mount_root(directory)?;
                Err(not_empty())
            }
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Checks that `pg_wal` in `directory` is where this restore began to put the WAL: otherwise segments would be in two
    /// places, and the server would have only some of them.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub(crate) fn check_wal_directory(&self, directory: &Path) -> Result<(), Error> {
        let begun = self.wal_directory.as_deref();
        if wal_link::target(directory)?.as_deref() != begun {
            return Err(wal_link::changed(directory, begun));
        }
        begun.map_or(Ok(()), |target| wal_link::check_target(directory, target))
    }

    /// Marks `directory`, which exists, or resumes the restore in it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if another restore is running there.
    pub(crate) fn lock_directory(self, directory: &Path) -> Result<LockedMarker, Error> {
        Self::find(directory)?;
        let path = directory.join(MARKER);
        let failed = |error| Error::io("write", &path)(error);
        let file = open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("another restore into `{}` is running", directory.display());
                return Err(Error::Refused(text));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Read again: another run may have written it, or have completed, in the meantime.
        if let Some(marker) = Self::find(directory)? {
            marker.check_wal_directory(directory)?;
            return Ok(LockedMarker {
                marker,
                is_resumed: true,
                _lock: file,
            });
        }
        self.write(&file).map_err(failed)?;
        Ok(LockedMarker {
            marker: self,
            is_resumed: false,
            _lock: file,
        })
    }

    /// Marks the directory of a tablespace, which is empty or marked by this restore.
    pub(crate) fn claim(&self, directory: &Path) -> Result<(), Error> {
        self.check_claim(directory)?;
        let path = directory.join(MARKER);
        let marked = open(&path).and_then(|file| self.write(&file));
        marked.map_err(Error::io("write", &path))
    }

    /// Fails if a directory has content that this restore has not written.
    pub(crate) fn check_claim(&self, directory: &Path) -> Result<(), Error> {
        // A mount point has this directory.
        if is_free(directory, &["lost+found"])? {
            return Ok(());
        }
        let mut text = Vec::new();
        let read =
            File::open(directory.join(MARKER)).and_then(|mut file| file.read_to_end(&mut text));
        let is_ours = read.is_ok()
            && serde_json::from_slice::<Self>(&text).is_ok_and(|marker| marker == *self);
        if is_ours || is_free(directory, &["lost+found", MARKER])? {
            return Ok(());
        }
        Err(Error::NotEmpty {
            path: directory.to_owned(),
        })
    }

    fn write(&self, mut file: &File) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::from)?;
        text.push(b'\n');
        file.set_len(0)?;
        file.write_all(&text)?;
        file.sync_all()
    }
}

/// Removes the marker from a complete directory.
pub(crate) fn remove(directory: &Path) -> Result<(), Error> {
    let path = directory.join(MARKER);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", &path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    options.open(path)
}

/// Returns whether a directory does not exist, or contains only `allowed` names.
fn is_free(directory: &Path, allowed: &[&str]) -> Result<bool, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(Error::io("list", directory)(error)),
    };
    for entry in entries {
        let name = entry.map_err(Error::io("list", directory))?.file_name();
        if !allowed.iter().any(|allowed_name| name == *allowed_name) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;

    proptest! {
        /// A damaged marker beside files is never resumed as another restore.
        #[test]
        fn damaged_marker_then_no_panic(text in damaged(sample().as_bytes())) {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join("x"), "").unwrap();
            fs::write(root.path().join(MARKER), &text).unwrap();
            if let Ok(Some(marker)) = Marker::find(root.path()) {
                let written = serde_json::to_vec(&marker).unwrap();
                prop_assert_eq!(serde_json::from_slice::<Marker>(&written).unwrap(), marker);
            }
        }
    }

    fn sample() -> String {
        let backup = "20261120T201500Z-5f3a9c01".parse().unwrap();
        let tablespaces = vec![("pg_tblspc/16400".to_owned(), "/space".into())];
        serde_json::to_string(&Marker::new(7, backup, tablespaces, Some("/wal".into()))).unwrap()
    }

    #[test]
    fn started_directory_then_resumed_only_by_its_own_restore() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        assert_eq!(Marker::find(&path("new")).unwrap(), None);
        fs::create_dir(path("full")).unwrap();
        fs::write(path("full/x"), "").unwrap();
        assert!(Marker::find(&path("full")).is_err());

        assert!(marker().lock_directory(&path("full")).is_err());
        assert!(!path("full").join(MARKER).exists());
        fs::create_dir(path("data")).unwrap();
        let held = marker().lock_directory(&path("data")).unwrap();
        assert!(!held.is_resumed);
        fs::write(path("data/PG_VERSION"), "15\n").unwrap();
        assert_eq!(
            Marker::find(&path("data")).unwrap(),
            Some(held.marker.clone())
        );
        let second = marker()
            .lock_directory(&path("data"))
            .unwrap_err()
            .to_string();
        assert!(second.contains("another restore"), "{second}");
        let first = held.marker.clone();
        drop(held);
        let resumed = marker().lock_directory(&path("data")).unwrap();
        assert!(resumed.is_resumed && resumed.marker == first);

        // PostgreSQL may run on a directory with a control file.
        fs::create_dir(path("data/global")).unwrap();
        fs::write(path("data/global/pg_control"), "").unwrap();
        let refused = Marker::find(&path("data"));
        assert!(
            matches!(refused, Err(Error::NotEmpty { .. })),
            "{refused:?}"
        );
        // `backup_label` exists until the server has started.
        fs::write(path("data/backup_label"), "").unwrap();
        let refused = Marker::find(&path("data"));
        assert!(
            matches!(refused, Err(Error::Restored { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn tablespace_then_claimed_only_while_empty_or_ours() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("lost+found")).unwrap();
        let ours = marker();
        ours.claim(root.path()).unwrap();
        fs::create_dir(root.path().join("PG_15_202209061")).unwrap();
        ours.claim(root.path()).unwrap();
        assert!(marker().claim(root.path()).is_err());
        remove(root.path()).unwrap();
        assert!(ours.claim(root.path()).is_err(), "another server's");
    }

    fn marker() -> Marker {
        let backup = "20261120T201500Z-5f3a9c01".parse().unwrap();
        Marker::new(1, backup, Vec::new(), None)
    }

    #[test]
    fn link_of_wal_changed_then_not_resumed() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["data", "wal", "other"] {
            fs::create_dir(path(name)).unwrap();
        }
        let data = path("data");
        let link = data.join("pg_wal");
        let points_to = |target: Option<&str>| {
            fs::remove_file(&link).ok();
            if let Some(target) = target {
                symlink(path(target), &link).unwrap();
            }
        };
        let with_wal = Marker {
            wal_directory: Some(path("wal")),
            ..marker()
        };

        for (begun, now, remedy) in [
            (&with_wal, Some("other"), "link it there again (`ln -sfnT "),
            (&with_wal, None, "link it there again (`ln -sfnT "),
            (&marker(), Some("wal"), "remove the link"),
        ] {
            points_to(now);
            let refused = begun.check_wal_directory(&data).unwrap_err().to_string();
            assert!(refused.contains(remedy), "{refused}");
        }
        points_to(Some("wal"));
        with_wal.check_wal_directory(&data).unwrap();
        fs::remove_dir(path("wal")).unwrap();
        let refused = with_wal.check_wal_directory(&data).unwrap_err().to_string();
        assert!(refused.contains("mount its volume"), "{refused}");
        points_to(None);
        marker().check_wal_directory(&data).unwrap();
    }
}
