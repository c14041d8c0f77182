//! `pg_wal` on a volume of its own: a link in the target directory, made before the restore and kept by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Name of the link.
pub(super) const NAME: &str = "pg_wal";

/// Directory that `mkfs` makes in the root of a file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Returns the target of the link `pg_wal` in a directory, if there is one.
pub(super) fn target(directory: &Path) -> Result<Option<PathBuf>, Error> {
    let link = directory.join(NAME);
    let is_link = match fs::symlink_metadata(&link) {
        Ok(metadata) => metadata.is_symlink(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::io("inspect", &link)(error)),
    };
    if !is_link {
        return Ok(None);
    }
    let target = fs::read_link(&link).map_err(Error::io("inspect", &link))?;
    Ok(Some(directory.join(target)))
}

/// Checks what `pg_wal` is in a directory that holds nothing else: a link to an empty directory.
///
/// # Errors
///
/// [`Error::Refused`] if it is anything else, and [`Error::NotEmpty`] if it is no link.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let link = directory.join(NAME);
    let Some(target) = target(directory)? else {
        if fs::symlink_metadata(&link).is_ok() {
            return Err(Error::NotEmpty {
                path: directory.to_owned(),
            });
        }
        return Ok(());
    };
    check_target(directory, &target)?;
    refuse_mount_root(&target)?;
    let entries = fs::read_dir(&target).map_err(Error::io("list", &target))?;
    if entries.count() > 0 {
        let text = format!(
            "`{}` links to `{}`, which is not empty: empty it first, if no server uses it",
            link.display(),
            target.display()
        );
        return Err(Error::Refused(text));
    }
    Ok(())
}

/// Checks that the target of the link in `directory` is a directory.
///
/// # Errors
///
/// [`Error::Refused`] if it is none: its volume may not be mounted.
pub(super) fn check_target(directory: &Path, target: &Path) -> Result<(), Error> {
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) => {}
        Err(error) => return Err(Error::io("inspect", target)(error)),
    }
    Err(Error::Refused(format!(
        "`{}` links to `{}`, which is no directory: mount its volume, and create the directory",
        directory.join(NAME).display(),
        target.display()
    )))
}

/// Returns the error of a restore that began with `pg_wal` elsewhere: as a link to `begun`, or as a directory.
pub(super) fn changed(directory: &Path, begun: Option<&Path>) -> Error {
    let link = directory.join(NAME);
    let link = link.display();
    let (was, remedy) = match begun {
        Some(target) => {
            let target = target.display();
            let remedy = format!("link it there again (`ln -sfnT {target} {link}`)");
            (format!("a link to `{target}`"), remedy)
        }
        None => (
            "a directory in it".to_owned(),
            format!("remove the link `{link}`"),
        ),
    };
    Error::Refused(format!(
        "`{}` holds an interrupted restore that began with `{NAME}` as {was}, and it is no longer: {remedy}, or empty the \
         directory to restore anew",
        directory.display()
    ))
}

/// Refuses the root of a file system, which PostgreSQL and its programs do not accept as an empty directory.
///
/// # Errors
///
/// [`Error::Refused`].
pub(super) fn refuse_mount_root(directory: &Path) -> Result<(), Error> {
    if !directory.join(LOST_AND_FOUND).exists() {
        return Ok(());
    }
    let text = format!(
        "`{}` is the root of a file system, and holds `{LOST_AND_FOUND}`: use a directory in it, such as `{}`",
        directory.display(),
        directory.join("main").display()
    );
    Err(Error::Refused(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns a target directory whose `pg_wal` links to `wal` beside it.
    fn linked() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (data, wal) = (root.path().join("data"), root.path().join("wal"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&wal).unwrap();
        symlink(&wal, data.join(NAME)).unwrap();
        (root, data, wal)
    }

    #[track_caller]
    fn refused(directory: &Path, why: &str) {
        let checked = refuse_mount_root(directory).and_then(|()| check(directory));
        let text = checked.unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    }

    #[test]
    fn link_to_empty_directory_then_target_is_free() {
        let (_root, data, wal) = linked();
        check(&data).unwrap();
        assert_eq!(target(&data).unwrap(), Some(wal));
    }

    #[test]
    fn link_to_directory_with_files_then_refused() {
        let (_root, data, wal) = linked();
        fs::write(wal.join("000000010000000000000001"), "").unwrap();
        refused(&data, "/wal`, which is not empty");
    }

    #[test]
    fn link_to_nothing_then_refused() {
        let (_root, data, wal) = linked();
        fs::remove_dir(&wal).unwrap();
        refused(&data, "which is no directory: mount its volume");
    }

    #[test]
    fn root_of_file_system_then_refused_with_remedy() {
        let (_root, data, wal) = linked();
        fs::create_dir(wal.join("lost+found")).unwrap();
        refused(&data, "/wal` is the root of a file system");
        fs::remove_dir(wal.join("lost+found")).unwrap();
        fs::create_dir(data.join("lost+found")).unwrap();
        refused(&data, "/data/main`");
    }

    #[test]
    fn pg_wal_that_is_a_directory_then_not_empty() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(NAME)).unwrap();
        let error = check(root.path()).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    }
}
