//! Replay progress of a server that accepts no connections, from its startup process in `/proc`.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

/// Returns a number that changes whenever the startup process of the server on `data` makes progress; none without such
/// a process.
///
/// The title of the process names the segment that it replays ("startup recovering 00000001…"), and the kernel counts
/// its reads, which are WAL and the pages that the WAL changes. A waiting process reads nothing.
pub(crate) fn progress(data: &Path) -> Option<u64> {
    let data = data.canonicalize().ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|entry| {
            let cwd = fs::read_link(entry.path().join("cwd"));
            cwd.is_ok_and(|cwd| cwd == data)
        })
        .find_map(|entry| {
            let title = fs::read(entry.path().join("cmdline")).ok()?;
            let title = String::from_utf8_lossy(&title).into_owned();
            let is_startup = title.starts_with("postgres:") && title.contains("startup");
            is_startup.then(|| fingerprint(&title, &entry.path()))
        })
}

fn fingerprint(title: &str, process: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    title.hash(&mut hasher);
    // A process that waits for a segment runs `restore_command` repeatedly, and the kernel adds the reads of that to
    // its own. Only the segment's name counts then.
    if !title.contains("waiting") {
        let counters = fs::read_to_string(process.join("io")).ok();
        let read = counters.as_deref().and_then(|text| text.lines().next());
        read.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_without_a_server_then_no_progress() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(progress(directory.path()), None);
    }

    #[test]
    fn same_title_and_same_reads_then_the_same_fingerprint() {
        let process = tempfile::tempdir().unwrap();
        let io = |read: &str| fs::write(process.path().join("io"), read).unwrap();
        let of = |title: &str| fingerprint(title, process.path());
        let (replaying, waiting) = (
            "postgres: startup recovering 000000010000000000000005",
            "postgres: startup waiting for 000000010000000000000005",
        );

        io("rchar: 100\nwchar: 7\n");
        let (first, idle) = (of(replaying), of(waiting));
        assert_eq!(of(replaying), first);

        io("rchar: 8292\nwchar: 7\n");
        assert_ne!(of(replaying), first);
        assert_eq!(of(waiting), idle);
    }
}
