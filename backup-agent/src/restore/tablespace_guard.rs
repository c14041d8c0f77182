//! Protects the tablespaces of a server on the same host from a copy's recovery.
//!
//! PostgreSQL replays the creation of a tablespace at the path that it had on the original, and
//! writes its files there, even if another server's files are there; up to version 14 it removes
//! those first (`create_tablespace_directories` in `src/backend/commands/tablespace.c`). No setting
//! changes that, so `wal fetch` scans each segment before it delivers it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use causeway_core::Lsn;
use causeway_core::wal::{WalRecord, WalScanner};
use tracing::warn;

use crate::error::Error;
use crate::restore::target_directories::is_version_directory;

/// State that a segment leaves for the next one: a record that ends only there. PostgreSQL ignores
/// the name, and backups omit the content of `pg_wal`.
const STATE_FILE: &str = "pg_wal/backup-agent.scan";

/// Bytes of a segment that are searched for a record begun in the previous one. A record that
/// creates a tablespace has no more than a path (`MAXPGPATH` is 1024) and some headers.
const CONTINUED_BYTES: usize = 64 << 10;

/// Scans one segment, which arrives in parts.
#[derive(Debug)]
pub(crate) struct TablespaceGuard {
    data_directory: PathBuf,
    scanner: WalScanner,
    /// Scanner of the previous segment, if this one follows it.
    before: Option<WalScanner>,
    seen_bytes: usize,
    created: Vec<Created>,
}

/// Tablespace that a segment creates.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Created {
    oid: u32,
    path: PathBuf,
}

impl TablespaceGuard {
    /// Returns a guard for a segment that the server on `data_directory` has requested.
    pub(crate) fn new(data_directory: &Path) -> Self {
        Self {
            data_directory: data_directory.to_owned(),
            scanner: WalScanner::new(),
            before: None,
            seen_bytes: 0,
            created: Vec::new(),
        }
    }

    /// Scans the next bytes of the segment.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let created = &mut self.created;
        let mut show = |record: &WalRecord<'_>| {
            if let Some((oid, path)) = record.created_tablespace() {
                let path = PathBuf::from(OsStr::from_bytes(path));
                created.push(Created { oid, path });
            }
        };
        if self.seen_bytes == 0 {
            let address = bytes.get(8..).and_then(<[u8]>::first_chunk);
            let address = address.map(|bytes| Lsn::new(u64::from_le_bytes(*bytes)));
            let before = read_state(&self.data_directory);
            self.before =
                before.filter(|scanner| address.is_some() && scanner.expects() == address);
        }
        if let Some(before) = &mut self.before {
            let room = CONTINUED_BYTES.saturating_sub(self.seen_bytes);
            before.push(bytes.get(..room).unwrap_or(bytes), &mut show);
        }
        self.scanner.push(bytes, &mut show);
        self.seen_bytes = self.seen_bytes.saturating_add(bytes.len());
    }

    /// Refuses the segment `name` if replaying it would write into another server's files.
    pub(crate) fn finish(self, name: &str) -> Result<(), Error> {
        write_state(&self.data_directory, &self.scanner);
        for created in &self.created {
            let Err(why) = created.check(&self.data_directory) else {
                continue;
            };
            let (oid, path) = (created.oid, created.path.display());
            let text = format!(
                "`{name}` creates tablespace {oid} in `{path}`, {why}: recover on a host where `{path}` \
                 is free, to a target before the segment, or from a later backup, whose \
                 tablespaces can be put elsewhere by `--tablespace-mapping`"
            );
            return Err(Error::RecoveryStopped(Box::new(Error::Refused(text))));
        }
        Ok(())
    }
}

impl Created {
    fn check(&self, data_directory: &Path) -> Result<(), String> {
        // A tablespace inside the data directory has no path.
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        let links = data_directory.join("pg_tblspc");
        match fs::read_link(links.join(self.oid.to_string())) {
            Ok(own) if own == self.path => return Ok(()),
            Ok(mapped) => {
                return Err(format!(
                    "and the restore has put it in `{}`, which replay would undo",
                    mapped.display()
                ));
            }
            Err(_) => {}
        }
        // It may be created again at a location that this copy uses for another tablespace, which
        // it drops.
        let mut others = fs::read_dir(&links).into_iter().flatten();
        if others.any(|entry| entry.is_ok_and(|entry| is_link_to(&entry.path(), &self.path))) {
            return Ok(());
        }
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(format!("which cannot be read: {error}")),
        };
        let prefix = version_prefix(data_directory);
        for entry in entries {
            let name = entry.map_err(|error| format!("which cannot be read: {error}"))?;
            let name = name.file_name();
            let name = name.to_string_lossy();
            if is_version_directory(&name) && name.starts_with(&prefix) {
                return Err("where another server has its files".to_owned());
            }
        }
        Ok(())
    }
}

fn is_link_to(link: &Path, path: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target == path)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Returns the prefix of this server's version directories in a tablespace.
fn version_prefix(data_directory: &Path) -> String {
    let version = fs::read_to_string(data_directory.join("PG_VERSION"));
    version.map_or_else(|_| "PG_".to_owned(), |text| format!("PG_{}_", text.trim()))
}

/// Reads the state of the previous segment. A lost state misses no record: after a restart
/// PostgreSQL requests the segment in which a record begins before the one in which it ends.
fn read_state(data_directory: &Path) -> Option<WalScanner> {
    let text = fs::read(data_directory.join(STATE_FILE)).ok()?;
    WalScanner::from_state(&text)
}

fn write_state(data_directory: &Path, scanner: &WalScanner) {
    let path = data_directory.join(STATE_FILE);
    let text = serde_json::to_vec(scanner).map_err(io::Error::from);
    if let Err(error) = text.and_then(|text| fs::write(&path, text)) {
        warn!(path = %path.display(), %error, "WAL scan state not written");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn location_of_another_server_then_refused() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir_all(data.join("pg_tblspc")).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        let check = |oid, name: &str| {
            let path = root.path().join(name);
            Created { oid, path }.check(&data)
        };
        for path in [
            "live/PG_15_202209061",
            "older/PG_14_202107181",
            "disk/lost+found",
        ] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }

        assert!(check(1, "live").unwrap_err().contains("another server"));
        for free in ["older", "disk", "nowhere"] {
            assert_eq!(check(1, free), Ok(()), "{free}");
        }
        let in_place = Created {
            oid: 1,
            path: PathBuf::new(),
        };
        assert_eq!(in_place.check(&data), Ok(()));

        symlink(root.path().join("live"), data.join("pg_tblspc/1")).unwrap();
        assert_eq!(check(1, "live"), Ok(()), "its own");
        assert_eq!(check(2, "live"), Ok(()), "its own, under another number");
        assert!(check(1, "older").unwrap_err().contains("replay would undo"));
    }

    #[test]
    fn record_across_two_segments_then_found() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir_all(data.path().join("pg_wal")).unwrap();
        let live = data.path().join("live");
        fs::create_dir_all(live.join("PG_15_202209061")).unwrap();
        let (first, second) = segments(live.to_str().unwrap());
        let scan = |bytes: &[u8]| {
            let mut guard = TablespaceGuard::new(data.path());
            bytes.chunks(100_000).for_each(|chunk| guard.push(chunk));
            guard.finish("segment")
        };

        scan(&first).unwrap();
        let refused = scan(&second).unwrap_err();
        assert_eq!(refused.exit_code(), 255);
        assert!(refused.to_string().contains("creates tablespace 77 in"));
        // This is the next segment's state now.
        scan(&second).unwrap();
        scan(&first).unwrap();
        assert!(scan(&second).is_err());
    }

    /// Returns two segments of 1 MiB: a record fills the first one except for 40 bytes, and the
    /// next record, which creates a tablespace, begins there.
    fn segments(path: &str) -> (Vec<u8>, Vec<u8>) {
        const START: u64 = 1 << 20;
        let filling = 8152 + 127 * 8168 - 40;
        let record = |length: usize, previous: u64, info: u8, manager: u8| {
            let mut bytes = u32::try_from(length).unwrap().to_le_bytes().to_vec();
            bytes.extend([0; 4]);
            bytes.extend(previous.to_le_bytes());
            bytes.extend([info, manager, 0, 0, 0, 0, 0, 0]);
            bytes
        };
        let mut content = record(filling, 0, 0x20, 0);
        content.resize(filling, 0);
        let mut created = vec![255, u8::try_from(path.len() + 5).unwrap(), 77, 0, 0, 0];
        created.extend(path.as_bytes());
        created.push(0);
        let length = 24 + created.len();
        content.extend(record(length, START + 40, 0, 5));
        content.extend(created);

        let mut rest = content.as_slice();
        let mut written = Vec::new();
        for page in 0..256_u64 {
            let left = match page {
                1..128 => filling - (8152 + usize::try_from(page - 1).unwrap() * 8168),
                128 => length - 40,
                _ => 0,
            };
            let long = page % 128 == 0;
            let info = u16::from(left > 0) | (u16::from(long) << 1);
            let mut bytes = 0xD110_u16.to_le_bytes().to_vec();
            bytes.extend(info.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend((START + page * 8192).to_le_bytes());
            bytes.extend(u32::try_from(left).unwrap().to_le_bytes());
            bytes.extend([0; 4]);
            if long {
                bytes.extend([0; 8]);
                bytes.extend((1_u32 << 20).to_le_bytes());
                bytes.extend(8192_u32.to_le_bytes());
            }
            let (now, later) = rest.split_at(rest.len().min(8192 - bytes.len()));
            bytes.extend(now);
            rest = later;
            bytes.resize(8192, 0);
            written.extend(bytes);
        }
        let second = written.split_off(1 << 20);
        (written, second)
    }
}
