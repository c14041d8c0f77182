//! Operating-system user of the agent, the guard and PostgreSQL. A check that runs as root may read what that user
//! may not.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Group, Uid, User};

use crate::config::HostSettings;

/// `User=` in the units of the packages.
const UNIT_USER: &str = "postgres";

/// User of the agent, the guard and PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct ServiceUser {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Access that the user needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Read a file.
    Read,
    /// Write to a file or device.
    Write,
    /// Execute a program.
    Execute,
    /// Read, change and enter a directory.
    Directory,
}

impl ServiceUser {
    /// Returns the user: this process's unless it is root; otherwise the owner of the data directory, or that of the
    /// units. None on a host without that user.
    pub(super) fn find(host: &HostSettings) -> Option<Self> {
        if !Uid::effective().is_root() {
            return User::from_uid(Uid::effective())
                .ok()
                .flatten()
                .map(Self::from);
        }
        let owner = fs::metadata(&host.postgres.data_directory).ok();
        let owner = owner.map(|metadata| Uid::from_raw(metadata.uid()));
        let owner = owner.filter(|uid| !uid.is_root());
        let owner = owner.and_then(|uid| User::from_uid(uid).ok().flatten());
        let unit_user = || User::from_name(UNIT_USER).ok().flatten();
        owner.or_else(unit_user).map(Self::from)
    }

    /// Returns the reason why the user lacks `access` to `path`, with the remedy; none if it has it. The path exists.
    pub(super) fn find_denial(&self, path: &Path, access: Access) -> Option<String> {
        let (name, shown) = (&self.name, path.display());
        let flags: &[&str] = match access {
            Access::Read => &["-r"],
            Access::Write => &["-w"],
            Access::Execute => &["-x"],
            Access::Directory => &["-r", "-w", "-x"],
        };
        match self.has(flags, path) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(error) => return Some(format!("could not test it as `{name}`: {error}")),
        }
        let closed = path.ancestors().skip(1).collect::<Vec<_>>();
        let closed = closed.into_iter().rev();
        let closed = closed.skip_while(|directory| self.has(&["-x"], directory).unwrap_or(false));
        if let Some(directory) = closed.into_iter().next() {
            let directory = directory.display();
            return Some(format!(
                "`{name}` cannot enter `{directory}`, where `{shown}` is: change its mode or owner"
            ));
        }
        let verb = match access {
            Access::Read => "read",
            Access::Write => "write to",
            Access::Execute => "execute",
            Access::Directory => "use",
        };
        let owner = fs::metadata(path).map_or_else(
            |error| error.to_string(),
            |metadata| describe_owner(&metadata),
        );
        Some(format!(
            "`{name}` cannot {verb} `{shown}` ({owner}): change its owner or mode"
        ))
    }

    /// Returns the reason why PostgreSQL would refuse a data directory, with the remedy (`checkDataDir` in
    /// `src/backend/utils/init/miscinit.c`).
    pub(super) fn find_data_directory_denial(&self, data: &Path) -> Option<String> {
        let metadata = fs::metadata(data).ok()?;
        if metadata.uid() == self.uid.as_raw() && metadata.mode() & 0o027 == 0 {
            return self.find_denial(data, Access::Directory);
        }
        let (name, shown, owner) = (&self.name, data.display(), describe_owner(&metadata));
        Some(format!(
            "`{shown}` ({owner}) must belong to `{name}`, mode 0700 or 0750, or PostgreSQL does not start: `chown \
             {name}: {shown}`, `chmod 0700 {shown}`"
        ))
    }

    /// Asks the kernel, with the user's groups: a mode alone does not show groups, ACLs and read-only mounts.
    fn has(&self, flags: &[&str], path: &Path) -> std::io::Result<bool> {
        let mut command = if Uid::effective() == self.uid {
            Command::new("test")
        } else {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={}", self.uid));
            command.arg(format!("--regid={}", self.gid));
            command.args(["--init-groups", "test"]);
            command
        };
        for (number, flag) in flags.iter().enumerate() {
            if number > 0 {
                command.arg("-a");
            }
            command.arg(flag).arg(path);
        }
        let status = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        match status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(std::io::Error::other(format!(
                "`setpriv` ended with {status}"
            ))),
        }
    }
}

impl From<User> for ServiceUser {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
        }
    }
}

fn describe_owner(metadata: &Metadata) -> String {
    let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    let user = User::from_uid(uid).ok().flatten();
    let user = user.map_or_else(|| uid.to_string(), |user| user.name);
    let group = Group::from_gid(gid).ok().flatten();
    let group = group.map_or_else(|| gid.to_string(), |group| group.name);
    format!("{user}:{group}, mode {:04o}", metadata.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::path::PathBuf;

    use super::*;

    /// Returns a user without permissions of its own, and a directory that it may enter. None where the tests do not
    /// run as root, which alone can become another user.
    fn other_user() -> Option<(ServiceUser, tempfile::TempDir)> {
        let user = User::from_name("nobody").unwrap().unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        Uid::effective().is_root().then(|| (user.into(), root))
    }

    fn file(root: &tempfile::TempDir, name: &str, mode: u32) -> PathBuf {
        let path = root.path().join(name);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn file_of_root_then_denied_by_mode_and_group() {
        let Some((user, root)) = other_user() else {
            return;
        };
        let path = file(&root, "password", 0o640);
        let denial = user.find_denial(&path, Access::Read).unwrap();
        assert!(
            denial.contains("`nobody` cannot read") && denial.contains("root:root, mode 0640"),
            "{denial}"
        );
        chown(&path, None, Some(user.gid.as_raw())).unwrap();
        assert_eq!(user.find_denial(&path, Access::Read), None, "by its group");
        assert!(
            user.find_denial(&path, Access::Write)
                .unwrap()
                .contains("cannot write to")
        );
        let program = file(&root, "program", 0o755);
        assert_eq!(user.find_denial(&program, Access::Execute), None);
    }

    #[test]
    fn directory_above_closed_then_named() {
        let Some((user, root)) = other_user() else {
            return;
        };
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        let path = file(&root, "closed/password", 0o644);
        assert_eq!(user.find_denial(&path, Access::Read), None);
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let denial = user.find_denial(&path, Access::Read).unwrap();
        assert!(
            denial.contains("cannot enter") && denial.contains("/closed`, where"),
            "{denial}"
        );
    }

    #[test]
    fn data_directory_of_another_user_or_open_then_denied() {
        let Some((user, root)) = other_user() else {
            return;
        };
        let data = root.path().join("data");
        fs::create_dir(&data).unwrap();
        let denied = || user.find_data_directory_denial(&data);
        assert!(denied().unwrap().contains("root:root"));
        chown(&data, Some(user.uid.as_raw()), None).unwrap();
        fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        assert!(denied().unwrap().contains("mode 0755"));
        for mode in [0o700, 0o750] {
            fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
            assert_eq!(denied(), None);
        }
    }
}
