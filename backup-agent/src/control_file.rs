//! What `global/pg_control` says about a data directory, without asking a server.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::Failure;

/// The identifier that initdb gave the cluster: the first field of `ControlFileData`
/// (`src/include/catalog/pg_control.h`), followed by the version of that layout.
pub(crate) fn system_id(data_directory: &Path) -> Result<u64, Failure> {
    let refuse = |why: String| Failure::DataDirectory {
        path: data_directory.to_owned(),
        why,
    };
    let path = data_directory.join("global/pg_control");
    let bytes = fs::read(&path)
        .map_err(|it| refuse(format!("`global/pg_control` cannot be read: {it}")))?;
    let fields = bytes.first_chunk::<8>().zip(bytes.get(8..12));
    let version = |it: &[u8]| it.try_into().map(u32::from_le_bytes).unwrap_or_default();
    match fields {
        // PostgreSQL 13 writes 1300, 18 writes 1800: any number of that kind is a control file in
        // this host's byte order.
        Some((id, layout)) if (1300..3000).contains(&version(layout)) => {
            Ok(u64::from_le_bytes(*id))
        }
        _ => Err(refuse(
            "`global/pg_control` is not a control file".to_owned(),
        )),
    }
}

/// Returns the data directory that a command of PostgreSQL's works for: the one it was started in,
/// which is where PostgreSQL starts `archive_command` and `restore_command`, and otherwise the one in
/// the settings.
pub(crate) fn data_directory(config: &Config) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    if here.join("global/pg_control").is_file() {
        return here;
    }
    config.postgres.data_directory.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_identifier_and_refuses_other_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("global")).unwrap();
        let file = directory.path().join("global/pg_control");
        let mut bytes = vec![0; 8192];
        bytes[..8].copy_from_slice(&7_312_345_678_901_234_567_u64.to_le_bytes());
        fs::write(&file, &bytes).unwrap();
        assert!(system_id(directory.path()).is_err());

        bytes[8..12].copy_from_slice(&1300_u32.to_le_bytes());
        fs::write(&file, &bytes).unwrap();
        assert_eq!(
            system_id(directory.path()).unwrap(),
            7_312_345_678_901_234_567
        );
    }
}
