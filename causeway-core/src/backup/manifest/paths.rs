//! Check of a manifest's paths, before a restore creates the first file.
//!
//! A manifest is untrusted data: everyone with write access to the bucket can encrypt one. So each path must be
//! in a directory of the manifest, must occur once, and must not be a file that the restore writes itself.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::backup::manifest::{Manifest, ManifestError, ManifestFile};

/// File that marks a directory with an incomplete restore.
pub const MARKER: &str = "backup-agent.restore";

/// Name of the control file until every other file is restored.
pub const UNFINISHED_CONTROL_FILE: &str = "global/pg_control.unfinished";

/// Control file, without which PostgreSQL does not start.
pub const CONTROL_FILE: &str = "global/pg_control";

/// Files that a restore writes, and files by which PostgreSQL detects a running server.
const RESERVED: [&str; 8] = [
    MARKER,
    UNFINISHED_CONTROL_FILE,
    "backup_label",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.signal",
    "standby.signal",
    "tablespace_map",
];

/// Returns whether a restore writes this path, so that no backup can contain it.
pub fn is_reserved(path: &str) -> bool {
    RESERVED.contains(&path)
}

/// Check of a manifest's paths, which keeps 8 bytes per path.
#[derive(Debug)]
pub struct PathChecker<'a> {
    directories: BTreeSet<&'a str>,
    files: Vec<u64>,
    has_control_file: bool,
}

/// Paths of a manifest, all checked.
#[derive(Clone, Debug)]
pub struct KnownPaths(Vec<u64>);

impl<'a> PathChecker<'a> {
    /// Checks the directories and tablespaces of `manifest`.
    ///
    /// # Errors
    ///
    /// The first [`ManifestError`].
    pub fn new(manifest: &'a Manifest) -> Result<Self, ManifestError> {
        let mut directories = BTreeSet::new();
        for path in &manifest.directories {
            if !has_parent(&directories, path) || is_reserved(path) {
                return Err(ManifestError::Place(path.clone()));
            }
            if !directories.insert(path.as_str()) {
                return Err(ManifestError::Twice);
            }
        }
        let mut locations = BTreeSet::new();
        for tablespace in &manifest.tablespaces {
            let location = &tablespace.location;
            let link = format!("pg_tblspc/{}", tablespace.oid);
            let link = directories
                .get(link.as_str())
                .filter(|_| is_location(location));
            let Some(link) = link else {
                return Err(ManifestError::Location(location.escape_debug().to_string()));
            };
            if !locations.insert(location.as_str()) || !locations.insert(link) {
                return Err(ManifestError::Twice);
            }
        }
        Ok(Self {
            directories,
            files: Vec::new(),
            has_control_file: false,
        })
    }

    /// Checks a file, and adds its path.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Place`] if it is in no directory of the manifest, or is a file that the restore writes.
    pub fn add(&mut self, file: &ManifestFile) -> Result<(), ManifestError> {
        let path = file.path.as_str();
        let is_placed = has_parent(&self.directories, path)
            && !self.directories.contains(path)
            && !is_reserved(path);
        if !is_placed {
            return Err(ManifestError::Place(file.path.clone()));
        }
        self.has_control_file |= path == CONTROL_FILE;
        self.files.push(hash(path));
        Ok(())
    }

    /// Returns the paths, without duplicates.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Twice`], and [`ManifestError::NoControlFile`].
    pub fn finish(mut self) -> Result<KnownPaths, ManifestError> {
        self.files.sort_unstable();
        // Two of ten million paths have the same hash by chance once in 400,000 backups.
        if self
            .files
            .windows(2)
            .any(|pair| pair.first() == pair.last())
        {
            return Err(ManifestError::Twice);
        }
        if !self.has_control_file {
            return Err(ManifestError::NoControlFile);
        }
        self.files.shrink_to_fit();
        Ok(KnownPaths(self.files))
    }
}

impl KnownPaths {
    /// Returns whether the manifest has a file with this path.
    pub fn contains(&self, path: &str) -> bool {
        self.0.binary_search(&hash(path)).is_ok()
    }
}

fn has_parent(directories: &BTreeSet<&str>, path: &str) -> bool {
    match path.rsplit_once('/') {
        Some((parent, _)) => directories.contains(parent),
        None => true,
    }
}

/// Returns whether a path is absolute, without `.` and `..`, and printable.
fn is_location(location: &str) -> bool {
    let mut parts = location.split('/');
    let is_absolute = parts.next() == Some("");
    let has_name = location.bytes().any(|byte| byte != b'/');
    let climbs = parts.any(|part| matches!(part, "." | ".."));
    is_absolute && has_name && !climbs && !location.contains(char::is_control)
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::Tablespace;
    use crate::backup::manifest::tests::{file, manifest};

    #[test]
    fn paths_of_a_backup_then_known() {
        let known = checked(
            &["base", "base/5", "global"],
            &["base/5/1259", "PG_VERSION"],
        )
        .unwrap();
        assert!(known.contains("base/5/1259") && known.contains(CONTROL_FILE));
        assert!(!known.contains("base/5/1260"));
    }

    #[test]
    fn path_reserved_or_without_directory_then_rejected() {
        for path in [
            "base/5/1259",
            "pg_tblspc/77/x",
            "base",
            "recovery.signal",
            "postmaster.pid",
            "backup-agent.restore",
            "global/pg_control.unfinished",
        ] {
            let unsound = checked(&["base", "global"], &[path]).unwrap_err();
            assert_eq!(unsound, ManifestError::Place(path.to_owned()));
        }
        let orphan = checked(&["global", "base/5"], &[]).unwrap_err();
        assert_eq!(orphan, ManifestError::Place("base/5".to_owned()));
        let twice = checked(&["base", "global"], &["base/1", "base/1"]).unwrap_err();
        assert_eq!(twice, ManifestError::Twice);
        assert_eq!(
            checked(&["global", "global"], &[]).unwrap_err(),
            ManifestError::Twice
        );
        let whole = manifest(10);
        let check = PathChecker::new(&whole).unwrap();
        assert_eq!(check.finish().unwrap_err(), ManifestError::NoControlFile);
    }

    #[test]
    fn tablespace_location_not_clean_then_rejected() {
        let with = |oid, location: &str| {
            let location = location.to_owned();
            let mut whole = manifest(10);
            whole.directories = vec!["pg_tblspc".to_owned(), "pg_tblspc/77".to_owned()];
            whole.tablespaces = vec![Tablespace { oid, location }];
            whole
        };
        for location in ["/mnt/side", "/mnt//side/"] {
            assert!(PathChecker::new(&with(77, location)).is_ok());
        }
        for (oid, location) in [
            (78, "/mnt/side"),
            (77, "side"),
            (77, ""),
            (77, "/"),
            (77, "/mnt/../etc"),
            (77, "/mnt/\u{1b}[2J"),
        ] {
            let whole = with(oid, location);
            let unsound = PathChecker::new(&whole).unwrap_err();
            assert!(
                matches!(unsound, ManifestError::Location(_)),
                "{location:?}"
            );
        }
        let mut whole = with(77, "/mnt/side");
        whole.tablespaces.push(whole.tablespaces[0].clone());
        assert_eq!(PathChecker::new(&whole).unwrap_err(), ManifestError::Twice);
    }

    fn checked(directories: &[&str], paths: &[&str]) -> Result<KnownPaths, ManifestError> {
        let mut whole = manifest(10);
        whole.directories = directories.iter().map(|path| (*path).to_owned()).collect();
        let mut check = PathChecker::new(&whole)?;
        check.add(&file(CONTROL_FILE))?;
        for path in paths {
            check.add(&file(path))?;
        }
        check.finish()
    }
}
