//! Processes of this machine, read from `/proc`, and signals to them.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracing::warn;

use crate::wait;

/// Time for a process to end after SIGKILL: the kernel only has to schedule it once.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a signal to each of these processes that still exists.
pub(crate) fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        send_signal(*pid, signal);
    }
}

pub(crate) fn send_signal(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => warn!(pid, %signal, %error, "signal not sent"),
    }
}

/// Tests whether a process was stopped by SIGSTOP (state `T` in proc(5)).
pub(crate) fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'T')
}

/// Returns the state of a process and its parent's ID.
pub(crate) fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Returns every process of this machine.
fn all() -> anyhow::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").context("could not list `/proc`")?;
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().parse().ok();
    Ok(entries.flatten().filter_map(pid).collect())
}

/// Returns all descendants of a process.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn descendants(of: i32) -> anyhow::Result<Vec<i32>> {
    let parents = all()?
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?.1)));
    let parents: Vec<(i32, i32)> = parents.collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = parents.iter().filter(|(_child, of)| *of == parent);
        found.extend(children.map(|(child, _parent)| *child));
    }
    found.remove(0);
    Ok(found)
}

/// Returns every process whose working directory is `directory`. This finds a postmaster and its
/// processes under any parent.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn processes_inside(directory: &Path) -> anyhow::Result<Vec<i32>> {
    let works_there = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory)
    };
    Ok(all()?.into_iter().filter(works_there).collect())
}

/// Sends a signal to every process whose working directory is `directory`, and returns their
/// number.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn signal_inside(directory: &Path, signal: Signal) -> anyhow::Result<usize> {
    let found = processes_inside(directory)?;
    for pid in &found {
        send_signal(*pid, signal);
    }
    Ok(found.len())
}

/// Kills every process whose working directory is `directory`, and waits until all have ended.
///
/// # Errors
///
/// When a process is left after five seconds.
pub async fn kill_inside(directory: &Path) -> anyhow::Result<()> {
    let what = format!("no process to be left in `{}`", directory.display());
    wait::until(&what, KILL_TIMEOUT, || async {
        match signal_inside(directory, Signal::SIGKILL) {
            Ok(0) => Ok(()),
            Ok(left) => Err(format!("{left} processes")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    Ok(())
}
