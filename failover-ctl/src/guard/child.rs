//! Start of PostgreSQL as a child of the guard that ends with it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, getppid};

use crate::config::HostSettings;
use crate::service_manager;

/// Starts PostgreSQL on its data directory, as a child of the guard.
pub(super) fn spawn_postgres(host: &HostSettings) -> io::Result<Child> {
    let postgres = &host.postgres;
    let mut config = OsString::from("config_file=");
    config.push(&postgres.config_file);
    // `/proc/self/exe` is the running program, even after an upgrade has replaced its file.
    Command::new("/proc/self/exe")
        .arg("guard-exec")
        .arg(getpid().to_string())
        .arg(host.program("postgres"))
        .arg("-D")
        .arg(&postgres.data_directory)
        .arg("-c")
        .arg(config)
        // A sweep identifies PostgreSQL's processes by their working directory.
        .current_dir(&postgres.data_directory)
        // The guard is exempt from the OOM killer; backends are not.
        .env("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj")
        .env("PG_OOM_ADJUST_VALUE", "0")
        .env_remove(service_manager::SOCKET_VARIABLE)
        .spawn()
}

/// Replaces this process by PostgreSQL, which receives SIGQUIT when the guard, process `parent`, ends: an immediate
/// shutdown ends the backends too, where SIGKILL would leave them acknowledging commits.
///
/// # Errors
///
/// When the guard has ended, or `program` cannot be executed.
pub(crate) fn exec_postgres(parent: i32, program: &OsString, arguments: &[OsString]) -> io::Error {
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGQUIT) {
        return errno.into();
    }
    // If the guard ended before the line above, no signal is sent.
    if getppid().as_raw() != parent {
        return io::Error::other("the guard has ended");
    }
    // The guard blocks its signals to read them from a descriptor; PostgreSQL handles them.
    if let Err(errno) = SigSet::all().thread_unblock() {
        return errno.into();
    }
    Command::new(program).args(arguments).exec()
}
