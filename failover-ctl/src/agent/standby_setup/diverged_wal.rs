//! Saves of diverged WAL, made before the data directory is changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use causeway_core::lsn::Ancestor;
use causeway_core::{Lsn, NodeId, Timeline};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::agent::standby_setup::copied_wal::CopiedWal;
use crate::data_directory::wal::{WalDirectory, WalPastFork};
use crate::durable_file::{sync_parent, write_private};

/// Bytes that must stay free on the file system of the saves, because PostgreSQL may write its WAL there.
const MARGIN: u64 = 128 << 20;

/// Index file of a save. A directory without it is not a save.
const INDEX: &str = "index.json";

/// Extension of a save in progress.
const UNFINISHED: &str = "unfinished";

/// Number of saves above which a problem asks the operator to examine them. The agent removes none, because each may
/// hold acknowledged commits.
const UNEXAMINED: usize = 16;

/// Index of a save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DivergedWalIndex {
    format: u32,
    node: NodeId,
    /// Primary whose history lacks the WAL.
    source: NodeId,
    saved_at: String,
    /// Fork of the oldest of these timelines from the primary's history, if known.
    fork: Option<Fork>,
    timelines: Vec<Extent>,
    /// Files of this save.
    files: Vec<Saved>,
    /// Files that earlier saves already hold. Since format 2.
    #[serde(default)]
    elsewhere: Vec<Elsewhere>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fork {
    timeline: Timeline,
    left_at: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Extent {
    timeline: Timeline,
    from: Lsn,
    to: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    name: String,
    bytes: u64,
}

/// File that an earlier save holds with the same content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Elsewhere {
    name: String,
    bytes: u64,
    /// Directory name of that save.
    save: String,
}

/// Complete saves.
#[derive(Debug)]
pub(super) struct DivergedWalSaves(Vec<PathBuf>);

/// Save to make.
pub(super) struct DivergedWalSave<'a> {
    /// Data directory.
    pub(super) data: &'a Path,
    /// State directory of the agent.
    pub(super) state: &'a Path,
    /// This node.
    pub(super) node: &'a NodeId,
    /// The primary.
    pub(super) source: &'a NodeId,
    /// Timeline and ancestors of the primary, if readable.
    pub(super) primary: Option<(Timeline, &'a [Ancestor])>,
}

impl DivergedWalSave<'_> {
    /// Saves the diverged WAL and returns the directory; none if there is none: no file has a record past the fork of its
    /// timeline from the primary's history, except unchanged files that came from a primary.
    ///
    /// # Errors
    ///
    /// When the save is not complete. The data directory is only read.
    pub(super) fn make(&self) -> anyhow::Result<Option<PathBuf>> {
        let log = self.data.join("pg_wal");
        if !log.try_exists()? {
            return Ok(None);
        }
        let wal = WalDirectory::scan_all(&log).context("could not read this node's WAL")?;
        let files = wal
            .files_past_fork(self.primary)
            .context("could not read this node's WAL")?;
        let files = self.keep_own_files(&log, files);
        if files.is_empty() {
            info!("no diverged WAL found");
            return Ok(None);
        }
        let kept = self.state.join("diverged");
        fs::create_dir_all(&kept)
            .with_context(|| format!("could not create `{}`", kept.display()))?;
        let saves = DivergedWalSaves::of(self.state).context("could not read earlier saves")?;
        let (mut new, mut elsewhere) = (Vec::new(), Vec::new());
        for file in &files {
            match saves.holder(&log, file) {
                Some(save) => elsewhere.push((file, save)),
                None => new.push(file),
            }
        }
        if let (true, Some((_, before))) = (new.is_empty(), elsewhere.first()) {
            info!(directory = %before.display(), "diverged WAL already saved");
            return Ok(Some(before.to_path_buf()));
        }
        let mut index = self.index(&wal, &files)?;
        index.files = new.iter().map(|file| Saved::of(file)).collect();
        index.elsewhere = elsewhere
            .iter()
            .map(|(file, save)| Elsewhere::of(file, save))
            .collect();
        let bytes = new.iter().map(|file| file.bytes).sum();
        check_room(&kept, bytes)?;
        let to = unused_name(&kept, &index);
        copy_files(&log, &to, &index)
            .with_context(|| format!("could not copy the diverged WAL to `{}`", to.display()))?;
        warn!(
            directory = %to.display(), files = new.len(), bytes, saved_before = elsewhere.len(),
            "diverged WAL saved"
        );
        Ok(Some(to))
    }

    /// Returns the files that did not come from a primary; all if the primary's history is unknown, and none if only history
    /// files remain.
    fn keep_own_files(&self, log: &Path, mut files: Vec<WalPastFork>) -> Vec<WalPastFork> {
        if self.primary.is_some() {
            let brought = CopiedWal::read(self.state);
            files.retain(|file| !brought.has(log, file));
        }
        if !files.iter().any(|file| file.segment().is_some()) {
            files.clear();
        }
        files
    }

    fn index(&self, wal: &WalDirectory, files: &[WalPastFork]) -> anyhow::Result<DivergedWalIndex> {
        let ancestors = self.primary.map_or(&[][..], |known| known.1);
        let left = |timeline| {
            ancestors
                .iter()
                .find(|ancestor| ancestor.timeline == timeline)
        };
        let mut timelines = BTreeMap::new();
        for file in files {
            if let Some(name) = file.segment() {
                let start = wal.start(name);
                let from =
                    left(name.timeline).map_or(start, |ancestor| ancestor.left_at.max(start));
                timelines.entry(name.timeline).or_insert(from);
            }
        }
        let mut extents = Vec::new();
        for (timeline, from) in timelines {
            let to = wal.end_of(timeline)?.unwrap_or(from);
            extents.push(Extent { timeline, from, to });
        }
        let fork = extents.iter().find_map(|extent| {
            let Ancestor { timeline, left_at } = *left(extent.timeline)?;
            Some(Fork { timeline, left_at })
        });
        Ok(DivergedWalIndex {
            format: 2,
            node: self.node.clone(),
            source: self.source.clone(),
            saved_at: jiff::Timestamp::now().to_string(),
            fork,
            timelines: extents,
            files: Vec::new(),
            elsewhere: Vec::new(),
        })
    }
}

impl Saved {
    fn of(file: &WalPastFork) -> Self {
        Self {
            name: file.name.to_string(),
            bytes: file.bytes,
        }
    }
}

impl Elsewhere {
    fn of(file: &WalPastFork, save: &Path) -> Self {
        let save = save.file_name().expect("a save is a directory with a name");
        Self {
            name: file.name.to_string(),
            bytes: file.bytes,
            save: save.to_string_lossy().into_owned(),
        }
    }
}

impl DivergedWalSaves {
    /// Finds the complete saves in the state directory, in the order of their names. An interrupted save has no index, or still
    /// its temporary name.
    pub(super) fn of(state: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(state.join("diverged")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(Vec::new())),
            read => read?,
        };
        let mut saves = Vec::new();
        for entry in entries {
            let save = entry?.path();
            if save
                .extension()
                .is_some_and(|extension| extension == UNFINISHED)
            {
                continue;
            }
            let index = match fs::read(save.join(INDEX)) {
                Ok(index) => index,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            if serde_json::from_slice::<DivergedWalIndex>(&index).is_ok() {
                saves.push(save);
            }
        }
        saves.sort();
        Ok(Self(saves))
    }

    /// Returns a save that holds this file of `log` with the same name and content.
    pub(super) fn holder(&self, log: &Path, file: &WalPastFork) -> Option<&Path> {
        let name = file.name.to_string();
        let here = log.join(&name);
        // A file that cannot be compared does not count as saved.
        let holds = |save: &&PathBuf| has_same_content(&save.join(&name), &here).unwrap_or(false);
        self.0.iter().find(holds).map(PathBuf::as_path)
    }
}

/// Returns the number of saves if it exceeds the limit.
pub(crate) fn count_saves(state: &Path) -> Option<usize> {
    let entries = fs::read_dir(state.join("diverged")).ok()?;
    let saves = entries
        .flatten()
        .filter(|entry| entry.path().join(INDEX).exists());
    Some(saves.count()).filter(|count| *count > UNEXAMINED)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn has_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    if fs::metadata(one)?.len() != fs::metadata(other)?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut here, mut there) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = one.read(&mut here)?;
        let part = there
            .get_mut(..length)
            .expect("read returns at most the buffer's length");
        other.read_exact(part)?;
        if here.get(..length) != Some(&*part) {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

fn check_room(kept: &Path, bytes: u64) -> anyhow::Result<()> {
    let there = statvfs(kept)
        .with_context(|| format!("could not read the free space of `{}`", kept.display()))?;
    let free = there
        .blocks_available()
        .saturating_mul(there.fragment_size());
    if free < bytes.saturating_add(MARGIN) {
        bail!(
            "{bytes} bytes of diverged WAL do not fit into `{}`: {free} bytes are free, {MARGIN} must remain; \
             make room there, or move earlier saves away",
            kept.display()
        );
    }
    Ok(())
}

/// Returns an unused name for a save.
fn unused_name(kept: &Path, index: &DivergedWalIndex) -> PathBuf {
    let place = match (index.fork, index.timelines.first()) {
        (Some(fork), _) => format!("{}-{}", fork.timeline, fork.left_at),
        (None, Some(extent)) => format!("{}-{}", extent.timeline, extent.from),
        (None, None) => "unknown".to_owned(),
    };
    let place = place.replace('/', "-");
    let numbered = (2..).map(|number| kept.join(format!("{place}.{number}")));
    let mut names = std::iter::once(kept.join(&place)).chain(numbered);
    names
        .find(|path| fs::symlink_metadata(path).is_err())
        .unwrap_or_else(|| kept.join(place))
}

/// Copies into a directory with a temporary name, which is renamed once its content is durable.
fn copy_files(log: &Path, to: &Path, index: &DivergedWalIndex) -> anyhow::Result<()> {
    let mut temporary = to.as_os_str().to_owned();
    temporary.push(".");
    temporary.push(UNFINISHED);
    let temporary = PathBuf::from(temporary);
    match fs::remove_dir_all(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir(&temporary)?;
    for file in &index.files {
        let copy = temporary.join(&file.name);
        fs::copy(log.join(&file.name), &copy)?;
        File::open(&copy)?.sync_all()?;
    }
    write_private(
        &temporary.join(INDEX),
        &serde_json::to_string_pretty(index)?,
    )?;
    sync_parent(&temporary.join(INDEX))?;
    fs::rename(&temporary, to)?;
    sync_parent(to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_then_refused_with_what_is_missing() {
        let here = tempfile::tempdir().unwrap();
        check_room(here.path(), 1).unwrap();
        let refused = check_room(here.path(), u64::MAX / 2).unwrap_err();
        assert!(refused.to_string().contains("do not fit"), "{refused}");
    }
}
