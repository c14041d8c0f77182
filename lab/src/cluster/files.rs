//! Ownership and permissions of files that PostgreSQL's user reads.

use std::path::Path;

use anyhow::Context as _;

use crate::cluster::program::postgres_user;

/// Gives a file or directory to the user that PostgreSQL runs as.
///
/// # Errors
///
/// When that is not allowed.
pub fn give_to_postgres(path: &Path) -> anyhow::Result<()> {
    if let Some(user) = postgres_user()? {
        std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .with_context(|| format!("could not give `{}` to `postgres`", path.display()))?;
    }
    Ok(())
}

/// Sets the permissions of a file or directory.
///
/// # Errors
///
/// When that is not allowed.
pub fn restrict(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("could not set the permissions of `{}`", path.display()))
}

/// Writes a settings file that PostgreSQL's user can read.
///
/// # Errors
///
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("could not write `{}`", path.display()))?;
    give_to_postgres(path)
}
