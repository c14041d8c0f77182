//! Check of the file `[metrics] textfile`: this user replaces it, and `node_exporter`, another user, reads it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::command::check::outcome::CheckOutcome;

/// Permissions of other users that `node_exporter` needs.
const READ_FILE: u32 = 0o004;
const LIST_DIRECTORY: u32 = 0o005;

pub(super) fn check(path: &Path) -> CheckOutcome {
    let name = format!("metrics textfile {}", path.display());
    CheckOutcome::new(name, usable(path))
}

fn usable(path: &Path) -> Result<(), String> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let at = directory.display();
    let found = fs::metadata(directory).map_err(|error| format!("`{at}`: {error}"))?;
    // The owner of another one may be `node_exporter` itself.
    let is_own = found.uid() == nix::unistd::geteuid().as_raw();
    let mode = found.permissions().mode();
    if is_own && mode & LIST_DIRECTORY != LIST_DIRECTORY {
        return Err(format!(
            "`node_exporter` cannot list `{at}`, whose mode is {:04o}: `chmod o+rx {at}`",
            mode & 0o7777
        ));
    }
    tempfile::tempfile_in(directory)
        .map_err(|error| format!("`{at}`: {error}: let PostgreSQL's user write there"))?;
    let mode = match fs::metadata(path) {
        Ok(file) => file.permissions().mode(),
        // The first command that records something writes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if mode & READ_FILE == 0 {
        return Err(format!(
            "`node_exporter` cannot read it, because its mode is {:04o}: `chmod o+r {}`",
            mode & 0o7777,
            path.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn file_or_directory_hidden_from_others_then_named_with_remedy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("backup.prom");
        let set =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(root.path(), 0o755);
        usable(&path).unwrap();

        fs::write(&path, "").unwrap();
        set(&path, 0o600);
        let refused = usable(&path).unwrap_err();
        assert!(refused.contains("mode is 0600: `chmod o+r /"), "{refused}");
        set(&path, 0o644);
        usable(&path).unwrap();
        set(root.path(), 0o750);
        let refused = usable(&path).unwrap_err();
        assert!(refused.contains("mode is 0750: `chmod o+rx /"), "{refused}");
        assert!(usable(Path::new("/nowhere/backup.prom")).is_err());
    }
}
