//! Checks of this host: files, programs, data directory and watchdog device.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use causeway_core::failover::observation::DataDirectoryState;
use causeway_runtime::secret::Secret;
use causeway_runtime::telemetry::chain;

use crate::agent::key_exposure::find_exposure;
use crate::agent::preconditions::{check_data_directory, check_release, find_obstacle};
use crate::check::line::CheckLine;
use crate::config::{HostSettings, Settings, SettingsError};
use crate::data_directory;
use crate::error::Error;
use crate::guard::config_file;
use crate::protocol::signed_command::CommandSigningKey;

/// PostgreSQL's programs that the guard and the agent run.
const PROGRAMS: [&str; 3] = ["postgres", "pg_rewind", "pg_basebackup"];

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
    let exposed = match &settings.host {
        Some(host) if host.postgres.data_directory.exists() => {
            find_exposure(path, &host.postgres.data_directory)
        }
        Some(_) | None => fs::metadata(path)
            .is_ok_and(|metadata| metadata.mode() & 0o007 != 0)
            .then(|| {
                let path = path.display();
                format!("every user of this host can read `{path}`: set its mode to 0600")
            }),
    };
    match exposed {
        Some(text) => CheckLine::failed(name, text),
        None => CheckLine::ok(name, ""),
    }
}

/// Checks what a node needs.
pub(super) fn checks(host: &HostSettings, before_install: bool) -> Vec<CheckLine> {
    let mut lines = vec![
        programs(host, before_install),
        data_directory_line(host),
        config_file_line(host, before_install),
    ];
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
        missing(name, path, before_install).unwrap_or_else(|| match Secret::from_file(path) {
            Ok(_) => CheckLine::ok(name, ""),
            Err(error) => CheckLine::failed(
                name,
                format!(
                    "{}: write it, readable by PostgreSQL's user alone",
                    chain(&error)
                ),
            ),
        })
    }));
    lines.push(watchdog(host.guard.watchdog_device.as_deref()));
    lines
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

fn data_directory_line(host: &HostSettings) -> CheckLine {
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
    let control = data_directory::read_control_file(data);
    let of = control.map_or_else(
        |_| String::new(),
        |control| format!(", system identifier {}", control.system_id),
    );
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

/// Checks the device without opening it, which would arm it.
fn watchdog(device: Option<&Path>) -> CheckLine {
    let name = "watchdog device";
    let Some(path) = device else {
        return CheckLine::skipped(name, "`[guard] watchdog-device` is not set");
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_char_device() => {
            CheckLine::ok(name, path.display().to_string())
        }
        Ok(_) => CheckLine::failed(
            name,
            format!(
                "`{}` is no device: check `[guard] watchdog-device`",
                path.display()
            ),
        ),
        Err(error) => CheckLine::failed(
            name,
            format!(
                "`{}`: {error}: load the kernel module of the watchdog, such as `softdog`, or unset \
                 `[guard] watchdog-device`",
                path.display()
            ),
        ),
    }
}
