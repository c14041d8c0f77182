//! Selection of the files that belong to a backup, concurrent with reading them.
//!
//! Directories are read in batches, and a batch waits until the readers have room, so memory does
//! not grow with the number of files. A file that no longer exists has been dropped, and WAL replay
//! restores that; any other error fails the backup.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use causeway_core::backup::manifest::Tablespace;
use tracing::{info, warn};

use crate::base_backup::file_names::{
    EMPTIED, RelationFile, holds_relations, is_database, is_left_out, is_needed,
    is_temporary_relation,
};
use crate::error::Error;

/// Names of one directory that are read before the largest of their files is sent.
const BATCH: usize = 8192;

/// File that belongs to the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedFile {
    /// Path below the data directory.
    pub(crate) path: String,
    /// Location on disk.
    pub(crate) location: PathBuf,
    /// Number of its first page, for a file of a relation.
    pub(crate) first_page: Option<u32>,
}

/// Settings of the server that determine its files.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkScope {
    /// Data directory.
    pub(crate) root: PathBuf,
    /// The server's directory in each tablespace, such as `PG_15_202209061`.
    pub(crate) version_directory: String,
    /// Directories below the data directory whose content is omitted, in addition to the known
    /// ones.
    pub(crate) emptied: Vec<String>,
    /// Directory of the server's log files, if it is below the data directory.
    pub(crate) log_directory: Option<String>,
}

/// Result of a walk, besides the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalkResult {
    /// All directories, parents first.
    pub(crate) directories: Vec<String>,
    /// Tablespaces outside of the data directory.
    pub(crate) tablespaces: Vec<Tablespace>,
    /// Whether the group may read the data directory.
    pub(crate) group_access: bool,
}

/// Directory on disk, independent of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// The receiver of the files has ended.
struct Closed;

/// Reason why a walk ended early.
enum ScanEnd {
    Closed,
    Failed(Error),
}

impl From<Error> for ScanEnd {
    fn from(failure: Error) -> Self {
        Self::Failed(failure)
    }
}

impl From<Closed> for ScanEnd {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

struct DirectoryWalk<'a> {
    scope: &'a WalkScope,
    out: &'a SyncSender<PlannedFile>,
    walked: WalkResult,
    /// Directories above the current one: a link to one of them would be a cycle.
    inside: Vec<FileIdentity>,
    /// Tablespaces, which may be below the data directory under another name.
    elsewhere: Vec<FileIdentity>,
}

/// Sends every file except the control file to `out`, the largest of each batch first, and returns
/// the rest. Ends early when the receiver has ended.
pub(crate) fn walk(scope: &WalkScope, out: &SyncSender<PlannedFile>) -> Result<WalkResult, Error> {
    let root = &scope.root;
    let found = fs::metadata(root).map_err(Error::io("inspect", root))?;
    let mut walk = DirectoryWalk {
        scope,
        out,
        walked: WalkResult {
            group_access: found.permissions().mode() & 0o050 != 0,
            ..WalkResult::default()
        },
        inside: vec![FileIdentity::of(&found)],
        elsewhere: tablespaces_of(root)?,
    };
    match walk.directory_content(root, "") {
        Ok(()) | Err(ScanEnd::Closed) => {}
        Err(ScanEnd::Failed(failure)) => return Err(failure),
    }
    for path in EMPTIED.into_iter().chain(["pg_wal"]) {
        // A server whose link has no target would not start, and a restore does not create the
        // directory.
        if !walk
            .walked
            .directories
            .iter()
            .any(|directory| directory == path)
        {
            walk.add_emptied(path);
        }
    }
    Ok(walk.walked)
}

impl DirectoryWalk<'_> {
    fn directory_content(&mut self, place: &Path, path: &str) -> Result<(), ScanEnd> {
        let unlogged = if holds_relations(path) {
            list_unlogged(place)?
        } else {
            Vec::new()
        };
        let mut directories = Vec::new();
        let mut batch = Vec::new();
        // The data directory itself cannot vanish.
        let Some(entries) = open(place, path.is_empty())? else {
            return Ok(());
        };
        for entry in entries {
            let name = name_of(&entry.map_err(Error::io("list", place))?)?;
            let is_emptied =
                RelationFile::parse(&name).is_some_and(|file| file.is_emptied(&unlogged));
            let is_temporary = is_database(path) && is_temporary_relation(&name);
            let path = join_path(path, &name);
            if is_left_out(&path, &name) || is_emptied || is_temporary {
                continue;
            }
            let place = place.join(&name);
            self.entry(place, path, &mut batch, &mut directories)?;
            if batch.len() == BATCH {
                self.send(&mut batch)?;
            }
        }
        self.send(&mut batch)?;
        for (place, path, identity) in directories {
            self.inside.push(identity);
            let done = self.directory_content(&place, &path);
            self.inside.pop();
            done?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        place: PathBuf,
        path: String,
        batch: &mut Vec<(u64, PlannedFile)>,
        directories: &mut Vec<(PathBuf, String, FileIdentity)>,
    ) -> Result<(), ScanEnd> {
        if self.is_emptied(&path) || path == "pg_wal" {
            self.add_emptied(&path);
            return Ok(());
        }
        let Some(found) = existing_metadata(fs::symlink_metadata(&place), &place)? else {
            return Ok(());
        };
        if found.is_symlink()
            && let Some(oid) = path.strip_prefix("pg_tblspc/").and_then(tablespace_oid)
        {
            directories.extend(self.tablespace(&place, &path, oid)?);
            return Ok(());
        }
        let found = if found.is_symlink() {
            match self.follow_link(&place, &path)? {
                Some(found) => found,
                None => return Ok(()),
            }
        } else {
            found
        };
        if found.is_dir() {
            let identity = FileIdentity::of(&found);
            self.walked.directories.push(path.clone());
            // It is stored as a tablespace.
            if !self.elsewhere.contains(&identity) {
                directories.push((place, path, identity));
            }
        } else if found.is_file() {
            let file = PlannedFile {
                first_page: first_page(&path),
                path,
                location: place,
            };
            batch.push((found.len(), file));
        } else {
            warn!(path = %place.display(), "special file omitted, as by pg_basebackup");
        }
        Ok(())
    }

    /// Returns the metadata of a link's target, or `None` if it is omitted. The target is stored in
    /// place of the link, because a restored copy may be on another host.
    fn follow_link(&mut self, place: &Path, path: &str) -> Result<Option<Metadata>, ScanEnd> {
        if self.scope.log_directory.as_deref() == Some(path) {
            info!(path = %place.display(), "linked log directory omitted");
            self.walked.directories.push(path.to_owned());
            return Ok(None);
        }
        let refuse = |why: &str| {
            let to = fs::read_link(place);
            let to = to.map_or_else(|error| error.to_string(), |to| to.display().to_string());
            Error::Incomplete(format!("the link `{path}` to `{to}` {why}"))
        };
        let found = match fs::metadata(place) {
            Ok(found) => found,
            // A link without a target, or a cycle of links (ELOOP).
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(nix::libc::ELOOP) =>
            {
                if existing_metadata(fs::symlink_metadata(place), place)?.is_none() {
                    return Ok(None);
                }
                if is_needed(path) {
                    return Err(refuse("has no target, and PostgreSQL needs it").into());
                }
                warn!(path = %place.display(), "link without a target omitted");
                return Ok(None);
            }
            Err(error) => return Err(Error::io("follow", place)(error).into()),
        };
        if found.is_dir() {
            if self.inside.contains(&FileIdentity::of(&found)) || self.is_above(place) {
                if is_needed(path) {
                    return Err(refuse("is cyclic").into());
                }
                warn!(path = %place.display(), "cyclic link omitted");
                return Ok(None);
            }
            info!(path = %place.display(), "linked directory stored in place of the link");
        }
        Ok(Some(found))
    }

    /// Returns whether the data directory is below `place`.
    fn is_above(&self, place: &Path) -> bool {
        let target = fs::canonicalize(place);
        let root = fs::canonicalize(&self.scope.root);
        target.is_ok_and(|target| root.is_ok_and(|root| root.starts_with(target)))
    }

    /// Walks the directory of this server's version only: a mount point has `lost+found`, and an
    /// upgrade leaves the old version's directory beside the new one.
    fn tablespace(
        &mut self,
        link: &Path,
        path: &str,
        oid: u32,
    ) -> Result<Option<(PathBuf, String, FileIdentity)>, ScanEnd> {
        let location = match fs::read_link(link) {
            Ok(location) => link.parent().unwrap_or(link).join(location),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("follow", link)(error).into()),
        };
        let text = location.to_str().ok_or_else(|| not_utf8(&location))?;
        let version = &self.scope.version_directory;
        let place = location.join(version);
        self.walked.directories.push(path.to_owned());
        self.walked.tablespaces.push(Tablespace {
            oid,
            location: text.to_owned(),
        });
        // Its existence is checked against the server's list of tablespaces at the end.
        let Some(found) = existing_metadata(fs::metadata(&place), &place)? else {
            return Ok(None);
        };
        let path = join_path(path, version);
        self.walked.directories.push(path.clone());
        Ok(Some((place, path, FileIdentity::of(&found))))
    }

    fn is_emptied(&self, path: &str) -> bool {
        EMPTIED.contains(&path) || self.scope.emptied.iter().any(|directory| directory == path)
    }

    fn add_emptied(&mut self, path: &str) {
        self.walked.directories.push(path.to_owned());
        if path == "pg_wal" {
            let status = "pg_wal/archive_status".to_owned();
            self.walked.directories.push(status);
        }
    }

    /// Sends a batch, largest file first: a file of a gigabyte that is begun last would be read
    /// alone.
    fn send(&self, batch: &mut Vec<(u64, PlannedFile)>) -> Result<(), Closed> {
        batch.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, file) in batch.drain(..) {
            self.out.send(file).map_err(|_| Closed)?;
        }
        Ok(())
    }
}

/// Returns the metadata, or `None` if the file has vanished.
fn existing_metadata(found: io::Result<Metadata>, place: &Path) -> Result<Option<Metadata>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("inspect", place)(error)),
    }
}

fn open(place: &Path, must_exist: bool) -> Result<Option<fs::ReadDir>, Error> {
    match fs::read_dir(place) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => Ok(None),
        Err(error) => Err(Error::io("list", place)(error)),
    }
}

/// Returns the unlogged relations of a directory, sorted.
fn list_unlogged(place: &Path) -> Result<Vec<u32>, Error> {
    let mut found = Vec::new();
    for entry in open(place, false)?.into_iter().flatten() {
        let name = entry.map_err(Error::io("list", place))?.file_name();
        let file = name.to_str().and_then(RelationFile::parse);
        found.extend(file.and_then(RelationFile::unlogged_relation));
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns the directories of the tablespaces.
fn tablespaces_of(root: &Path) -> Result<Vec<FileIdentity>, Error> {
    let place = root.join("pg_tblspc");
    let mut found = Vec::new();
    for entry in open(&place, true)?.into_iter().flatten() {
        let entry = entry.map_err(Error::io("list", &place))?;
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let target = fs::metadata(entry.path());
        found.extend(
            target
                .ok()
                .filter(|_| is_link)
                .map(|metadata| FileIdentity::of(&metadata)),
        );
    }
    Ok(found)
}

fn tablespace_oid(name: &str) -> Option<u32> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| is_number)
}

/// Returns the number of the first page of a relation's file.
fn first_page(path: &str) -> Option<u32> {
    let (directory, name) = path.rsplit_once('/')?;
    if !holds_relations(directory) {
        return None;
    }
    RelationFile::parse(name)?.first_page()
}

fn name_of(entry: &fs::DirEntry) -> Result<String, Error> {
    let name = entry.file_name().into_string();
    name.map_err(|_| not_utf8(&entry.path()))
}

fn not_utf8(path: &Path) -> Error {
    Error::Incomplete(format!(
        "the name of `{}` is not UTF-8, and PostgreSQL does not need it: rename or remove it",
        path.display()
    ))
}

fn join_path(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}/{name}")
}

#[cfg(test)]
mod tests;
