//! Removal of diverged WAL from `pg_wal` after a rewind or a copy.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use causeway_core::Timeline;
use causeway_core::lsn::{Ancestor, SegmentName};
use tracing::info;

use crate::agent::standby_setup::copied_wal::{CopiedWal, REMEMBERED, content};
use crate::agent::standby_setup::diverged_wal::DivergedWalSaves;
use crate::data_directory::wal::{WalDirectory, WalPastFork};
use crate::durable_file::write_private;

/// Cleans `pg_wal` after a complete rewind or copy, before PostgreSQL starts. This node's own WAL was saved before.
///
/// A segment or `.partial` file with records past the fork of its timeline from the primary's history is removed if a
/// complete save holds it with the same content. These stay:
///
/// - One that also has records before the fork, unless a later timeline of the primary's history has the same segment
///   here, which PostgreSQL reads and sends first.
/// - One with a `.ready` file. A promoted server archives it and warns if it is missing, and the archive then allows a
///   recovery to the abandoned timeline. A later rewind removes it. Without `.ready` it is never archived, so the save
///   keeps it.
/// - One that is in no save. It came from the primary or the archive, or `pg_rewind` recovered a crashed server, which
///   adds a checkpoint. Its content is recorded, so that a later rewind does not save it as diverged.
///
/// # Errors
///
/// When the WAL cannot be read, or something cannot be removed or written.
pub(super) fn clean_wal(
    data: &Path,
    state: &Path,
    primary: (Timeline, &[Ancestor]),
) -> anyhow::Result<()> {
    let log = data.join("pg_wal");
    let wal = WalDirectory::scan_all(&log)?;
    let beyond = wal.files_past_fork(Some(primary))?;
    let saves = DivergedWalSaves::of(state)?;
    let mut brought = CopiedWal::default();
    let mut removed = 0_u32;
    for file in &beyond {
        if file.segment().is_none() {
            continue;
        }
        if saves.holder(&log, file).is_none() {
            brought.files.push(content(&log, file)?);
        } else if is_unneeded(&wal, &log, file, &beyond, primary)? {
            let name = file.name.to_string();
            fs::remove_file(log.join(&name))?;
            ignore_not_found(fs::remove_file(status(&log, &name, "done")))?;
            removed += 1;
        }
    }
    if removed > 0 {
        File::open(&log)?.sync_all()?;
        info!(files = removed, "saved diverged WAL removed from `pg_wal`");
    }
    write_private(
        &state.join(REMEMBERED),
        &serde_json::to_string_pretty(&brought)?,
    )
}

/// Returns whether neither PostgreSQL nor the archive needs this file.
fn is_unneeded(
    wal: &WalDirectory,
    log: &Path,
    file: &WalPastFork,
    beyond: &[WalPastFork],
    (newest, ancestors): (Timeline, &[Ancestor]),
) -> io::Result<bool> {
    let Some(segment) = file.segment() else {
        return Ok(false);
    };
    if status(log, &file.name.to_string(), "ready").try_exists()? {
        return Ok(false);
    }
    if !wal.has_shared_records(segment, ancestors) {
        return Ok(true);
    }
    let goes_itself = |timeline| {
        let other = SegmentName {
            timeline,
            ..segment
        };
        beyond.iter().any(|file| file.segment() == Some(other))
    };
    let timelines = ancestors
        .iter()
        .map(|ancestor| ancestor.timeline)
        .chain([newest]);
    let later =
        timelines.filter(|timeline| *timeline > segment.timeline && !goes_itself(*timeline));
    wal.is_on_any_timeline(segment, later)
}

fn status(log: &Path, name: &str, state: &str) -> std::path::PathBuf {
    log.join("archive_status").join(format!("{name}.{state}"))
}

fn ignore_not_found(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests;
