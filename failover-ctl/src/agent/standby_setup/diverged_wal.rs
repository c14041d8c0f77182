//! Keeps the WAL that only this directory has, before the directory is changed.

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

/// What stays free on the file system that the copy goes to: PostgreSQL may write its own WAL there.
const MARGIN: u64 = 128 << 20;

/// The file that says what was saved. A directory without it is no save.
const INDEX: &str = "index.json";

/// What the name of a save ends with while it is made.
const UNFINISHED: &str = "unfinished";

/// How many saves are kept before a person is asked to look at them. None is ever removed here: each may
/// hold commits that were acknowledged.
const UNEXAMINED: usize = 16;

/// What a save holds, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DivergedWalIndex {
    format: u32,
    node: NodeId,
    /// The primary whose history does not have it.
    source: NodeId,
    saved_at: String,
    /// Where the primary's history left the oldest of these timelines; none if that is not known.
    fork: Option<Fork>,
    timelines: Vec<Extent>,
    /// What lies beside this index.
    files: Vec<Saved>,
    /// What belongs to it and lies in earlier saves: none of it is copied twice. Written since format 2.
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

/// A file that an earlier save has, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Elsewhere {
    name: String,
    bytes: u64,
    /// The name of that save's directory.
    save: String,
}

/// The saves that are whole.
#[derive(Debug)]
pub(super) struct DivergedWalSaves(Vec<PathBuf>);

/// One save to be made.
pub(super) struct DivergedWalSave<'a> {
    /// The data directory.
    pub(super) data: &'a Path,
    /// The agent's state directory.
    pub(super) state: &'a Path,
    /// This node.
    pub(super) node: &'a NodeId,
    /// The primary.
    pub(super) source: &'a NodeId,
    /// The timeline it writes on and that timeline's ancestors, if they could be read.
    pub(super) primary: Option<(Timeline, &'a [Ancestor])>,
}

impl DivergedWalSave<'_> {
    /// Saves what the primary does not have, and returns where; none if it is proved that there is
    /// nothing: no file holds a record past the place at which the primary's history left its timeline,
    /// but for those that came from a primary and have not changed since.
    ///
    /// # Errors
    ///
    /// When it cannot be saved whole. The data directory is only read.
    pub(super) fn make(&self) -> anyhow::Result<Option<PathBuf>> {
        let log = self.data.join("pg_wal");
        if !log.try_exists()? {
            return Ok(None);
        }
        let wal = WalDirectory::thoroughly(&log).context("could not read this node's WAL")?;
        let files = wal
            .beyond(self.primary)
            .context("could not read this node's WAL")?;
        let files = self.own(&log, files);
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
        let to = free_name(&kept, &index);
        copy(&log, &to, &index)
            .with_context(|| format!("could not copy the diverged WAL to `{}`", to.display()))?;
        warn!(
            directory = %to.display(), files = new.len(), bytes, saved_before = elsewhere.len(),
            "diverged WAL saved"
        );
        Ok(Some(to))
    }

    /// Returns the files without those that are known to have come from a primary; all of them if the
    /// primary's history is not known, and none if only histories would be left.
    fn own(&self, log: &Path, mut files: Vec<WalPastFork>) -> Vec<WalPastFork> {
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
        let left = |timeline| ancestors.iter().find(|ancestor| ancestor.timeline == timeline);
        let mut timelines = BTreeMap::new();
        for file in files {
            if let Some(name) = file.segment() {
                let start = wal.start(name);
                let from = left(name.timeline).map_or(start, |ancestor| ancestor.left_at.max(start));
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
    /// Finds the saves in this state directory, oldest name first. What was cut off is none: it has no
    /// index, or not its own name yet.
    pub(super) fn of(state: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(state.join("diverged")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(Vec::new())),
            read => read?,
        };
        let mut saves = Vec::new();
        for entry in entries {
            let save = entry?.path();
            if save.extension().is_some_and(|extension| extension == UNFINISHED) {
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

    /// Returns a save that holds this file of `log`, byte for byte and under the same name.
    pub(super) fn holder(&self, log: &Path, file: &WalPastFork) -> Option<&Path> {
        let name = file.name.to_string();
        let here = log.join(&name);
        // What cannot be compared is not held.
        let holds = |save: &&PathBuf| same(&save.join(&name), &here).unwrap_or(false);
        self.0.iter().find(holds).map(PathBuf::as_path)
    }
}

/// Returns how many saves there are, if they are more than anybody has looked at.
pub(crate) fn unexamined(state: &Path) -> Option<usize> {
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

fn same(one: &Path, other: &Path) -> io::Result<bool> {
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
    let there =
        statvfs(kept).with_context(|| format!("could not read the free space of `{}`", kept.display()))?;
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

/// Returns a name that no earlier save has.
fn free_name(kept: &Path, index: &DivergedWalIndex) -> PathBuf {
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

/// Copies into a directory of another name, which gets its own once all of it is durable.
fn copy(log: &Path, to: &Path, index: &DivergedWalIndex) -> anyhow::Result<()> {
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
