//! The process between the agent and a program that changes the data directory: when the agent is gone,
//! it ends the program and whatever the program has started.
//!
//! `PR_SET_PDEATHSIG` reaches one process and is not inherited, and `pg_rewind` runs `postgres --single`
//! in a shell of its own. So this process stays, and the program gets a process group.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getppid};

/// Runs a program until it ends, or until the agent, the process `parent`, does.
///
/// # Errors
///
/// When the agent has ended already, or there is no such program.
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
    // The agent can have ended before the line above, and then no signal comes.
    if getppid().as_raw() != parent {
        return Err(io::Error::other("the agent has ended"));
    }
    // The new process begins with no signal blocked: the standard library sees to it.
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .spawn()?;
    loop {
        if signals.wait()? != Signal::SIGCHLD {
            end(&child);
            child.wait()?;
            return Err(io::Error::other(
                "the agent has ended, and the program with it",
            ));
        }
        if let Some(status) = child.try_wait()? {
            end(&child);
            return Ok(code(status));
        }
    }
}

/// Ends what is left of the program's group.
fn end(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // A group without processes is what was wanted.
        killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
    }
}

/// Returns the program's own exit code; that of a program which a signal has ended as a shell gives it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
