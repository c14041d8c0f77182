//! State of a data directory without a server: `global/pg_control`, signal files, and processes with it as their
//! working directory.

pub(crate) mod auto_conf;
pub(crate) mod replay_progress;
pub(crate) mod timeline_history;
pub(crate) mod wal;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::lease::SystemId;
use causeway_core::{Lsn, Timeline};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use crate::durable_file::write_private;

/// First members of `ControlFileData` (`src/include/catalog/pg_control.h`), whose offsets are the same in PostgreSQL 13
/// to 18: `system_identifier` at 0, `state` at 16, `checkPoint` at 32, `checkPointCopy.ThisTimeLineID` at 48,
/// `minRecoveryPoint` at 136 and its timeline at 144, and from 180 on the settings below which a standby does not
/// start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlFile {
    pub(crate) system_id: SystemId,
    pub(crate) state: u32,
    pub(crate) timeline: Option<Timeline>,
    /// Position of the last checkpoint or restartpoint.
    pub(crate) checkpoint: Lsn,
    /// Position up to which a standby must replay before its pages are consistent (`minRecoveryPoint`); none for a
    /// primary.
    pub(crate) must_reach: Option<(Timeline, Lsn)>,
    /// Settings under which the WAL was written, in the order of [`REQUIRED`].
    pub(crate) required: [u32; 5],
}

/// Settings that a hot standby must have at least as high as the primary had them: with lower ones it does not start,
/// or pauses replay (`CheckRequiredParameterValues` in `xlogrecovery.c`).
pub(crate) const REQUIRED: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// `DBState` in the same header: the two states of a standby's directory.
const SHUTDOWNED_IN_RECOVERY: u32 = 2;
const IN_ARCHIVE_RECOVERY: u32 = 5;

/// Reads the control file.
pub(crate) fn read_control_file(data: &Path) -> io::Result<ControlFile> {
    parse_control(&fs::read(data.join("global/pg_control"))?)
}

fn parse_control(bytes: &[u8]) -> io::Result<ControlFile> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "the control file is too short");
    let read_u32 = |at: usize| -> io::Result<u32> {
        let bytes = bytes
            .get(at..at + 4)
            .and_then(|slice| slice.try_into().ok())
            .ok_or_else(short)?;
        Ok(u32::from_ne_bytes(bytes))
    };
    let read_u64 = |at: usize| -> io::Result<u64> {
        let bytes = bytes
            .get(at..at + 8)
            .and_then(|slice| slice.try_into().ok())
            .ok_or_else(short)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    let must_reach = Timeline::new(read_u32(144)?).zip(Some(Lsn::new(read_u64(136)?)));
    Ok(ControlFile {
        system_id: SystemId(read_u64(0)?),
        state: read_u32(16)?,
        timeline: Timeline::new(read_u32(48)?),
        checkpoint: Lsn::new(read_u64(32)?),
        must_reach: must_reach.filter(|(_, lsn)| *lsn != Lsn::new(0)),
        required: [
            read_u32(180)?,
            read_u32(184)?,
            read_u32(188)?,
            read_u32(192)?,
            read_u32(196)?,
        ],
    })
}

/// Returns the last use of the directory. The file `marker` exists during a rewind or copy.
pub(crate) fn state(data: &Path, marker: &Path) -> DataDirectoryState {
    match marker.try_exists() {
        Ok(false) => {}
        Ok(true) => return DataDirectoryState::Rewinding,
        Err(_) => return DataDirectoryState::Unreadable,
    }
    let control = match read_control_file(data) {
        Ok(control) => control,
        // Nothing of a control file is left to read.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData
            ) =>
        {
            return DataDirectoryState::Empty;
        }
        // An error of the disk, or missing permission. As an empty directory, it would be replaced.
        Err(_) => return DataDirectoryState::Unreadable,
    };
    if is_unstarted_clone(data)
        || matches!(control.state, SHUTDOWNED_IN_RECOVERY | IN_ARCHIVE_RECOVERY)
    {
        return DataDirectoryState::Standby;
    }
    DataDirectoryState::Primary
}

/// Returns whether the directory is a clone that was never started: it has the control file of its source, and a backup
/// label with the position from which to replay.
///
/// PostgreSQL 13 and 14 keep a label in the primary's own directory during an exclusive backup (`pg_start_backup`
/// without `exclusive => false`), and a crash leaves it behind: such a directory is no clone.
fn is_unstarted_clone(data: &Path) -> bool {
    match fs::read(data.join("backup_label")) {
        // `LABEL` may be in any encoding.
        Ok(label) => !String::from_utf8_lossy(&label).contains("BACKUP METHOD: pg_start_backup"),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Returns the major version of the directory, such as 15.
pub(crate) fn major_version(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Returns whether a server that was started on this directory as a standby still is one: a promotion, whichever
/// process requests it, removes `standby.signal` before the first write is accepted (`StartupXLOG` in
/// `src/backend/access/transam/xlog.c`).
pub(crate) fn is_still_standby(data: &Path) -> bool {
    data.join("standby.signal").exists()
}

/// Creates `standby.signal`, so that the next server started on this directory is a standby.
pub(crate) fn put_standby_signal(data: &Path) -> io::Result<()> {
    let signal = data.join("standby.signal");
    if signal.exists() {
        return Ok(());
    }
    File::create(signal)?.sync_all()?;
    File::open(data)?.sync_all()
}

/// Removes `standby.signal`, so that the next server started on this directory is a primary.
pub(crate) fn remove_standby_signal(data: &Path) -> io::Result<()> {
    match fs::remove_file(data.join("standby.signal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    File::open(data)?.sync_all()
}

/// Replaces the data directory's own `postgresql.conf` by an include of the real one: a manual start, and `pg_rewind`
/// before release 15, read it.
pub(crate) fn include_config(data: &Path, config_file: &Path) -> io::Result<()> {
    let inner = data.join("postgresql.conf");
    let wanted = format!("include '{}'\n", config_file.display());
    if fs::read_to_string(&inner).is_ok_and(|stored| stored == wanted) {
        return Ok(());
    }
    // A power loss must not leave it empty: a server that is started by hand would run without the guard.
    write_private(&inner, &wanted).map_err(io::Error::other)
}

/// Returns the postmaster in `postmaster.pid`, if it runs and works in this directory. A single-user server, as started
/// by `pg_rewind`, writes a negative process id and is none.
pub(crate) fn postmaster(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number = parse_postmaster_pid(&text)?;
    is_working_in(&canonical_path(data), number).then(|| Pid::from_raw(number))
}

fn parse_postmaster_pid(text: &str) -> Option<i32> {
    let number: i32 = text.lines().next()?.trim().parse().ok()?;
    (number > 0).then_some(number)
}

/// Sends SIGKILL to every process whose working directory this is, and returns their number.
pub(crate) fn kill_processes(data: &Path) -> io::Result<usize> {
    let own = getpid();
    let data = &canonical_path(data);
    let mut found = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|text| text.parse::<i32>().ok()) else {
            continue;
        };
        if number == own.as_raw() || !is_working_in(data, number) {
            continue;
        }
        found += 1;
        // ESRCH: the process has exited meanwhile.
        kill(Pid::from_raw(number), Signal::SIGKILL).ok();
    }
    Ok(found)
}

/// Returns the path as the kernel shows it in `/proc`.
fn canonical_path(data: &Path) -> PathBuf {
    data.canonicalize().unwrap_or_else(|_| data.to_owned())
}

fn is_working_in(data: &Path, process: i32) -> bool {
    let cwd = PathBuf::from(format!("/proc/{process}/cwd"));
    // A zombie has no `cwd`, and that of another user's process cannot be read.
    fs::read_link(cwd).is_ok_and(|link| link == data)
}

#[cfg(test)]
mod tests;
