//! Record of abandoned timelines' WAL in `pg_wal` after a rewind or a copy. `pg_rewind` copies such files from the
//! primary and keeps some of this node's; without the record, each node would save them as diverged.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::data_directory::wal::WalPastFork;

/// File in the state directory with the hashes of the files that came with the last rewind or copy.
pub(super) const REMEMBERED: &str = "brought.json";

/// WAL that came with a rewind or a copy, so that no row in it is unique to this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopiedWal {
    pub(super) files: Vec<FileDigest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileDigest {
    name: String,
    bytes: u64,
    sha256: String,
}

impl CopiedWal {
    /// Reads the record. An unreadable one counts as empty, so that more is saved.
    pub(super) fn read(state: &Path) -> Self {
        let nothing = Self { files: Vec::new() };
        match fs::read_to_string(state.join(REMEMBERED)) {
            Ok(text) => serde_json::from_str(&text).unwrap_or(nothing),
            Err(_) => nothing,
        }
    }

    /// Returns whether this file of `log` is one of them and unchanged.
    pub(super) fn has(&self, log: &Path, file: &WalPastFork) -> bool {
        let name = file.name.to_string();
        let mut same = self
            .files
            .iter()
            .filter(|copied| copied.name == name && copied.bytes == file.bytes);
        same.any(|copied| sha256(&log.join(&name)).is_ok_and(|found| found == copied.sha256))
    }
}

pub(super) fn content(log: &Path, file: &WalPastFork) -> io::Result<FileDigest> {
    let name = file.name.to_string();
    Ok(FileDigest {
        sha256: sha256(&log.join(&name))?,
        name,
        bytes: file.bytes,
    })
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Context::new(&SHA256);
    let mut part = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut part)?;
        if length == 0 {
            break;
        }
        sum.update(
            part.get(..length)
                .expect("read returns at most the buffer's length"),
        );
    }
    let mut text = String::new();
    for byte in sum.finish().as_ref() {
        write!(text, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok(text)
}
