//! Identity of this host, which distinguishes it from a host that started from a copy of its disk.

use std::fs;
use std::io;
use std::path::Path;

use crate::config::SettingsError;

/// Files from which the identity is read unless `[agent] host-id-file` is set. On EC2's Nitro instances the
/// firmware shows the instance id as the board's asset tag ("Instance identification" in the EC2 user
/// guide), and an instance made from an image or a snapshot has another. A machine id (machine-id(5)) is
/// copied with the disk unless the image leaves it empty, so it comes second.
const DEFAULTS: [&str; 2] = [
    "/sys/devices/virtual/dmi/id/board_asset_tag",
    "/etc/machine-id",
];

/// Values that firmware shows when the vendor set none.
const UNSET: [&str; 4] = [
    "",
    "Not Specified",
    "No Asset Tag",
    "To be filled by O.E.M.",
];

/// Reads the identity of this host.
///
/// # Errors
///
/// [`SettingsError`] when the file that is named cannot be read or is empty, or none of the defaults can.
pub(crate) fn read(named: Option<&Path>) -> Result<String, SettingsError> {
    let found = match named {
        Some(path) => first_of(&[path]),
        None => first_of(&DEFAULTS.map(Path::new)),
    };
    let why = match (found, named) {
        (Ok(Some(identity)), _) => return Ok(identity),
        (Err(why), _) => why,
        (Ok(None), Some(path)) => format!(
            "is `{}`, which is missing or empty: write an identity into it that no copy of the disk has",
            path.display()
        ),
        (Ok(None), None) => {
            "is not set, and the host has neither an EC2 instance id nor a machine id: set a file \
                             that holds an identity"
                .to_owned()
        }
    };
    Err(SettingsError::setting("agent.host-id-file", why))
}

/// Returns the first identity in these files. An unreadable file is an error and not skipped: the next one may be
/// the same on a copy of the disk.
fn first_of(paths: &[&Path]) -> Result<Option<String>, String> {
    for path in paths {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(|error| {
                format!(
                    "cannot be read from `{}` ({error}): set a file that holds an identity",
                    path.display()
                )
            })?,
        };
        let text = text.trim();
        if !UNSET.contains(&text) {
            return Ok(Some(text.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_file_then_its_trimmed_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host-id");

        fs::write(&path, "i-0a1b2c3d4e5f60718\n").unwrap();
        assert_eq!(read(Some(&path)).unwrap(), "i-0a1b2c3d4e5f60718");

        fs::write(&path, "Not Specified\n").unwrap();
        let error = read(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("`agent.host-id-file` is"), "{error}");
    }

    #[test]
    fn first_file_unreadable_then_error_and_next_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let (unreadable, copied) = (directory.path(), directory.path().join("machine-id"));
        fs::write(&copied, "copied with the disk").unwrap();

        let missing = directory.path().join("none");
        let found = first_of(&[&missing, &copied]).unwrap();
        assert_eq!(found.as_deref(), Some("copied with the disk"));
        assert!(first_of(&[unreadable, &copied]).is_err());
    }

    #[test]
    fn no_named_file_then_this_host_has_an_identity() {
        assert!(!read(None).unwrap().is_empty());
    }
}
