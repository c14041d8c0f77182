//! Target directory of a restore, and its tablespaces.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use causeway_core::backup::Manifest;
use causeway_core::backup::manifest;
use causeway_core::backup::manifest::paths::{CONTROL_FILE, MARKER, UNFINISHED_CONTROL_FILE};
use tracing::warn;

use crate::error::Error;
use crate::restore::marker;
use crate::restore::plan::RestorePlan;
use crate::restore::request::Purpose;
use crate::restore::tablespaces::PlacedTablespace;
use crate::restore::wal_link;

/// Directory with all directories and links of a backup, and the modes that PostgreSQL requires.
#[derive(Clone, Debug)]
pub(super) struct TargetDirectory {
    root: PathBuf,
    tablespaces: Vec<PlacedTablespace>,
    directory_mode: u32,
    file_mode: u32,
}

impl TargetDirectory {
    /// Returns the directory at `root` for a backup. Creates nothing.
    pub(super) fn new(root: &Path, head: &Manifest, tablespaces: Vec<PlacedTablespace>) -> Self {
        let (directory_mode, file_mode) = if head.group_access {
            (0o750, 0o640)
        } else {
            (0o700, 0o600)
        };
        Self {
            root: root.to_owned(),
            tablespaces,
            directory_mode,
            file_mode,
        }
    }

    #[cfg(test)]
    pub(super) fn of(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            tablespaces: Vec::new(),
            directory_mode: 0o700,
            file_mode: 0o600,
        }
    }

    /// Creates the directory itself.
    pub(super) fn create_root(&self) -> Result<(), Error> {
        self.make(&self.root)
    }

    /// Creates and marks the directories of the tablespaces, and creates every directory and link
    /// of the backup.
    pub(super) fn make_all(&self, head: &Manifest, marker: &marker::Marker) -> Result<(), Error> {
        for tablespace in &self.tablespaces {
            self.make(&tablespace.directory)?;
            marker.claim(&tablespace.directory)?;
        }
        for path in &head.directories {
            match self
                .tablespaces
                .iter()
                .find(|tablespace| tablespace.link == *path)
            {
                Some(tablespace) => self.link(tablespace)?,
                None => self.make(&self.root.join(path))?,
            }
        }
        Ok(())
    }

    fn make(&self, path: &Path) -> Result<(), Error> {
        fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(self.directory_mode)))
            .map_err(Error::io("make", path))
    }

    fn link(&self, tablespace: &PlacedTablespace) -> Result<(), Error> {
        let link = self.root.join(&tablespace.link);
        if fs::read_link(&link).is_ok_and(|target| target == tablespace.directory) {
            return Ok(());
        }
        symlink(&tablespace.directory, &link).map_err(Error::io("link", &link))
    }

    /// Creates a file of the backup, or truncates an existing one to its length.
    pub(super) fn make_file(&self, file: &manifest::ManifestFile) -> Result<(), Error> {
        let path = self.path(&file.path);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let made = no_follow(&mut options).open(&path).and_then(|opened| {
            opened.set_permissions(Permissions::from_mode(self.file_mode))?;
            if opened.metadata()?.len() > file.bytes() {
                opened.set_len(file.bytes())?;
            }
            Ok(())
        });
        made.map_err(Error::io("write", &path))
    }

    /// Returns the location of a file of the backup during the restore.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        if path == CONTROL_FILE {
            return self.root.join(UNFINISHED_CONTROL_FILE);
        }
        self.root.join(path)
    }

    /// Opens an existing file.
    pub(super) fn open(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        no_follow(options.read(true).write(true)).open(path)
    }

    /// Removes files of an earlier run that are not part of the backup.
    pub(super) fn remove_others(&self, plan: &RestorePlan) -> Result<(), Error> {
        self.remove_others_in("", &self.root, plan)?;
        for tablespace in &self.tablespaces {
            self.remove_others_in(&tablespace.link, &tablespace.directory, plan)?;
        }
        Ok(())
    }

    fn remove_others_in(&self, below: &str, place: &Path, plan: &RestorePlan) -> Result<(), Error> {
        for entry in fs::read_dir(place).map_err(Error::io("list", place))? {
            let entry = entry.map_err(Error::io("list", place))?;
            let kind = entry.file_type().map_err(Error::io("inspect", place))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let path = if below.is_empty() {
                name.into_owned()
            } else {
                format!("{below}/{name}")
            };
            // The volume of `pg_wal`.
            if kind.is_symlink() && path == wal_link::NAME && entry.path().is_dir() {
                self.remove_others_in(&path, &entry.path(), plan)?;
                continue;
            }
            if kind.is_dir() {
                if name_of(&path) != "lost+found" {
                    self.remove_others_in(&path, &entry.path(), plan)?;
                }
                continue;
            }
            let is_kept = plan.has(&path)
                || path == UNFINISHED_CONTROL_FILE
                || name_of(&path) == MARKER
                || self
                    .tablespaces
                    .iter()
                    .any(|tablespace| tablespace.link == path);
            if !is_kept {
                let path = entry.path();
                warn!(path = %path.display(), "file outside of the backup removed");
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn create(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let written = made.and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(self.file_mode))?;
            file.write_all(content)
        });
        written.map_err(Error::io("write", path))
    }

    /// Writes the settings that make PostgreSQL recover as requested.
    pub(super) fn write_recovery(
        &self,
        head: &Manifest,
        settings: &str,
        purpose: Purpose,
    ) -> Result<(), Error> {
        let label = self.root.join("backup_label");
        self.create(&label, head.backup_label.as_bytes())?;
        let signal = match purpose {
            Purpose::Recover(_) => "recovery.signal",
            Purpose::Standby => "standby.signal",
        };
        self.create(&self.root.join(signal), b"")?;
        let path = self.root.join("postgresql.auto.conf");
        let mut options = OpenOptions::new();
        let opened = no_follow(options.append(true).create(true)).open(&path);
        let appended = opened.and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(self.file_mode))?;
            file.write_all(settings.as_bytes())
        });
        appended.map_err(Error::io("write", &path))
    }

    /// Makes all files durable, and then completes the directory, so that a server can be started.
    pub(super) fn complete(&self) -> Result<(), Error> {
        self.sync()?;
        let from = self.root.join(UNFINISHED_CONTROL_FILE);
        let to = self.root.join(CONTROL_FILE);
        fs::rename(&from, &to).map_err(Error::io("name", &to))?;
        let named = to
            .parent()
            .map_or(Ok(()), |parent| File::open(parent)?.sync_all());
        named.map_err(Error::io("make durable", &to))?;
        // From here on a server may run on it, and no restore resumes.
        for tablespace in &self.tablespaces {
            marker::remove(&tablespace.directory)?;
        }
        marker::remove(&self.root)
    }

    fn sync(&self) -> Result<(), Error> {
        let tablespaces = self
            .tablespaces
            .iter()
            .map(|tablespace| &tablespace.directory);
        let wal = wal_link::target(&self.root)?;
        for place in std::iter::once(&self.root).chain(tablespaces).chain(&wal) {
            let synced = File::open(place)
                .and_then(|directory| nix::unistd::syncfs(directory).map_err(io::Error::from));
            synced.map_err(Error::io("make durable", place))?;
        }
        Ok(())
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Refuses symbolic links: one in place of a file would lead out of the directory.
fn no_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
}
