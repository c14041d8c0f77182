//! Checks of this host, as the user of the agent and the guard finds it: files, programs and directories.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::lease::LeaseTiming;
use causeway_runtime::postgres::{self, RootCertificates};
use causeway_runtime::secret::Secret;
use causeway_runtime::telemetry::chain;

use crate::agent::key_exposure;
use crate::agent::preconditions::{check_data_directory, check_release, find_obstacle};
use crate::check::line::{CheckLine, CheckResultWord};
use crate::check::service_user::{Access, ServiceUser};
use crate::check::watchdog;
use crate::config::{HostSettings, Settings, SettingsError};
use crate::data_directory;
use crate::error::Error;
use crate::guard::config_file;
use crate::protocol::signed_command::CommandSigningKey;

/// PostgreSQL's programs that the guard and the agent run.
const PROGRAMS: [&str; 3] = ["postgres", "pg_rewind", "pg_basebackup"];

/// Checks who can read the settings, which this program has read. Before an installation they may be a temporary file.
pub(super) fn settings_file(settings: &Settings, path: &Path, before_install: bool) -> CheckLine {
    let user = settings.host.as_ref().and_then(ServiceUser::find);
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let user = user.filter(|_| !before_install);
    match user.and_then(|user| user.find_denial(&path, Access::Read)) {
        Some(denial) => CheckLine::failed("settings", denial),
        None => CheckLine::ok("settings", ""),
    }
}

/// Checks the key that signs commands, and who can read it.
pub(super) fn signing_key(settings: &Settings, before_install: bool) -> CheckLine {
    let name = "command signing key";
    let path = &settings.command_signing_key_file;
    if let Some(line) = missing(name, path, before_install) {
        return line;
    }
    match CommandSigningKey::read(path) {
        Ok(_) => {}
        Err(error @ SettingsError::Secret { .. }) => {
            let detail = format!(
                "{}: run this check as root, and install the key that the other hosts have",
                chain(&error)
            );
            return CheckLine::failed(name, detail);
        }
        Err(error) => return CheckLine::failed(name, chain(&error)),
    }
    let user = settings.host.as_ref().and_then(ServiceUser::find);
    let is_open = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0);
    let exposed = if is_open {
        let path = path.display();
        Some(format!(
            "every user of this host can read `{path}`: set its mode to 0600"
        ))
    } else {
        user.filter(|user| user.find_denial(path, Access::Read).is_none())
            .map(|_| key_exposure::describe_exposure(path))
    };
    match exposed {
        Some(text) => CheckLine::failed(name, text),
        None => CheckLine::ok(name, ""),
    }
}

/// Checks what a node needs.
pub(super) fn checks(
    host: &HostSettings,
    timing: &LeaseTiming,
    before_install: bool,
) -> Vec<CheckLine> {
    let user = ServiceUser::find(host);
    let user = user.as_ref();
    let mut lines = Vec::new();
    if user.is_none() && !before_install {
        let detail = "this host has no user `postgres`: install the package `postgresql-common`";
        lines.push(CheckLine::failed("user of the services", detail));
    }
    let as_user = |line: CheckLine, path: &Path, access| match user {
        Some(user) if line.result == CheckResultWord::Ok => {
            user.find_denial(path, access).map_or_else(
                || line.clone(),
                |denial| CheckLine::failed(&*line.name, denial),
            )
        }
        Some(_) | None => line,
    };
    let postgres = host.program("postgres");
    lines.extend([
        as_user(programs(host, before_install), &postgres, Access::Execute),
        data_directory_line(host, user, before_install),
        state_directory_line(host, user),
        as_user(
            config_file_line(host, before_install),
            &host.postgres.config_file,
            Access::Read,
        ),
    ]);
    let secrets = [
        (
            "password of `replication-user`",
            &host.postgres.replication_password_file,
        ),
        (
            "password of `rewind-user`",
            &host.postgres.rewind_password_file,
        ),
    ];
    lines.extend(secrets.map(|(name, path)| {
        let line = missing(name, path, before_install).unwrap_or_else(|| secret_line(name, path));
        as_user(line, path, Access::Read)
    }));
    if let Some(path) = &host.postgres.sslrootcert {
        let line = ca_line(host, path, before_install);
        lines.push(as_user(line, path, Access::Read));
    }
    let device = host.guard.watchdog_device.as_deref();
    lines.push(watchdog::check(device, user, timing));
    lines
}

fn secret_line(name: &str, path: &Path) -> CheckLine {
    match Secret::from_file(path) {
        Ok(_) => CheckLine::ok(name, ""),
        Err(error) => {
            let detail = format!(
                "{}: write it, readable by PostgreSQL's user alone",
                chain(&error)
            );
            CheckLine::failed(name, detail)
        }
    }
}

fn ca_line(host: &HostSettings, path: &Path, before_install: bool) -> CheckLine {
    let name = "CA certificates";
    if let Some(line) = missing(name, path, before_install) {
        return line;
    }
    let root_cert = RootCertificates::File(path.to_owned());
    match postgres::tls(host.postgres.sslmode, Some(&root_cert)) {
        Ok(_) => CheckLine::ok(name, format!("`{}`", path.display())),
        Err(error) => {
            let detail = format!("{}: check `[postgres] sslrootcert`", chain(&error));
            CheckLine::failed(name, detail)
        }
    }
}

/// Checks the directory of the agent, which its unit creates.
fn state_directory_line(host: &HostSettings, user: Option<&ServiceUser>) -> CheckLine {
    let name = "state directory";
    let path = &host.agent.state_directory;
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let detail = format!("`{shown}` is no directory: check `[agent] state-directory`");
            return CheckLine::failed(name, detail);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let detail = format!("none yet: the agent's unit creates `{shown}`");
            return CheckLine::skipped(name, detail);
        }
        Err(error) => return CheckLine::failed(name, format!("`{shown}`: {error}")),
    }
    match user.and_then(|user| user.find_denial(path, Access::Directory)) {
        Some(denial) => CheckLine::failed(name, denial),
        None => CheckLine::ok(name, format!("`{shown}`")),
    }
}

/// Returns the line of a file that is not there.
fn missing(name: &str, path: &Path, before_install: bool) -> Option<CheckLine> {
    let exists = path.try_exists();
    let is_missing = exists.is_ok_and(|exists| !exists);
    (is_missing && before_install)
        .then(|| CheckLine::skipped(name, format!("none yet: `{}` is missing", path.display())))
}

fn programs(host: &HostSettings, before_install: bool) -> CheckLine {
    let name = "PostgreSQL's programs";
    let directory = host.postgres.bin_directory.display();
    let absent: Vec<_> = PROGRAMS
        .iter()
        .filter(|program| !host.program(program).exists())
        .collect();
    if absent.len() == PROGRAMS.len() && before_install {
        return CheckLine::skipped(name, format!("none yet in `{directory}`"));
    }
    if let Some(program) = absent.first() {
        let detail = format!(
            "`{directory}` has no `{program}`: install PostgreSQL's server, or set `[postgres] bin-directory`"
        );
        return CheckLine::failed(name, detail);
    }
    let Some(release) = data_directory::major_version(&host.postgres.data_directory) else {
        return CheckLine::ok(name, format!("in `{directory}`"));
    };
    match check_release(host, &release.to_string()) {
        Ok(()) => CheckLine::ok(name, format!("release {release}, as the data directory")),
        Err(error) => CheckLine::failed(
            name,
            format!(
                "{}: install release {release}, or set `[postgres] bin-directory`",
                chain(&error)
            ),
        ),
    }
}

fn data_directory_line(
    host: &HostSettings,
    user: Option<&ServiceUser>,
    before_install: bool,
) -> CheckLine {
    let name = "data directory";
    let data = &host.postgres.data_directory;
    let at = data.display();
    let is_empty = match fs::read_dir(data) {
        Ok(_) => match find_obstacle(data) {
            Ok(obstacle) => obstacle.is_none(),
            Err(error) => return unreadable(data, &error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let detail = format!(
                "none yet: `{at}` does not exist; create it, empty, for PostgreSQL's user, and the agent copies the \
                 primary"
            );
            return CheckLine::skipped(name, detail);
        }
        Err(error) => return unreadable(data, &error),
    };
    let state = data_directory::state(data, &host.rewinding_marker());
    let has_server = !matches!(
        state,
        DataDirectoryState::Empty | DataDirectoryState::Unreadable
    );
    // An installation gives an empty directory to the user.
    if (has_server || is_empty && !before_install)
        && let Some(denial) = user.and_then(|user| user.find_data_directory_denial(data))
    {
        return CheckLine::failed(name, denial);
    }
    let control = data_directory::read_control_file(data);
    let of = control.map_or_else(
        |_| String::new(),
        |control| format!(", system identifier {}", control.system_id),
    );
    if matches!(
        state,
        DataDirectoryState::Standby | DataDirectoryState::Primary
    ) && let Some(denial) = find_wal_denial(data, user)
    {
        return CheckLine::failed(name, denial);
    }
    match state {
        DataDirectoryState::Empty if is_empty => CheckLine::skipped(
            name,
            format!(
                "empty: the agent copies the primary to `{at}`, or `initdb` creates the database"
            ),
        ),
        DataDirectoryState::Empty => CheckLine::failed(
            name,
            match check_data_directory(host) {
                Err(Error::Settings(error)) => chain(&error),
                Err(error) => chain(&error),
                Ok(()) => format!(
                    "`{at}/global/pg_control` is missing or cut off: restore a backup, or empty the directory, so \
                     that the agent copies the primary"
                ),
            },
        ),
        DataDirectoryState::Standby => CheckLine::ok(name, format!("`{at}`, a standby's{of}")),
        DataDirectoryState::Primary => CheckLine::ok(name, format!("`{at}`, a primary's{of}")),
        DataDirectoryState::Rewinding => CheckLine::ok(
            name,
            format!("`{at}` is being rewound or copied, and the agent continues"),
        ),
        DataDirectoryState::Unreadable => {
            unreadable(data, &io::Error::from(io::ErrorKind::PermissionDenied))
        }
    }
}

/// Returns the reason why PostgreSQL cannot use `pg_wal`, which may be a link to a volume that is not mounted.
fn find_wal_denial(data: &Path, user: Option<&ServiceUser>) -> Option<String> {
    let wal = data.join("pg_wal");
    let target = wal
        .read_link()
        .map_or_else(|_| wal.clone(), |link| data.join(link));
    match fs::metadata(&wal) {
        Ok(metadata) if metadata.is_dir() => user?.find_denial(&target, Access::Directory),
        Ok(_) => Some(format!(
            "`{}` is no directory: restore a backup",
            wal.display()
        )),
        Err(error) if target != wal => Some(format!(
            "`{}` links to `{}` ({error}): mount its volume",
            wal.display(),
            target.display()
        )),
        Err(error) => Some(format!("`{}`: {error}: restore a backup", wal.display())),
    }
}

fn unreadable(data: &Path, error: &io::Error) -> CheckLine {
    let detail = format!(
        "`{}` cannot be read ({error}): run this check as root; if it fails there too, check the volume",
        data.display()
    );
    CheckLine::failed("data directory", detail)
}

fn config_file_line(host: &HostSettings, before_install: bool) -> CheckLine {
    let name = "postgresql.conf";
    let path = &host.postgres.config_file;
    if let Some(line) = missing(name, path, before_install) {
        return line;
    }
    match config_file::check(host) {
        Ok(()) => CheckLine::ok(
            name,
            format!("`{}` includes the guard's file", path.display()),
        ),
        Err(error) => CheckLine::failed(name, chain(error.as_ref())),
    }
}
