//! File names in a data directory: relations, their forks, and the files that `pg_basebackup` omits
//! (`src/backend/backup/basebackup.c` of PostgreSQL 13 to 18).

use causeway_core::backup::manifest::paths::is_reserved;

use crate::base_backup::page::PAGES_PER_FILE;

/// Directories that are stored empty: PostgreSQL fills them when it starts.
pub(crate) const EMPTIED: [&str; 7] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

/// Files that belong to the running server, and files that a restore writes.
const LEFT_OUT: [&str; 5] = [
    "backup_label.old",
    "backup_manifest",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "tablespace_map.old",
];

/// Fork of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fork {
    Main,
    FreeSpaceMap,
    VisibilityMap,
    Init,
}

/// File of a relation that is not temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelationFile {
    relation: u32,
    fork: Fork,
    segment: u32,
}

impl RelationFile {
    /// Parses a name such as `16384`, `16384_fsm` or `16384.2`, as
    /// `parse_filename_for_nontemp_relation` does.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (stem, segment) = match name.split_once('.') {
            Some((stem, segment)) => (stem, digits(segment)?),
            None => (name, 0),
        };
        let (relation, fork) = match stem.split_once('_') {
            Some((relation, fork)) => (relation, Fork::parse(fork)?),
            None => (stem, Fork::Main),
        };
        Some(Self {
            relation: digits(relation)?,
            fork,
            segment,
        })
    }

    /// Returns the number of the relation whose init fork this is. The relation is unlogged:
    /// PostgreSQL empties it at a start after a crash, and at the start of a restored copy.
    pub(crate) fn unlogged_relation(self) -> Option<u32> {
        (self.fork == Fork::Init).then_some(self.relation)
    }

    /// Returns whether the file belongs to one of the `unlogged` relations, which are sorted, and
    /// will be emptied.
    pub(crate) fn is_emptied(self, unlogged: &[u32]) -> bool {
        self.fork != Fork::Init && unlogged.binary_search(&self.relation).is_ok()
    }

    /// Returns the number of the first page in the file, if it can have pages.
    pub(crate) fn first_page(self) -> Option<u32> {
        self.segment.checked_mul(PAGES_PER_FILE)
    }
}

impl Fork {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "fsm" => Some(Self::FreeSpaceMap),
            "vm" => Some(Self::VisibilityMap),
            "init" => Some(Self::Init),
            _ => None,
        }
    }
}

/// Returns whether the directory at `path` holds relations, among which may be temporary ones.
pub(crate) fn holds_relations(path: &str) -> bool {
    path == "global" || is_database(path)
}

/// Returns whether `path` is the directory of a database: `base/5`,
/// `pg_tblspc/16399/PG_15_202209061/5`.
pub(crate) fn is_database(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["base", database] => digits(database).is_some(),
        ["pg_tblspc", space, version, database] => {
            digits(space).is_some() && version.starts_with("PG_") && digits(database).is_some()
        }
        _ => false,
    }
}

/// Returns whether a backup omits the file, whatever its type.
pub(crate) fn is_left_out(path: &str, name: &str) -> bool {
    LEFT_OUT.contains(&path)
        || is_reserved(path)
        || path == crate::control_file::CONTROL_FILE
        || name == ".DS_Store"
        || name.starts_with("pgsql_tmp")
        || name.starts_with("pg_internal.init")
}

/// Returns whether the name is a session's temporary relation: `t3_16384`, `t3_16384_fsm.1`.
pub(crate) fn is_temporary_relation(name: &str) -> bool {
    let parts = name.strip_prefix('t').and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(backend, rest)| {
        !backend.is_empty()
            && backend.bytes().all(|byte| byte.is_ascii_digit())
            && RelationFile::parse(rest).is_some()
    })
}

/// Returns whether PostgreSQL cannot start without `path`.
pub(crate) fn is_needed(path: &str) -> bool {
    let top = path.split_once('/').map_or(path, |(top, _)| top);
    let files = [
        "PG_VERSION",
        "postgresql.conf",
        "pg_hba.conf",
        "pg_ident.conf",
    ];
    top == "base" || top == "global" || top.starts_with("pg_") || files.contains(&path)
}

fn digits(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relation_file_then_forks_and_segments_are_known() {
        let page = |name: &str| RelationFile::parse(name).and_then(RelationFile::first_page);
        assert_eq!(page("1259"), Some(0));
        assert_eq!(page("1259_vm.2"), Some(262_144));
        for other in [
            "PG_VERSION",
            "pg_filenode.map",
            "1259_backup",
            "1259.old",
            "1259.",
            "_init",
            "t3_1259",
            "1259_vm_1",
            "99999999999",
            "+5",
        ] {
            assert_eq!(RelationFile::parse(other), None, "{other}");
        }
    }

    #[test]
    fn unlogged_relation_then_only_its_forks_emptied() {
        let emptied =
            |name: &str| RelationFile::parse(name).is_some_and(|file| file.is_emptied(&[7, 16384]));
        assert!(emptied("16384") && emptied("16384.1") && emptied("16384_fsm") && emptied("7_vm"));
        assert!(!emptied("16384_init") && !emptied("16385") && !emptied("16384_copy"));
        let init = RelationFile::parse("16384_init").unwrap();
        assert_eq!(init.unlogged_relation(), Some(16384));
    }

    #[test]
    fn temporary_relation_then_only_whole_name_matches() {
        assert!(is_temporary_relation("t3_16390") && is_temporary_relation("t12_16390_fsm.2"));
        for other in [
            "t_16390",
            "t3_",
            "t3_16390_old",
            "t3_16390.bak",
            "table_1",
            "t1_2_3",
        ] {
            assert!(!is_temporary_relation(other), "{other}");
        }
        assert!(is_database("base/5") && is_database("pg_tblspc/16399/PG_15_202209061/5"));
        assert!(
            !is_database("base/pgsql_tmp") && !is_database("mine/5") && !is_database("base/5/6")
        );
    }
}
