//! Object keys. They contain the cluster, timelines, WAL file names and backups, and no content of
//! a backup; `FORMAT.md` lists them.

use causeway_core::backup::BackupId;
use causeway_core::lsn::WalFileName;
use causeway_core::{NodeId, Timeline};

/// Object keys of one PostgreSQL cluster. Two clusters with the same name are kept apart by their
/// system identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectKeys {
    prefix: String,
}

impl ObjectKeys {
    /// Returns the keys of the cluster with this name and identifier.
    pub(crate) fn new(cluster: &NodeId, system_id: u64) -> Self {
        Self {
            prefix: format!("{cluster}/{system_id}"),
        }
    }

    /// Returns the prefix that precedes the system identifiers of all clusters with this name.
    pub(crate) fn cluster_prefix(cluster: &NodeId) -> String {
        format!("{cluster}/")
    }

    /// Returns the key that tests a bucket's conditional writes. It contains no system identifier.
    pub(crate) fn write_check(cluster: &NodeId) -> String {
        format!("{cluster}/write-check")
    }

    /// Returns the key of a WAL file.
    pub(crate) fn wal_file(&self, name: WalFileName) -> String {
        match name {
            WalFileName::History(_) => format!("{}{name}", self.history_prefix()),
            WalFileName::Segment(_) | WalFileName::Partial(_) | WalFileName::BackupLabel(..) => {
                format!("{}{name}", self.timeline_prefix(name.timeline()))
            }
        }
    }

    /// Returns the key of a further WAL file with the same name: there may be several `.partial`
    /// and `.backup` files, each in a slot numbered from 0.
    pub(crate) fn slot(&self, name: WalFileName, slot: u32) -> String {
        match slot {
            0 => self.wal_file(name),
            _ => format!("{}.{slot}", self.wal_file(name)),
        }
    }

    /// Returns the prefix of all keys of this PostgreSQL cluster.
    pub(crate) fn system_prefix(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// Returns the prefix of the WAL files of all timelines.
    pub(crate) fn wal_prefix(&self) -> String {
        format!("{}/wal/", self.prefix)
    }

    /// Returns the prefix of one timeline's segments.
    pub(crate) fn timeline_prefix(&self, timeline: Timeline) -> String {
        format!("{}/wal/{:08X}/", self.prefix, timeline.get())
    }

    /// Returns the prefix of the history files.
    pub(crate) fn history_prefix(&self) -> String {
        format!("{}/history/", self.prefix)
    }

    /// Returns the prefix of the backups.
    pub(crate) fn backup_prefix(&self) -> String {
        format!("{}/backup/", self.prefix)
    }

    /// Returns the prefix of a backup's packs.
    pub(crate) fn pack_prefix(&self, backup: &BackupId) -> String {
        format!("{}{backup}/pack/", self.backup_prefix())
    }

    /// Returns the key of one pack of a backup.
    pub(crate) fn pack(&self, backup: &BackupId, number: u32) -> String {
        format!("{}{number:08}", self.pack_prefix(backup))
    }

    /// Returns the key of a backup's manifest, which completes the backup.
    pub(crate) fn manifest(&self, backup: &BackupId) -> String {
        format!("{}{backup}/manifest", self.backup_prefix())
    }
}

/// Returns the name of the WAL file stored under `key`.
pub(crate) fn wal_file_name(key: &str) -> Option<WalFileName> {
    key.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    proptest! {
        /// A key that names a WAL file has exactly the name of that file as its last part.
        #[test]
        fn damaged_object_key_then_no_panic(
            key in damaged_text("main/7312345678901234567/wal/00000002/00000002000000000000000B.partial"),
        ) {
            if let Some(name) = wal_file_name(&key) {
                let last = name.to_string();
                prop_assert_eq!(key.rsplit('/').next(), Some(last.as_str()));
                let object_keys = ObjectKeys::new(&"main".parse().unwrap(), 1);
                prop_assert_eq!(wal_file_name(&object_keys.wal_file(name)), Some(name));
            }
        }
    }

    #[test]
    fn object_then_key_as_documented() {
        let object_keys = ObjectKeys::new(&"main".parse().unwrap(), 7_312_345_678_901_234_567);
        let backup = "20261120T201500Z-5f3a9c01".parse().unwrap();
        let prefix = "main/7312345678901234567";

        for (name, key) in [
            (
                "00000001000000000000000A",
                "wal/00000001/00000001000000000000000A",
            ),
            ("00000002.history", "history/00000002.history"),
            (
                "00000002000000000000000B.partial",
                "wal/00000002/00000002000000000000000B.partial",
            ),
        ] {
            let name: WalFileName = name.parse().unwrap();
            assert_eq!(object_keys.wal_file(name), format!("{prefix}/{key}"));
            assert_eq!(wal_file_name(key), Some(name));
        }
        let partial = "00000002000000000000000B.partial".parse().unwrap();
        assert_eq!(object_keys.slot(partial, 0), object_keys.wal_file(partial));
        let second = object_keys.slot(partial, 1);
        assert_eq!(second, format!("{}.1", object_keys.wal_file(partial)));
        assert_eq!(wal_file_name(&second), None);
        let pack = format!("{prefix}/backup/20261120T201500Z-5f3a9c01/pack/00000003");
        assert_eq!(object_keys.pack(&backup, 3), pack);
    }
}
