//! What lies in `pg_wal` after a rewind or a copy and belongs to histories that the primary's left.
//! `pg_rewind` brings the primary's own leftovers, and keeps some of this node's: without this they would go
//! from node to node, and be saved by each as what only it has.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use causeway_core::Timeline;
use causeway_core::lsn::{Ancestor, SegmentName};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::agent::standby_setup::diverged_wal::Saves;
use crate::data_directory::wal::{Beyond, WalDirectory};
use crate::durable_file::write_private;

/// In the state directory: which files came with the last rewind or copy, by their content.
const REMEMBERED: &str = "brought.json";

/// WAL that came with a rewind or a copy, and is in no save: it holds no row that only this node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Brought {
    files: Vec<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    name: String,
    bytes: u64,
    sha256: String,
}

impl Brought {
    /// Reads what was remembered. What cannot be read is forgotten: more is saved then.
    pub(super) fn read(state: &Path) -> Self {
        let text = fs::read_to_string(state.join(REMEMBERED)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Says whether this file of `log` is one of them, and is as it came. One that has grown is not.
    pub(super) fn has(&self, log: &Path, file: &Beyond) -> bool {
        let name = file.name.to_string();
        let mut same = self
            .files
            .iter()
            .filter(|it| it.name == name && it.bytes == file.bytes);
        same.any(|it| sha256(&log.join(&name)).is_ok_and(|found| found == it.sha256))
    }
}

/// Looks through `pg_wal` after a rewind or a copy that completed, before the server is started. What this
/// node itself had was saved before it.
///
/// A segment or `.partial` with records past the place at which the primary's history left its timeline is
/// removed if a whole save has it, byte for byte. These stay:
///
/// - One that holds records before that place too, unless a later timeline of the primary's history has the
///   same segment here, which is what PostgreSQL reads first, and sends.
/// - One with a `.ready`. A server archives it once it is promoted, and warns of each that is missing; the
///   archive of a dead branch is worth having for who wants to recover to it. It goes with a later rewind.
///   Without `.ready` nobody would ever archive it: the save is where it is kept.
/// - One that is in no save. The primary or the archive gave it, or `pg_rewind` has recovered a server that
///   had crashed, which adds a checkpoint to what is saved. It is remembered by its content, so that it is
///   not saved as what only this node has.
///
/// # Errors
///
/// When the WAL cannot be read, or something cannot be removed or written.
pub(super) fn tidy(
    data: &Path,
    state: &Path,
    primary: (Timeline, &[Ancestor]),
) -> anyhow::Result<()> {
    let log = data.join("pg_wal");
    let wal = WalDirectory::thoroughly(&log)?;
    let beyond = wal.beyond(Some(primary))?;
    let saves = Saves::of(state)?;
    let mut brought = Brought::default();
    let mut removed = 0_u32;
    for file in &beyond {
        if file.segment().is_none() {
            continue;
        }
        if saves.holder(&log, file).is_none() {
            brought.files.push(content(&log, file)?);
        } else if is_needless(&wal, &log, file, &beyond, primary)? {
            let name = file.name.to_string();
            fs::remove_file(log.join(&name))?;
            absent(fs::remove_file(status(&log, &name, "done")))?;
            removed += 1;
        }
    }
    if removed > 0 {
        File::open(&log)?.sync_all()?;
        info!(files = removed, "saved WAL of other histories removed");
    }
    write_private(
        &state.join(REMEMBERED),
        &serde_json::to_string_pretty(&brought)?,
    )
}

/// Says whether neither PostgreSQL nor the archive needs this file.
fn is_needless(
    wal: &WalDirectory,
    log: &Path,
    file: &Beyond,
    beyond: &[Beyond],
    (newest, ancestors): (Timeline, &[Ancestor]),
) -> io::Result<bool> {
    let Some(segment) = file.segment() else {
        return Ok(false);
    };
    if status(log, &file.name.to_string(), "ready").try_exists()? {
        return Ok(false);
    }
    if !wal.holds_shared(segment, ancestors) {
        return Ok(true);
    }
    let goes_itself = |timeline| {
        let other = SegmentName {
            timeline,
            ..segment
        };
        beyond.iter().any(|it| it.segment() == Some(other))
    };
    let timelines = ancestors.iter().map(|it| it.timeline).chain([newest]);
    let later = timelines.filter(|it| *it > segment.timeline && !goes_itself(*it));
    wal.is_on_one_of(segment, later)
}

fn status(log: &Path, name: &str, state: &str) -> std::path::PathBuf {
    log.join("archive_status").join(format!("{name}.{state}"))
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn content(log: &Path, file: &Beyond) -> io::Result<Content> {
    let name = file.name.to_string();
    Ok(Content {
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
        sum.update(part.get(..length).unwrap_or_default());
    }
    let mut text = String::new();
    for byte in sum.finish().as_ref() {
        write!(text, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
