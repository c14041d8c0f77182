//! Checks of a restore's target directories: never in, or around, another server's files.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::restore::request::RestoreRequest;
use crate::restore::wal_link;

/// Returns the absolute form of a path, without `.` and without following its last component.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(Error::io("name", path))?;
    check_clean(&absolute)?;
    Ok(absolute)
}

/// Fails if directories overlap or are inside another server's files.
pub(crate) fn check(request: &RestoreRequest) -> Result<(), Error> {
    let directory = &request.directory;
    check_foreign(directory)?;
    let mut taken = vec![resolved(directory)?];
    if let Some(wal) = wal_link::target(directory)? {
        take(&mut taken, &wal)?;
    }
    for (number, (old, new)) in request.tablespaces.iter().enumerate() {
        for path in [old, new] {
            if !path.is_absolute() {
                let text = format!(
                    "`--tablespace-mapping {}={}`: `{}` is not an absolute path",
                    old.display(),
                    new.display(),
                    path.display()
                );
                return Err(Error::Refused(text));
            }
            check_clean(path)?;
        }
        let earlier = request.tablespaces.iter().take(number);
        if earlier.into_iter().any(|(earlier, _)| earlier == old) {
            let text = format!("`--tablespace-mapping` names `{}` twice", old.display());
            return Err(Error::Refused(text));
        }
        take(&mut taken, new)?;
    }
    if let Some(below) = &request.tablespace_directory {
        if !below.is_absolute() {
            let text = format!(
                "`--tablespace-directory`: `{}` is not an absolute path",
                below.display()
            );
            return Err(Error::Refused(text));
        }
        check_clean(below)?;
        check_foreign(below)?;
    }
    Ok(())
}

/// Adds a directory to `taken`, unless it overlaps one of them or is inside another server's files.
pub(crate) fn take(taken: &mut Vec<PathBuf>, path: &Path) -> Result<(), Error> {
    check_foreign(path)?;
    let real = resolved(path)?;
    let overlaps = |other: &&PathBuf| other.starts_with(&real) || real.starts_with(other);
    if let Some(other) = taken.iter().find(overlaps) {
        let text = format!(
            "`{}` and `{}` overlap: each tablespace and the target of a link `pg_wal` need a directory of \
             their own, apart from the target directory",
            path.display(),
            other.display()
        );
        return Err(Error::Refused(text));
    }
    taken.push(real);
    Ok(())
}

/// Refuses a path with `..`, which changes its meaning once a component is a link, and a path that
/// cannot be written into a settings file.
pub(crate) fn check_clean(path: &Path) -> Result<(), Error> {
    let climbs = path
        .components()
        .any(|component| component == Component::ParentDir);
    let text = path.to_str();
    if climbs || text.is_none_or(|text| text.contains(char::is_control)) {
        let text = format!(
            "`{}` cannot be used as a directory: it has `..`, control characters, or is not UTF-8",
            path.display()
        );
        return Err(Error::Refused(text));
    }
    Ok(())
}

/// Refuses a path inside a data directory or a tablespace, with all links followed.
fn check_foreign(path: &Path) -> Result<(), Error> {
    let real = resolved(path)?;
    for ancestor in real.ancestors().skip(1) {
        let what = if is_data_directory(ancestor) {
            "data directory"
        } else if is_tablespace(ancestor) {
            "tablespace"
        } else {
            continue;
        };
        let text = format!(
            "`{}` is inside the {what} `{}`: restore into a directory outside of it",
            path.display(),
            ancestor.display()
        );
        return Err(Error::Refused(text));
    }
    Ok(())
}

fn is_data_directory(path: &Path) -> bool {
    path.join("PG_VERSION").exists() && path.join("global").is_dir()
}

/// Returns whether `path` is a tablespace: it has a directory for each version, such as
/// `PG_15_202209061`. A data directory's `base` has none, but its parent is recognized as a data
/// directory.
fn is_tablespace(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else {
        return false;
    };
    entries
        .filter_map(Result::ok)
        .any(|entry| is_version_directory(&entry.file_name().to_string_lossy()))
}

/// Returns whether PostgreSQL would give `name` to its directory in a tablespace.
pub(crate) fn is_version_directory(name: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let rest = name.strip_prefix("PG_");
    let parts = rest.and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(major, catalog)| digits(major) && digits(catalog))
}

/// Returns the path with all links of its existing part followed.
fn resolved(path: &Path) -> Result<PathBuf, Error> {
    for ancestor in path.ancestors() {
        match fs::canonicalize(ancestor) {
            Ok(real) => {
                let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
                return Ok(real.join(rest));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("inspect", ancestor)(error)),
        }
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directory_in_data_directory_or_tablespace_then_refused() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir_all(data.join("global")).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        let side = root.path().join("side");
        fs::create_dir_all(side.join("PG_15_202209061/5")).unwrap();
        symlink(&data, root.path().join("link")).unwrap();

        for path in [
            "data/x",
            "data/base/y/z",
            "link/x",
            "side/x",
            "side/PG_15_202209061/5/x",
        ] {
            let refused = check_foreign(&root.path().join(path)).unwrap_err();
            assert!(refused.to_string().contains("is inside the"), "{path}");
        }
        for path in ["data", "beside", "beside/x"] {
            check_foreign(&root.path().join(path)).unwrap();
        }
    }

    #[test]
    fn directories_that_overlap_then_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        symlink(root.path(), path("link")).unwrap();
        let mut taken = vec![resolved(&path("data")).unwrap()];
        take(&mut taken, &path("a")).unwrap();
        for name in ["data", "data/x", "a", "a/b", "link/a", "link/data/x"] {
            assert!(take(&mut taken, &path(name)).is_err(), "{name}");
        }
        assert!(take(&mut taken, root.path()).is_err());
        take(&mut taken, &path("b")).unwrap();
    }

    #[test]
    fn path_that_climbs_or_has_control_characters_then_refused() {
        for path in ["/a/../b", "/a\nb", "/a\u{1b}[2J"] {
            assert!(check_clean(Path::new(path)).is_err(), "{path:?}");
        }
        check_clean(Path::new("/a/b c")).unwrap();
    }
}
