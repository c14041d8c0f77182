//! Timeline history files in `pg_wal`: placeholders for reserved timelines, and histories that standbys request.
//!
//! A promotion takes the first timeline for which PostgreSQL finds no history file (`findNewestTimeLine` in
//! `src/backend/access/transam/timeline.c`). Timelines that earlier holders reserved therefore get placeholders just
//! before the promotion. A server that *starts* with `recovery_target_timeline = latest` would take a placeholder for
//! the newest timeline and wait for WAL that was never written, so placeholders above the newest real history are
//! removed before each start.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use causeway_core::Timeline;
use causeway_core::lsn::{Ancestor, WalFileName, parse_history};

/// Content of a placeholder.
const PLACEHOLDER: &str = "# Reserved by failover-ctl: this timeline was never written.\n";

/// Returns a timeline from `reserved` on that has a history file, if there is one.
///
/// # Errors
///
/// When the directory cannot be read: a promotion could begin a timeline that is not reserved.
pub(crate) fn find_taken(data: &Path, reserved: Timeline) -> io::Result<Option<Timeline>> {
    for entry in fs::read_dir(data.join("pg_wal"))? {
        match entry?.file_name().to_str().map(str::parse) {
            Some(Ok(WalFileName::History(timeline))) if timeline >= reserved => {
                return Ok(Some(timeline));
            }
            Some(_) | None => {}
        }
    }
    Ok(None)
}

/// Writes placeholders for the timelines between `own` and `reserved` that have no history file.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn reserve_timelines(data: &Path, own: Timeline, reserved: Timeline) -> io::Result<()> {
    let pg_wal = data.join("pg_wal");
    for timeline in own.until(reserved) {
        if !path(&pg_wal, timeline).try_exists()? {
            write(&pg_wal, timeline, PLACEHOLDER)?;
        }
    }
    File::open(pg_wal)?.sync_all()
}

/// Removes the placeholders above the newest real history, which an interrupted promotion leaves behind.
///
/// # Errors
///
/// When the directory cannot be read, or a file not removed.
pub(crate) fn remove_unused_placeholders(data: &Path) -> io::Result<()> {
    let pg_wal = data.join("pg_wal");
    let mut placeholders = Vec::new();
    let mut newest = Timeline::FIRST;
    for entry in fs::read_dir(&pg_wal)? {
        let name = entry?.file_name();
        let Some(Ok(WalFileName::History(timeline))) = name.to_str().map(str::parse) else {
            continue;
        };
        if is_placeholder(&path(&pg_wal, timeline))? {
            placeholders.push(timeline);
        } else {
            newest = newest.max(timeline);
        }
    }
    placeholders.retain(|timeline| *timeline > newest);
    for timeline in &placeholders {
        fs::remove_file(path(&pg_wal, *timeline))?;
    }
    if placeholders.is_empty() {
        return Ok(());
    }
    File::open(pg_wal)?.sync_all()
}

/// Writes the missing histories of every timeline up to `own`, for standbys on any older timeline: a walreceiver
/// requests each one from its own on (`WalRcvFetchTimeLineHistoryFiles` in `src/backend/replication/walreceiver.c`),
/// and a copied directory has only the newest. The history of an ancestor is the part of `own`'s before its line; a
/// timeline that is no ancestor was never written.
///
/// # Errors
///
/// When a file cannot be read or written.
pub(crate) fn complete(data: &Path, own: Timeline) -> io::Result<()> {
    if own == Timeline::FIRST {
        return Ok(());
    }
    let pg_wal = data.join("pg_wal");
    let text = fs::read_to_string(path(&pg_wal, own))?;
    for timeline in Timeline::FIRST.until(own) {
        if !path(&pg_wal, timeline).try_exists()? {
            write(&pg_wal, timeline, &ancestor(&text, timeline))?;
        }
    }
    File::open(pg_wal)?.sync_all()
}

/// Reads the ancestors of a timeline, oldest first. Timeline 1 has none, and no history file.
///
/// # Errors
///
/// When its history cannot be read, or is a placeholder: that timeline was never written.
pub(crate) fn read(data: &Path, timeline: Timeline) -> io::Result<Vec<Ancestor>> {
    if timeline == Timeline::FIRST {
        return Ok(Vec::new());
    }
    let path = path(&data.join("pg_wal"), timeline);
    let text = fs::read_to_string(path)?;
    let ancestors = parse_history(&text).map_err(io::Error::other)?;
    if ancestors.is_empty() {
        return Err(io::Error::other("the history names no ancestor"));
    }
    Ok(ancestors)
}

/// Returns the history of `timeline`, taken from that of a descendant.
fn ancestor(text: &str, timeline: Timeline) -> String {
    let number = |line: &str| line.split_whitespace().next()?.parse::<u32>().ok();
    let mut before = String::new();
    for line in text.split_inclusive('\n') {
        if number(line) == Some(timeline.get()) {
            return before;
        }
        before.push_str(line);
    }
    PLACEHOLDER.to_owned()
}

fn is_placeholder(path: &Path) -> io::Result<bool> {
    Ok(fs::read(path)? == PLACEHOLDER.as_bytes())
}

fn path(pg_wal: &Path, timeline: Timeline) -> std::path::PathBuf {
    pg_wal.join(WalFileName::History(timeline).to_string())
}

/// Writes a history file atomically.
fn write(pg_wal: &Path, timeline: Timeline, text: &str) -> io::Result<()> {
    let path = path(pg_wal, timeline);
    let temporary = path.with_extension("history.new");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    const THIRD: &str = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tno recovery target specified\n";

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new(histories: &[(u32, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let pg_wal = directory.path().join("pg_wal");
            fs::create_dir(&pg_wal).unwrap();
            for (number, text) in histories {
                write(&pg_wal, timeline(*number), text).unwrap();
            }
            Self(directory)
        }

        fn history(&self, number: u32) -> Option<String> {
            let path = path(&self.0.path().join("pg_wal"), timeline(number));
            fs::read_to_string(path).ok()
        }
    }

    #[test]
    fn promotion_that_was_cut_off_then_its_placeholders_go() {
        let directory = Directory::new(&[(2, "1\t0/3000148\tpromoted\n")]);
        reserve_timelines(directory.0.path(), timeline(2), timeline(5)).unwrap();
        assert_eq!(directory.history(3).as_deref(), Some(PLACEHOLDER));
        assert_eq!(directory.history(4).as_deref(), Some(PLACEHOLDER));
        assert_eq!(directory.history(5), None);

        remove_unused_placeholders(directory.0.path()).unwrap();
        assert_eq!(directory.history(3), None);
        assert_eq!(directory.history(4), None);
        assert!(directory.history(2).is_some());
    }

    #[test]
    fn placeholder_below_a_real_history_then_kept() {
        let directory = Directory::new(&[(2, PLACEHOLDER), (3, "1\t0/3000148\tpromoted\n")]);
        remove_unused_placeholders(directory.0.path()).unwrap();
        assert_eq!(directory.history(2).as_deref(), Some(PLACEHOLDER));
    }

    #[test]
    fn directory_unreadable_then_taken_timeline_unknown() {
        let directory = Directory::new(&[(4, "1\t0/3000148\tpromoted\n")]);
        let taken = |reserved| find_taken(directory.0.path(), timeline(reserved)).unwrap();
        assert_eq!((taken(3), taken(5)), (Some(timeline(4)), None));
        assert!(find_taken(&directory.0.path().join("none"), timeline(3)).is_err());
    }

    /// A placeholder must not replace a history that only cannot be inspected now.
    #[test]
    fn existence_unknown_then_no_placeholder_written() {
        let directory = Directory::new(&[(4, "1\t0/3000148\tpromoted\n")]);
        let data = directory.0.path();
        let cyclic = path(&data.join("pg_wal"), timeline(3));
        std::os::unix::fs::symlink(&cyclic, &cyclic).unwrap();

        assert!(reserve_timelines(data, timeline(2), timeline(4)).is_err());
        assert!(complete(data, timeline(4)).is_err());
        assert!(fs::symlink_metadata(&cyclic).unwrap().is_symlink());
    }

    proptest! {
        /// The history of an ancestor that is written for a standby names no later timeline.
        #[test]
        fn damaged_history_then_no_panic(text in damaged_text(THIRD), number in 1..9_u32) {
            let written = ancestor(&text, timeline(number));
            if let (Ok(whole), Ok(part)) = (parse_history(&text), parse_history(&written)) {
                prop_assert!(part.len() <= whole.len());
                prop_assert!(part.iter().all(|ancestor| ancestor.timeline != timeline(number)));
            }
        }
    }

    #[test]
    fn reserve_then_real_histories_stay() {
        let directory = Directory::new(&[(2, "1\t0/3000148\tpromoted\n")]);
        reserve_timelines(directory.0.path(), timeline(1), timeline(4)).unwrap();
        assert_eq!(
            directory.history(2).as_deref(),
            Some("1\t0/3000148\tpromoted\n")
        );
        assert_eq!(directory.history(3).as_deref(), Some(PLACEHOLDER));
    }

    #[test]
    fn copied_directory_then_histories_are_rebuilt() {
        let directory = Directory::new(&[(3, THIRD)]);
        complete(directory.0.path(), timeline(3)).unwrap();
        assert_eq!(
            directory.history(2).as_deref(),
            Some("1\t0/3000148\tno recovery target specified\n\n")
        );
    }

    #[test]
    fn number_that_was_never_written_then_a_placeholder() {
        let directory = Directory::new(&[(4, "1\t0/3000148\tpromoted\n")]);
        complete(directory.0.path(), timeline(4)).unwrap();
        assert_eq!(directory.history(2).as_deref(), Some(PLACEHOLDER));
        assert_eq!(directory.history(3).as_deref(), Some(PLACEHOLDER));
    }
}
