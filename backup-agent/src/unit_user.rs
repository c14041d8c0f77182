//! The user that runs the units, `archive_command` and `restore_command`, and as which `check` judges files.

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

use crate::error::Error;

/// `User=` in `packages/backup-agent/backup-agent.service`, and the user of Debian's PostgreSQL.
const NAME: &str = "postgres";

/// If root runs this process, starts it again as the units' user: root reads files that the units cannot. Without that
/// user on this host, it stays root, which [`unit_user_note`] tells.
pub(crate) fn become_unit_user() -> Result<(), Error> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let failed = |error: io::Error| Error::io("run as", NAME.as_ref())(error);
    let found = User::from_name(NAME).map_err(io::Error::from);
    let Some(user) = found.map_err(failed)? else {
        return Ok(());
    };
    let name = CString::new(NAME)
        .map_err(io::Error::from)
        .map_err(failed)?;
    initgroups(&name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|error| failed(error.into()))?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(program) = arguments.next() {
        command.arg0(program);
    }
    // The AWS SDK looks for credentials in the home directory.
    command.args(arguments).env("HOME", user.dir);
    Err(failed(command.exec()))
}

/// Returns a note for the operator if another user than the units' runs this process.
pub(crate) fn unit_user_note() -> Option<String> {
    let uid = geteuid();
    let user = User::from_uid(uid).ok().flatten();
    let own = user.map_or_else(|| uid.to_string(), |user| user.name);
    (own != NAME).then(|| {
        format!("`{own}` runs this check, and the units run as `{NAME}`: run it as root, or with `runuser -u {NAME}`")
    })
}
