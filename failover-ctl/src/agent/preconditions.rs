//! Preconditions of a node, checked before the agent or an operator changes anything.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;

use crate::config::{HostSettings, SettingsError};
use crate::error::Error;

/// Name of the WAL directory, which may be a link to another volume.
const WAL: &str = "pg_wal";

/// Directory that `mkfs` makes in the root of a file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Checks that `postgres.bin-directory` has the release of the data directory, or that the data directory is free.
pub(crate) fn check_data_directory(host: &HostSettings) -> Result<(), Error> {
    let data = &host.postgres.data_directory;
    if let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) {
        return check_release(host, version.trim());
    }
    if host.rewinding_marker().exists() || !data.exists() {
        return Ok(());
    }
    let obstacle =
        find_obstacle(data).with_context(|| format!("could not list `{}`", data.display()))?;
    match obstacle {
        None => Ok(()),
        Some(why) => Err(SettingsError::setting("postgres.data-directory", why).into()),
    }
}

/// Returns why a directory without a database cannot be filled; none if it is empty, or holds nothing but a link `pg_wal`
/// to an empty directory.
///
/// # Errors
///
/// When a directory cannot be read.
pub(crate) fn find_obstacle(data: &Path) -> io::Result<Option<String>> {
    let names = names(data)?;
    if names.iter().any(|name| name == LOST_AND_FOUND) {
        return Ok(Some(root_of_file_system(data)));
    }
    if names.iter().any(|name| name != WAL)
        || data.join(WAL).read_link().is_err() && !names.is_empty()
    {
        return Ok(Some(format!(
            "is `{}`, which has files but is not a data directory: set the right one, or an empty one",
            data.display()
        )));
    }
    find_wal_obstacle(data)
}

/// Returns why the target of the link `pg_wal` cannot be filled, in a directory that holds nothing else: a copy would
/// delete the WAL of another server, or fill the volume below an unmounted one.
///
/// # Errors
///
/// When a directory cannot be read.
pub(crate) fn find_wal_obstacle(data: &Path) -> io::Result<Option<String>> {
    if names(data)? != [WAL] {
        return Ok(None);
    }
    let link = data.join(WAL);
    let Ok(target) = fs::read_link(&link) else {
        return Ok(None);
    };
    let target = data.join(target);
    let link = link.display();
    let names = match names(&target) {
        Ok(names) => names,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Some(format!(
                "has a link `{link}` to `{}`, which is no directory: mount its volume, and create the directory",
                target.display()
            )));
        }
        Err(error) => return Err(error),
    };
    if names.iter().any(|name| name == LOST_AND_FOUND) {
        return Ok(Some(root_of_file_system(&target)));
    }
    let text = format!(
        "has a link `{link}` to `{}`, which is not empty: empty it first, if no server uses it",
        target.display()
    );
    Ok((!names.is_empty()).then_some(text))
}

fn root_of_file_system(place: &Path) -> String {
    format!(
        "needs `{}`, which is the root of a file system and holds `{LOST_AND_FOUND}`: use a directory in it",
        place.display()
    )
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// Checks that the configured `postgres` is of the major release `release`.
pub(crate) fn check_release(host: &HostSettings, release: &str) -> Result<(), Error> {
    let program = host.program("postgres");
    let output = std::process::Command::new(&program)
        .arg("--version")
        .output()
        .with_context(|| {
            let program = program.display();
            format!("could not run `{program}`: check `postgres.bin-directory`")
        })?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    // Such as `postgres (PostgreSQL) 17.2 (Debian 17.2-1)`.
    let suffix = format!(" {release}");
    let matches = version
        .split(['.', '\n', '\r'])
        .next()
        .is_some_and(|major| major.ends_with(&suffix));
    if matches {
        return Ok(());
    }
    let version = version.trim();
    let why = format!("has `{version}`, and the data directory is of release {release}");
    Err(SettingsError::setting("postgres.bin-directory", why).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directory_that_is_not_free_then_reason_and_remedy() {
        let root = tempfile::tempdir().unwrap();
        let (data, wal) = (root.path().join("data"), root.path().join("wal"));
        let obstacle = || find_obstacle(&data).unwrap();
        let has = |part: &str| {
            let text = obstacle().expect("an obstacle");
            assert!(text.contains(part), "{text}");
        };
        fs::create_dir(&data).unwrap();
        assert_eq!(obstacle(), None, "empty");
        fs::create_dir(data.join(WAL)).unwrap();
        has("is not a data directory");
        fs::remove_dir(data.join(WAL)).unwrap();
        symlink(&wal, data.join(WAL)).unwrap();
        has("/wal`, which is no directory: mount its volume");
        fs::create_dir(&wal).unwrap();
        assert_eq!(obstacle(), None, "a link to an empty directory");
        fs::write(wal.join("000000010000000000000001"), "").unwrap();
        has("/wal`, which is not empty");
        fs::create_dir(wal.join(LOST_AND_FOUND)).unwrap();
        has("/wal`, which is the root of a file system");
        fs::remove_dir_all(&wal).unwrap();
        fs::create_dir(&wal).unwrap();
        fs::write(data.join("thesis.txt"), "").unwrap();
        has("is not a data directory");
        fs::create_dir(data.join(LOST_AND_FOUND)).unwrap();
        has("/data`, which is the root of a file system");
    }
}
