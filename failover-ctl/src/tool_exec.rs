//! Process between the agent and a program that changes the data directory. It kills the program and its children when
//! the agent exits.
//!
//! `PR_SET_PDEATHSIG` affects one process and is not inherited, and `pg_rewind` runs `postgres --single` in a shell.
//! Therefore this process stays, and the program gets a process group.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getppid};

/// Runs a program until it or the agent, process `parent`, exits.
///
/// # Errors
///
/// When the agent has exited, or `program` cannot be executed.
pub(crate) fn run(parent: i32, program: &OsString, arguments: &[OsString]) -> io::Result<ExitCode> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ] {
        signals.add(signal);
    }
    signals.thread_block()?;
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    // If the agent exited before the line above, no signal is sent.
    if getppid().as_raw() != parent {
        return Err(io::Error::other("the agent has ended"));
    }
    // The standard library unblocks all signals in the new process.
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .spawn()?;
    loop {
        if signals.wait()? != Signal::SIGCHLD {
            kill_group(&child);
            child.wait()?;
            return Err(io::Error::other(
                "the agent has ended, and the program with it",
            ));
        }
        if let Some(status) = child.try_wait()? {
            kill_group(&child);
            return Ok(exit_code(status));
        }
    }
}

/// Kills the rest of the program's process group.
fn kill_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // ESRCH: the group has no process left.
        killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
    }
}

/// Returns the program's exit code; 128 plus the signal for a killed program, as in a shell.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
