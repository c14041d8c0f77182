//! The process between guard and PostgreSQL: it binds PostgreSQL's life to guard's, and becomes it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, getppid};

use crate::config::HostSettings;

/// Starts PostgreSQL on its data directory, as guard's child.
pub(super) fn spawn_postgres(host: &HostSettings) -> io::Result<Child> {
    let postgres = &host.postgres;
    let mut config = OsString::from("config_file=");
    config.push(&postgres.config_file);
    // `/proc/self/exe` is this very program, also after an upgrade has replaced its file.
    Command::new("/proc/self/exe")
        .arg("guard-exec")
        .arg(getpid().to_string())
        .arg(host.program("postgres"))
        .arg("-D")
        .arg(&postgres.data_directory)
        .arg("-c")
        .arg(config)
        // The working directory is how a sweep knows PostgreSQL's processes.
        .current_dir(&postgres.data_directory)
        // Guard is never killed for want of memory; a backend may be.
        .env("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj")
        .env("PG_OOM_ADJUST_VALUE", "0")
        .spawn()
}

/// Becomes PostgreSQL, which gets SIGQUIT when guard, the process `parent`, ends: an immediate
/// shutdown takes the backends with it, where SIGKILL would leave them acknowledging commits.
///
/// # Errors
///
/// When guard has ended already, or there is no such program.
pub(crate) fn exec_postgres(parent: i32, program: &OsString, arguments: &[OsString]) -> io::Error {
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGQUIT) {
        return errno.into();
    }
    // Guard can have ended before the line above, and then no signal comes.
    if getppid().as_raw() != parent {
        return io::Error::other("guard has ended");
    }
    // Guard takes its signals from a descriptor; PostgreSQL handles its own.
    if let Err(errno) = SigSet::all().thread_unblock() {
        return errno.into();
    }
    Command::new(program).args(arguments).exec()
}
