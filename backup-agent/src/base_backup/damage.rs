//! Damaged pages: collected, confirmed together, and accepted only by name.
//!
//! A page whose checksum does not match may have been read while PostgreSQL was writing it. Such a
//! page is valid a moment later and is restored by WAL replay, because it has changed since the
//! backup began. A page that does not change is damaged, whatever LSN it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use causeway_core::Lsn;
use causeway_core::backup::manifest::DamagedFile;

use crate::base_backup::directory_walk::PlannedFile;
use crate::base_backup::page::{PAGE_BYTES, PageState, inspect};

/// Maximum number of damaged files that are named; further ones are counted.
const MAX_NAMED: usize = 1000;

/// Maximum number of block ranges that are named in a file.
const MAX_NAMED_RANGES: usize = 8;

/// Pauses before each further reading of mismatching pages. PostgreSQL writes a page in
/// microseconds, but may be interrupted in the middle.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(60),
];

/// Page with a checksum mismatch, as last read.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    /// Path of its file below the data directory.
    pub(crate) path: String,
    /// Location of that file on disk.
    pub(crate) location: PathBuf,
    /// Number of the page in the relation.
    pub(crate) block: u32,
    /// Offset in the file, in bytes.
    pub(crate) offset: u64,
    /// LSN in its header.
    pub(crate) lsn: Lsn,
}

/// All damaged pages of a backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct DamageReport {
    files: BTreeMap<String, Vec<(u32, u32)>>,
    pages: u64,
    unnamed: u64,
}

impl DamageReport {
    /// Adds a page.
    pub(crate) fn add(&mut self, path: &str, block: u32) {
        self.pages += 1;
        if !self.files.contains_key(path) && self.files.len() == MAX_NAMED {
            self.unnamed += 1;
            return;
        }
        let runs = self.files.entry(path.to_owned()).or_default();
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(block) => *last = block,
            _ => runs.push((block, block)),
        }
    }

    /// Returns the number of pages.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Returns whether there is damage outside of the `accepted` files.
    pub(crate) fn exceeds(&self, accepted: &BTreeSet<String>) -> bool {
        self.unnamed > 0 || self.files.keys().any(|path| !accepted.contains(path))
    }

    /// Returns the files with their damaged pages.
    pub(crate) fn files(&self) -> Vec<DamagedFile> {
        let file = |(path, blocks): (&String, &Vec<_>)| DamagedFile {
            path: path.clone(),
            blocks: blocks.clone(),
        };
        self.files.iter().map(file).collect()
    }

    /// Returns one line per file, for an error message.
    pub(crate) fn report(&self) -> String {
        let mut lines: Vec<String> = self.files().iter().map(line).collect();
        if self.unnamed > 0 {
            lines.push(format!("\n  and {} blocks in other files", self.unnamed));
        }
        lines.concat()
    }
}

fn line(file: &DamagedFile) -> String {
    let run = |(first, last): &(u32, u32)| {
        if first == last {
            return first.to_string();
        }
        format!("{first}-{last}")
    };
    let runs: Vec<String> = file.blocks.iter().take(MAX_NAMED_RANGES).map(run).collect();
    let more = if file.blocks.len() > MAX_NAMED_RANGES {
        ", …"
    } else {
        ""
    };
    let pages = file.pages();
    let unit = if pages == 1 { "block" } else { "blocks" };
    let blocks = runs.join(", ");
    format!("\n  {}: {pages} {unit} ({blocks}{more})", file.path)
}

/// Reads the `suspects` in `bytes` again, all of them together, until they match or `pauses` have
/// passed. Returns those that do not match, with their last reading in `bytes`.
pub(crate) fn confirm_in(
    file: &File,
    bytes: &mut [u8],
    start: u64,
    mut suspects: Vec<Suspect>,
    pauses: &[Duration],
) -> io::Result<Vec<Suspect>> {
    for pause in pauses {
        if suspects.is_empty() {
            break;
        }
        thread::sleep(*pause);
        let mut still = Vec::new();
        for mut suspect in suspects {
            let at = usize::try_from(suspect.offset - start).map_err(io::Error::other)?;
            let page = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
            let page: &mut [u8; PAGE_BYTES] = page.ok_or(io::ErrorKind::UnexpectedEof)?;
            if reread(file, page, &mut suspect)? {
                still.push(suspect);
            }
        }
        suspects = still;
    }
    Ok(suspects)
}

/// Reads `suspects` in any files again, all of them together, and returns those that do not match.
pub(crate) fn confirm(mut suspects: Vec<Suspect>) -> io::Result<Vec<Suspect>> {
    for pause in PAUSES {
        if suspects.is_empty() {
            break;
        }
        thread::sleep(pause);
        let mut still = Vec::new();
        let mut open: Option<(PathBuf, File)> = None;
        let mut page = [0; PAGE_BYTES];
        for mut suspect in suspects {
            let is_open = open
                .as_ref()
                .is_some_and(|(location, _)| *location == suspect.location);
            if !is_open {
                open = match File::open(&suspect.location) {
                    Ok(file) => Some((suspect.location.clone(), file)),
                    // The file was dropped meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
            }
            if let Some((_, file)) = &open
                && reread(file, &mut page, &mut suspect)?
            {
                still.push(suspect);
            }
        }
        suspects = still;
    }
    Ok(suspects)
}

/// Returns the suspects among the pages of `bytes`, which begin at offset `start` of the file.
pub(crate) fn find_suspects(
    planned: &PlannedFile,
    first: u32,
    start: u64,
    bytes: &[u8],
) -> Vec<Suspect> {
    let (pages, _) = bytes.as_chunks::<PAGE_BYTES>();
    let mut found = Vec::new();
    for (page, offset) in pages.iter().zip((start..).step_by(PAGE_BYTES)) {
        let in_file = u32::try_from(offset / PAGE_BYTES as u64).unwrap_or(u32::MAX);
        let block = first.wrapping_add(in_file);
        if let PageState::Mismatch { lsn } = inspect(page, block) {
            found.push(Suspect {
                path: planned.path.clone(),
                location: planned.location.clone(),
                block,
                offset,
                lsn,
            });
        }
    }
    found
}

/// Pauses between readings of a blob in a file without accepted damage.
pub(crate) fn long_pauses() -> &'static [Duration] {
    &PAUSES
}

/// Pauses in a file with accepted damage, which may be all of the file.
pub(crate) fn short_pauses() -> &'static [Duration] {
    PAUSES.get(..2).unwrap_or(&PAUSES)
}

/// Returns whether a page still mismatches after another reading. A shorter file was truncated
/// meanwhile, which its WAL records.
fn reread(file: &File, page: &mut [u8; PAGE_BYTES], suspect: &mut Suspect) -> io::Result<bool> {
    match file.read_exact_at(page, suspect.offset) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    match inspect(page, suspect.block) {
        PageState::Sound => Ok(false),
        PageState::Mismatch { lsn } => {
            suspect.lsn = lsn;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_then_runs_reported_and_accepted_by_file() {
        let mut damage = DamageReport::default();
        for block in [3, 4, 5, 9] {
            damage.add("base/5/16384", block);
        }
        damage.add("base/5/16385.1", 131_072);

        assert_eq!(damage.pages(), 5);
        let report = damage.report();
        assert!(
            report.contains("base/5/16384: 4 blocks (3-5, 9)"),
            "{report}"
        );
        assert!(
            report.contains("base/5/16385.1: 1 block (131072)"),
            "{report}"
        );
        let mut accepted = BTreeSet::from(["base/5/16384".to_owned()]);
        assert!(damage.exceeds(&accepted));
        accepted.insert("base/5/16385.1".to_owned());
        assert!(!damage.exceeds(&accepted));
        for file in 0..2 * MAX_NAMED {
            damage.add(&format!("base/6/{file}"), 0);
        }
        assert!(damage.exceeds(&accepted));
        assert!(damage.report().contains("in other files"));
    }

    #[test]
    fn pages_read_again_then_only_mismatches_stay() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let planned = PlannedFile {
            path: "base/5/7".to_owned(),
            location: file.path().to_owned(),
            first_page: Some(0),
        };
        let torn = vec![7; 3 * PAGE_BYTES];
        let found = find_suspects(&planned, 0, 0, &torn);
        assert_eq!(found.len(), 3);

        // The first page has become valid, the second has not, and the third was truncated.
        let mut now = vec![0; PAGE_BYTES];
        now.extend([7; PAGE_BYTES]);
        std::fs::write(file.path(), &now).unwrap();
        let still = confirm(found.clone()).unwrap();
        assert_eq!(
            still
                .iter()
                .map(|suspect| suspect.block)
                .collect::<Vec<_>>(),
            [1]
        );
        let mut bytes = torn;
        let still =
            confirm_in(file.as_file(), &mut bytes, 0, found.clone(), short_pauses()).unwrap();
        assert_eq!(still.len(), 1);
        assert_eq!(
            bytes[..PAGE_BYTES],
            [0; PAGE_BYTES],
            "what was read last is kept"
        );

        std::fs::remove_file(file.path()).unwrap();
        assert!(confirm(found).unwrap().is_empty());
    }
}
