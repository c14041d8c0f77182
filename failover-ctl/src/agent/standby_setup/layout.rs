//! Directories outside of the data directory: tablespaces, and a `pg_wal` on another volume.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// Directories outside of a data directory, recorded before it is emptied, so that an interrupted copy continues with
/// the same ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirectoryLayout {
    /// Target of `pg_wal`, if it is a symbolic link.
    #[serde(default)]
    pub(super) wal: Option<PathBuf>,
    /// Tablespace directories by OID.
    #[serde(default)]
    pub(super) tablespaces: BTreeMap<u32, PathBuf>,
}

impl DirectoryLayout {
    /// Reads the layout of the directory.
    pub(super) fn of(data: &Path) -> io::Result<Self> {
        let mut tablespaces = BTreeMap::new();
        match fs::read_dir(data.join("pg_tblspc")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    let number = entry
                        .file_name()
                        .to_str()
                        .and_then(|name| name.parse().ok());
                    if let (Some(number), Some(place)) = (number, link(&entry.path())?) {
                        tablespaces.insert(number, place);
                    }
                }
            }
        }
        Ok(Self {
            // A relative link starts in the directory.
            wal: link(&data.join("pg_wal"))?.map(|place| data.join(place)),
            tablespaces,
        })
    }

    /// Adds directories that an earlier attempt recorded and the data directory no longer names.
    pub(super) fn merge(mut self, noted: Self) -> Self {
        self.wal = self.wal.or(noted.wal);
        for (number, place) in noted.tablespaces {
            self.tablespaces.entry(number).or_insert(place);
        }
        self
    }

    /// Returns the local directory of each tablespace of the primary: the previous one, or the primary's own path.
    pub(super) fn mapped(
        &self,
        primary: &BTreeMap<u32, PathBuf>,
    ) -> BTreeMap<u32, (PathBuf, PathBuf)> {
        let pairs = primary.iter().map(|(number, there)| {
            let here = self.tablespaces.get(number).unwrap_or(there);
            (*number, (there.clone(), here.clone()))
        });
        pairs.collect()
    }

    /// Checks that every directory which a copy needs empty may be emptied, before any is.
    pub(super) fn check(
        &self,
        data: &Path,
        mapped: &BTreeMap<u32, (PathBuf, PathBuf)>,
    ) -> anyhow::Result<()> {
        for (_, here) in mapped.values() {
            let is_ours = self.tablespaces.values().any(|ours| ours == here);
            for name in names(here)? {
                if !(is_ours && is_version_directory(&name)) {
                    bail!(
                        "the tablespace directory `{}` holds `{name}`, which is not this node's: empty it first",
                        here.display()
                    );
                }
            }
        }
        for place in self.wal.iter().map(PathBuf::as_path).chain([data]) {
            if names(place)?.iter().any(|name| name == "lost+found") {
                bail!(
                    "`{}` is the root of a file system, and holds `lost+found`: use a directory in it",
                    place.display()
                );
            }
        }
        Ok(())
    }

    /// Empties the data directory and the directories outside of it, and keeps the directories themselves.
    pub(super) fn empty(&self, data: &Path) -> anyhow::Result<()> {
        for place in self.tablespaces.values() {
            for name in names(place)?
                .iter()
                .filter(|name| is_version_directory(name))
            {
                remove(&place.join(name))?;
            }
        }
        for place in self.wal.iter().map(PathBuf::as_path).chain([data]) {
            fs::create_dir_all(place)
                .with_context(|| format!("could not create `{}`", place.display()))?;
            for name in names(place)? {
                remove(&place.join(name))?;
            }
            fs::set_permissions(place, fs::Permissions::from_mode(0o700)).with_context(|| {
                format!(
                    "could not restrict the permissions of `{}`",
                    place.display()
                )
            })?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = fs::symlink_metadata(path).and_then(|metadata| {
        if metadata.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    });
    removed.with_context(|| format!("could not remove `{}`", path.display()))
}

/// Returns the names in a directory; none if it does not exist.
fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read,
    };
    let read = || -> io::Result<Vec<String>> {
        let names = entries?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    };
    read().with_context(|| format!("could not read `{}`", directory.display()))
}

/// Returns whether a tablespace has the files of a release under this name (`TABLESPACE_VERSION_DIRECTORY`).
fn is_version_directory(name: &str) -> bool {
    name.starts_with("PG_")
}

fn link(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(path) {
        Ok(place) => Ok(Some(place)),
        // EINVAL: it is no link.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directory_emptied_then_links_kept_and_their_contents_gone() {
        let root = tempfile::tempdir().unwrap();
        let (data, space, wal) = ["data", "space", "wal"]
            .map(|name| root.path().join(name))
            .into();
        for directory in [
            &data,
            &data.join("pg_tblspc"),
            &space,
            &space.join("PG_15_1"),
            &wal,
        ] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(wal.join("000000010000000000000001"), "x").unwrap();
        symlink(&space, data.join("pg_tblspc/16400")).unwrap();
        symlink("../wal", data.join("pg_wal")).unwrap();
        let layout = DirectoryLayout::of(&data).unwrap();
        assert_eq!(layout.wal.as_deref(), Some(&*data.join("../wal")));
        fs::remove_file(data.join("pg_wal")).unwrap();
        symlink(&wal, data.join("pg_wal")).unwrap();

        let layout = DirectoryLayout::of(&data).unwrap();
        assert_eq!(layout.tablespaces, BTreeMap::from([(16400, space.clone())]));
        assert_eq!(layout.wal.as_deref(), Some(&*wal));
        let mapped = layout.mapped(&BTreeMap::from([(16400, PathBuf::from("/theirs"))]));
        layout.check(&data, &mapped).unwrap();
        layout.empty(&data).unwrap();

        for emptied in [&data, &space, &wal] {
            assert_eq!(fs::read_dir(emptied).unwrap().count(), 0, "{emptied:?}");
        }
        // The next attempt finds an empty directory, and continues with the recorded layout.
        assert_eq!(
            DirectoryLayout::of(&data).unwrap().merge(layout.clone()),
            layout
        );
    }

    #[test]
    fn foreign_tablespace_then_rejected_and_nothing_removed() {
        let root = tempfile::tempdir().unwrap();
        let theirs = root.path().join("theirs");
        fs::create_dir_all(theirs.join("PG_15_1")).unwrap();
        let mapped = DirectoryLayout::default().mapped(&BTreeMap::from([(1, theirs)]));

        let refused = DirectoryLayout::default()
            .check(root.path(), &mapped)
            .unwrap_err();
        assert!(
            refused.to_string().contains("is not this node's"),
            "{refused}"
        );
    }
}
