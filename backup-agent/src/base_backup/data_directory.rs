//! What in a data directory belongs to a backup: the same that `pg_basebackup` takes
//! (`src/backend/backup/basebackup.c`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ha_core::backup::manifest::Tablespace;
use tracing::warn;

use crate::base_backup::page::PAGES_PER_FILE;
use crate::error::Failure;

/// Directories that are made anew, empty: PostgreSQL fills them when it starts.
const EMPTIED: [&str; 7] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

/// Files that belong to the running server, or that a restore writes itself.
const LEFT_OUT: [&str; 11] = [
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.signal",
    "standby.signal",
    "tablespace_map",
    "tablespace_map.old",
];

/// A file that belongs to the backup.
#[derive(Clone, Debug)]
pub(crate) struct PlannedFile {
    /// Its path below the data directory.
    pub(crate) path: String,
    /// Where it is read.
    pub(crate) location: PathBuf,
    /// For a relation's file, the number of its first page.
    pub(crate) first_page: Option<u32>,
}

/// A data directory, as it stood when it was listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct DataDirectory {
    /// Every directory, parents first.
    pub(crate) directories: Vec<String>,
    /// Every file but the control file, the largest first.
    pub(crate) files: Vec<PlannedFile>,
    /// The tablespaces that are elsewhere.
    pub(crate) tablespaces: Vec<Tablespace>,
    /// Whether the group may read it.
    pub(crate) group_access: bool,
}

impl DataDirectory {
    /// Lists the data directory at `root`. What vanishes meanwhile is replayed from the log.
    pub(crate) fn list(root: &Path) -> Result<Self, Failure> {
        let mode = fs::metadata(root)
            .map_err(Failure::io("look at", root))?
            .permissions()
            .mode();
        let mut listed = Self {
            group_access: mode & 0o050 != 0,
            ..Self::default()
        };
        let mut sizes = Vec::new();
        listed.walk(root, "", &mut sizes)?;
        // A relation of a gigabyte that is begun last would be read alone in the end.
        let mut by_size: Vec<_> = sizes.into_iter().zip(listed.files).collect();
        by_size.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        listed.files = by_size.into_iter().map(|(_, file)| file).collect();
        Ok(listed)
    }

    fn walk(&mut self, place: &Path, path: &str, sizes: &mut Vec<u64>) -> Result<(), Failure> {
        let names = names_in(place)?;
        let unlogged = unlogged(&names);
        for name in &names {
            let path = below(path, name);
            let place = place.join(name);
            if is_left_out(&path, name) || is_of_unlogged(name, &unlogged) {
                continue;
            }
            let Ok(found) = fs::symlink_metadata(&place) else {
                continue;
            };
            if path.starts_with("pg_tblspc/") && found.is_symlink() {
                self.tablespace(&place, &path, name, sizes)?;
            } else if found.is_dir() || path == "pg_wal" {
                self.directory(&place, &path, sizes)?;
            } else if found.is_file() {
                let first_page = first_page(&path, name);
                sizes.push(found.len());
                self.files.push(PlannedFile {
                    path,
                    location: place,
                    first_page,
                });
            } else {
                warn!(path = %place.display(), "neither a file nor a directory: left out, as pg_basebackup does");
            }
        }
        Ok(())
    }

    fn directory(&mut self, place: &Path, path: &str, sizes: &mut Vec<u64>) -> Result<(), Failure> {
        self.directories.push(path.to_owned());
        if path == "pg_wal" {
            self.directories.push("pg_wal/archive_status".to_owned());
            return Ok(());
        }
        if EMPTIED.contains(&path) {
            return Ok(());
        }
        self.walk(place, path, sizes)
    }

    fn tablespace(
        &mut self,
        link: &Path,
        path: &str,
        name: &str,
        sizes: &mut Vec<u64>,
    ) -> Result<(), Failure> {
        let failed = |it| Failure::io("follow", link)(it);
        let location = fs::read_link(link).map_err(failed)?;
        let refuse = || {
            Failure::Incomplete(format!(
                "`{path}` is not a link to a tablespace that can be named in a manifest"
            ))
        };
        self.tablespaces.push(Tablespace {
            oid: name.parse().map_err(|_| refuse())?,
            location: location.to_str().ok_or_else(refuse)?.to_owned(),
        });
        self.directories.push(path.to_owned());
        self.walk(&location, path, sizes)
    }
}

fn names_in(place: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("list", place)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Failure::io("list", place))?;
        let name = entry.file_name().into_string().map_err(|name| {
            let name = name.to_string_lossy().into_owned();
            Failure::Incomplete(format!("the file name `{name}` is not text"))
        })?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}/{name}")
}

fn is_left_out(path: &str, name: &str) -> bool {
    LEFT_OUT.contains(&path)
        || path == "global/pg_control"
        || name.starts_with("pgsql_tmp")
        || name.starts_with("pg_internal.init")
        || is_temporary_relation(name)
}

/// `t3_16384`: a relation of a session's own.
fn is_temporary_relation(name: &str) -> bool {
    let digits = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    name.strip_prefix('t')
        .and_then(|it| it.split_once('_'))
        .is_some_and(|(backend, rest)| {
            digits(backend) && rest.split(['_', '.']).next().is_some_and(digits)
        })
}

/// Returns the relations in a directory that have an `init` fork: they are emptied when a server
/// starts after a crash, which a restored one is.
fn unlogged(names: &[String]) -> BTreeSet<&str> {
    let initial = names.iter().filter_map(|it| it.strip_suffix("_init"));
    initial
        .filter(|it| it.bytes().all(|it| it.is_ascii_digit()))
        .collect()
}

fn is_of_unlogged(name: &str, unlogged: &BTreeSet<&str>) -> bool {
    let (relation, fork) = match name.split_once('_') {
        Some((relation, rest)) => (relation, rest.split('.').next().unwrap_or_default()),
        None => (name.split('.').next().unwrap_or_default(), ""),
    };
    unlogged.contains(relation) && fork != "init"
}

/// Returns the number of the first page of a relation's file: `16384`, `16384_fsm`, `16384.2`, below
/// `base`, `global` or a tablespace.
fn first_page(path: &str, name: &str) -> Option<u32> {
    let top = path.split('/').next()?;
    if !matches!(top, "base" | "global" | "pg_tblspc") {
        return None;
    }
    let (stem, segment) = name.split_once('.').unwrap_or((name, "0"));
    let (relation, fork) = stem.split_once('_').unwrap_or((stem, "main"));
    let is_number = !relation.is_empty() && relation.bytes().all(|it| it.is_ascii_digit());
    if !is_number || !matches!(fork, "main" | "fsm" | "vm" | "init") {
        return None;
    }
    segment.parse::<u32>().ok()?.checked_mul(PAGES_PER_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_pg_basebackup_takes() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "PG_VERSION",
            "postmaster.pid",
            "pg_wal/000000010000000000000001",
            "pg_replslot/b/state",
            "base/5/1259",
            "base/5/1259_fsm",
            "base/5/1259.1",
            "base/5/16384",
            "base/5/16384_init",
            "base/5/16384_vm",
            "base/5/t3_16390",
            "base/5/pg_internal.init.77",
            "base/pgsql_tmp/pgsql_tmp1.0",
            "global/pg_control",
            "global/pg_filenode.map",
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }

        let mut listed = DataDirectory::list(root.path()).unwrap();
        listed.files.sort_by(|a, b| a.path.cmp(&b.path));

        let files: Vec<_> = listed.files.iter().map(|it| it.path.as_str()).collect();
        let taken = [
            "PG_VERSION",
            "base/5/1259",
            "base/5/1259.1",
            "base/5/1259_fsm",
            "base/5/16384_init",
            "global/pg_filenode.map",
        ];
        assert_eq!(files, taken);
        assert!(listed.directories.contains(&"pg_replslot".to_owned()));
        assert!(
            listed
                .directories
                .contains(&"pg_wal/archive_status".to_owned())
        );
        assert!(!listed.directories.contains(&"pg_replslot/b".to_owned()));
    }

    #[test]
    fn only_relations_have_pages() {
        assert_eq!(first_page("base/5/1259", "1259"), Some(0));
        assert_eq!(first_page("base/5/1259_vm.2", "1259_vm.2"), Some(262_144));
        for (path, name) in [
            ("base/5/PG_VERSION", "PG_VERSION"),
            ("global/pg_filenode.map", "pg_filenode.map"),
            ("pg_xact/0000", "0000"),
        ] {
            assert_eq!(first_page(path, name), None, "{path}");
        }
    }

    #[test]
    fn follows_tablespaces_and_remembers_where_they_were() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir_all(elsewhere.path().join("PG_15_202209061/5")).unwrap();
        fs::write(elsewhere.path().join("PG_15_202209061/5/16400"), "x").unwrap();
        fs::create_dir(root.path().join("pg_tblspc")).unwrap();
        let link = root.path().join("pg_tblspc/16399");
        std::os::unix::fs::symlink(elsewhere.path(), link).unwrap();

        let listed = DataDirectory::list(root.path()).unwrap();

        assert_eq!(listed.tablespaces[0].oid, 16399);
        let path = "pg_tblspc/16399/PG_15_202209061/5/16400";
        assert_eq!(listed.files[0].path, path);
        assert_eq!(listed.files[0].first_page, Some(0));
    }
}
