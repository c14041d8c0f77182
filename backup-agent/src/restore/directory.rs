//! The directory that is restored into, and the tablespaces beside it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use ha_core::backup::Manifest;
use ha_core::backup::manifest;

use crate::error::Failure;
use crate::restore::tablespaces;
use crate::restore::{Purpose, RestoreRequest, is_control_file};

/// What the control file is called until everything else is there.
const UNFINISHED_CONTROL_FILE: &str = "global/pg_control.unfinished";

/// A directory with every file of a backup, still empty, and modes as PostgreSQL wants them.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    places: Vec<PathBuf>,
    file_mode: u32,
}

impl Directory {
    /// Refuses a directory that holds anything.
    pub(crate) fn refuse_unless_empty(path: &Path) -> Result<(), Failure> {
        match fs::read_dir(path).map(Iterator::count) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Failure::NotEmpty {
                path: path.to_owned(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Failure::io("list", path)(error)),
        }
    }

    /// Makes every directory, link and file of `manifest`.
    pub(crate) fn prepare(
        request: &RestoreRequest,
        manifest: &Manifest,
        files: &[manifest::File],
    ) -> Result<Self, Failure> {
        let (directory_mode, file_mode) = if manifest.group_access {
            (0o750, 0o640)
        } else {
            (0o700, 0o600)
        };
        let root = request.directory.clone();
        let mut places = vec![root.clone()];
        let tablespaces = tablespaces::place(request, manifest)?;
        for tablespace in &tablespaces {
            Self::refuse_unless_empty(&tablespace.directory)?;
        }

        let make = |path: &Path| {
            fs::create_dir_all(path)
                .and_then(|()| fs::set_permissions(path, Permissions::from_mode(directory_mode)))
                .map_err(Failure::io("make", path))
        };
        make(&root)?;
        for path in &manifest.directories {
            let tablespace = tablespaces.iter().find(|it| it.link == *path);
            if let Some(tablespace) = tablespace {
                let place = &tablespace.directory;
                make(place)?;
                let link = root.join(&tablespace.link);
                symlink(place, &link).map_err(Failure::io("link", &link))?;
                places.push(place.clone());
            } else {
                make(&root.join(path))?;
            }
        }
        let directory = Self {
            root,
            places,
            file_mode,
        };
        for file in files {
            directory.create(&directory.path(&file.path), b"")?;
        }
        Ok(directory)
    }

    /// Returns where a file of the backup is while it is restored.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        if is_control_file(path) {
            return self.root.join(UNFINISHED_CONTROL_FILE);
        }
        self.root.join(path)
    }

    fn create(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let written = made.and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(self.file_mode))?;
            file.write_all(content)
        });
        written.map_err(Failure::io("write", path))
    }

    /// Writes what makes PostgreSQL recover as requested.
    pub(crate) fn write_recovery(
        &self,
        manifest: &Manifest,
        settings: &str,
        purpose: Purpose,
    ) -> Result<(), Failure> {
        let label = self.root.join("backup_label");
        self.create(&label, manifest.backup_label.as_bytes())?;
        let signal = match purpose {
            Purpose::Recover(_) => "recovery.signal",
            Purpose::Standby => "standby.signal",
        };
        self.create(&self.root.join(signal), b"")?;
        let path = self.root.join("postgresql.auto.conf");
        let opened = OpenOptions::new().append(true).create(true).open(&path);
        let appended = opened.and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(self.file_mode))?;
            file.write_all(settings.as_bytes())
        });
        appended.map_err(Failure::io("write", &path))
    }

    /// Makes everything durable, and then the directory one that can be started.
    pub(crate) fn complete(&self) -> Result<(), Failure> {
        self.sync()?;
        let from = self.root.join(UNFINISHED_CONTROL_FILE);
        let to = self.root.join("global/pg_control");
        fs::rename(&from, &to).map_err(Failure::io("name", &to))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Failure> {
        for place in &self.places {
            let synced = File::open(place)
                .and_then(|it| nix::unistd::syncfs(it).map_err(std::io::Error::from));
            synced.map_err(Failure::io("make durable", place))?;
        }
        Ok(())
    }
}
