//! Check whether PostgreSQL can read the command signing key.
//!
//! A role that may call `pg_read_binary_file`, as `pg_rewind` needs, reads every file that PostgreSQL's
//! operating-system user can read. With the key it could command every node of the cluster.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::Uid;

/// Returns the problem text if the owner of the data directory can read `key`.
pub(crate) fn find_exposure(key: &Path, data: &Path) -> Option<String> {
    let owner =
        fs::metadata(data).map_or_else(|_| Uid::effective().as_raw(), |metadata| metadata.uid());
    let readable = if owner == Uid::effective().as_raw() {
        File::open(key).is_ok()
    } else {
        // This process may have more permissions than PostgreSQL.
        fs::metadata(key)
            .is_ok_and(|metadata| metadata.mode() & 0o004 != 0 || metadata.uid() == owner)
    };
    readable.then(|| describe_exposure(key))
}

/// Returns the problem text of a key that PostgreSQL can read.
pub(crate) fn describe_exposure(key: &Path) -> String {
    format!(
        "PostgreSQL's user can read `{}`, so roles that read server files can sign commands: make root its owner, \
         mode 0600, and start the agent with `--key-from-stdin`",
        key.display()
    )
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn key_readable_by_the_owner_of_the_data_directory_then_exposed() {
        let root = tempfile::tempdir().unwrap();
        let (key, data) = (
            root.path().join("command-signing.key"),
            root.path().join("data"),
        );
        fs::create_dir(&data).unwrap();
        assert_eq!(find_exposure(&key, &data), None, "no key file");
        fs::write(&key, "k").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert!(
            find_exposure(&key, &data).is_some(),
            "owned by the same user"
        );
        if Uid::effective().is_root() {
            chown(&data, Some(65534), None).unwrap();
            assert_eq!(find_exposure(&key, &data), None);
            fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
            assert!(
                find_exposure(&key, &data).is_some(),
                "readable by all users"
            );
        }
    }
}
