//! Identity of this host, which distinguishes it from a host that started from a copy of its disk.

use std::fs;
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
    if let Some(path) = named {
        return identity(path).ok_or_else(|| {
            let why = format!(
                "is `{}`, which is unreadable or empty: write an identity into it that no copy of the disk has",
                path.display()
            );
            SettingsError::setting("agent.host-id-file", why)
        });
    }
    DEFAULTS
        .iter()
        .find_map(|path| identity(Path::new(path)))
        .ok_or_else(|| {
            let why = "is not set, and the host has neither an EC2 instance id nor a machine id: set a file that holds \
                       an identity";
            SettingsError::setting("agent.host-id-file", why)
        })
}

fn identity(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!UNSET.contains(&text)).then(|| text.to_owned())
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
    fn no_named_file_then_this_host_has_an_identity() {
        assert!(!read(None).unwrap().is_empty());
    }
}
