//! Files that the server cannot start without, according to the server, so that the backup fails
//! without one of them, and not its restore.

use std::collections::BTreeSet;
use std::path::Path;

use crate::base_backup::directory_walk::WalkResult;
use crate::base_backup::session::{ServerInfo, Session};
use crate::error::Error;

/// Files at the same path in every cluster.
const FILES: [&str; 3] = ["PG_VERSION", "global/pg_control", "global/pg_filenode.map"];

/// Directories that initdb creates (`subdirs` in `src/bin/initdb/initdb.c`) and a start does not.
const DIRECTORIES: [&str; 12] = [
    "base",
    "global",
    "pg_commit_ts",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_stat",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_xact",
];

/// Transactions in a file of `pg_xact`: 32 pages of 8192 bytes, 4 transactions in each byte
/// (`src/backend/access/transam/clog.c`).
const TRANSACTIONS_PER_FILE: u64 = 32 * 8192 * 4;

/// Multixacts in a file of `pg_multixact/offsets`: 32 pages of 8192 bytes, 4 bytes for each
/// (`src/backend/access/transam/multixact.c`).
const MULTIXACTS_PER_FILE: u64 = 32 * 8192 / 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NeededFiles {
    /// Paths of files below the data directory.
    pub(crate) files: BTreeSet<String>,
    /// Paths of directories.
    pub(crate) directories: BTreeSet<String>,
}

impl NeededFiles {
    /// Returns the files that are needed at both times: what came or went during a backup is in its
    /// WAL.
    pub(crate) fn intersection(&self, later: &Self) -> Self {
        Self {
            files: self.files.intersection(&later.files).cloned().collect(),
            directories: self
                .directories
                .intersection(&later.directories)
                .cloned()
                .collect(),
        }
    }

    /// Checks that everything is there.
    pub(crate) fn check(
        &self,
        root: &Path,
        taken: &BTreeSet<String>,
        walked: &WalkResult,
    ) -> Result<(), Error> {
        let directories: BTreeSet<&String> = walked.directories.iter().collect();
        let no_directory = self
            .directories
            .iter()
            .filter(|path| !directories.contains(path));
        let missing: Vec<&String> = self.files.difference(taken).chain(no_directory).collect();
        let Some(first) = missing.first() else {
            return Ok(());
        };
        let place = root.join(first);
        let there = if place.exists() { "is" } else { "is not" };
        Err(Error::Incomplete(format!(
            "{} files or directories that PostgreSQL needs are not in it, the first is `{first}`, which \
             {there} in the data directory now",
            missing.len()
        )))
    }
}

impl Session {
    /// Queries the files that the server needs.
    pub(crate) async fn needed(&self, server: &ServerInfo) -> Result<NeededFiles, Error> {
        self.try_needed(server).await.map_err(Error::Postgres)
    }

    async fn try_needed(&self, server: &ServerInfo) -> anyhow::Result<NeededFiles> {
        let version = server.version_directory();
        let mut needed = NeededFiles {
            files: FILES.map(ToOwned::to_owned).into(),
            directories: DIRECTORIES.map(ToOwned::to_owned).into(),
        };
        // -2 marks a database whose removal was interrupted (`DATCONNLIMIT_INVALID_DB`).
        let sql = "SELECT CASE dattablespace WHEN 1663 THEN 'base/' || oid \
                   ELSE 'pg_tblspc/' || dattablespace || '/' || $1 || '/' || oid END FROM pg_database \
                   WHERE datconnlimit <> -2";
        for row in self.client().query(sql, &[&version]).await? {
            let database: String = row.try_get(0)?;
            needed.files.insert(format!("{database}/PG_VERSION"));
            needed.files.insert(format!("{database}/pg_filenode.map"));
            needed.directories.insert(database);
        }
        let sql = "SELECT 'pg_tblspc/' || oid || '/' || $1 FROM pg_tablespace \
                   WHERE spcname NOT IN ('pg_default', 'pg_global')";
        for row in self.client().query(sql, &[&version]).await? {
            needed.directories.insert(row.try_get(0)?);
        }
        // The system catalogs, shared ones and those of this database.
        let sql = "SELECT pg_relation_filepath(oid) FROM pg_class \
                   WHERE oid < 16384 AND relkind IN ('r', 'i', 't') AND relpersistence = 'p'";
        for row in self.client().query(sql, &[]).await? {
            needed.files.extend(row.try_get::<_, Option<String>>(0)?);
        }
        needed.files.extend(self.newest_transaction_files().await?);
        for name in ["config_file", "hba_file", "ident_file"] {
            let setting = self.visible_setting(name).await?;
            let directory = self.visible_setting("data_directory").await?;
            let below = setting.zip(directory).and_then(|(file, directory)| {
                let path = Path::new(&file).strip_prefix(directory).ok()?;
                path.to_str().map(ToOwned::to_owned)
            });
            needed.files.extend(below);
        }
        Ok(needed)
    }

    /// Returns the files with the commit status of the newest transactions.
    async fn newest_transaction_files(&self) -> anyhow::Result<[String; 2]> {
        let sql = "SELECT split_part(next_xid, ':', 2)::bigint, next_multixact_id::text::bigint \
                   FROM pg_control_checkpoint()";
        let row = self.client().query_one(sql, &[]).await?;
        let file = |next: i64, in_one: u64| {
            let last = u64::try_from(next).unwrap_or(0).saturating_sub(1);
            format!("{:04X}", last / in_one)
        };
        Ok([
            format!("pg_xact/{}", file(row.try_get(0)?, TRANSACTIONS_PER_FILE)),
            format!(
                "pg_multixact/offsets/{}",
                file(row.try_get(1)?, MULTIXACTS_PER_FILE)
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_at_both_times_and_not_taken_then_named() {
        let set = |paths: &[&str]| {
            paths
                .iter()
                .map(|path| (*path).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let early = NeededFiles {
            files: set(&["PG_VERSION", "base/5/PG_VERSION", "base/7/PG_VERSION"]),
            directories: set(&["pg_xact"]),
        };
        let late = NeededFiles {
            files: set(&["PG_VERSION", "base/5/PG_VERSION", "base/8/PG_VERSION"]),
            directories: set(&["pg_xact"]),
        };
        let mut walked = WalkResult {
            directories: vec!["pg_xact".to_owned()],
            ..WalkResult::default()
        };
        let needed = early.intersection(&late);
        let root = Path::new("/nowhere");

        let taken = set(&["PG_VERSION", "base/5/PG_VERSION"]);
        assert!(needed.check(root, &taken, &walked).is_ok());
        let error = needed
            .check(root, &set(&["PG_VERSION"]), &walked)
            .unwrap_err();
        assert!(error.to_string().contains("`base/5/PG_VERSION`"), "{error}");
        walked.directories.clear();
        let error = needed.check(root, &taken, &walked).unwrap_err();
        assert!(error.to_string().contains("`pg_xact`"), "{error}");
    }
}
