//! Properties of a data directory according to its `global/pg_control`, without a server.

use std::fs;
use std::path::{Path, PathBuf};

use causeway_core::Lsn;
use causeway_core::lsn::SegmentSize;

use crate::config::Config;
use crate::error::Error;

/// Path of the control file below the data directory.
pub(crate) const CONTROL_FILE: &str = "global/pg_control";

/// The fields of `ControlFileData` and of its `CheckPoint` (`src/include/catalog/pg_control.h`)
/// whose offset is the same from PostgreSQL 13 to 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlFileData {
    /// System identifier, which initdb gave the cluster.
    pub(crate) system_id: u64,
    /// Version of the system catalogs.
    pub(crate) catalog_version: u32,
    /// Position of the last checkpoint's record.
    pub(crate) checkpoint: Lsn,
    /// Position at which replay would begin.
    pub(crate) redo: Lsn,
    /// Timeline of the last checkpoint.
    pub(crate) timeline: u32,
    /// Start of the last checkpoint, in seconds since 1970.
    pub(crate) checkpoint_time: i64,
}

impl ControlFileData {
    /// Reads the control file of `data_directory`.
    pub(crate) fn read(data_directory: &Path) -> Result<Self, Error> {
        let refuse = |why: String| Error::DataDirectory {
            path: data_directory.to_owned(),
            why,
        };
        let bytes = fs::read(data_directory.join(CONTROL_FILE))
            .map_err(|error| refuse(format!("`{CONTROL_FILE}` cannot be read: {error}")))?;
        Self::parse(&bytes).ok_or_else(|| refuse(format!("`{CONTROL_FILE}` is not a control file")))
    }

    /// Parses a control file; returns `None` if it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        // PostgreSQL 13 writes 1300, 18 writes 1800: any such number is a control file in this
        // host's byte order.
        let layout = u32_at(bytes, 8)?;
        if !(1300..3000).contains(&layout) {
            return None;
        }
        Some(Self {
            system_id: u64_at(bytes, 0)?,
            catalog_version: u32_at(bytes, 12)?,
            checkpoint: Lsn::new(u64_at(bytes, 32)?),
            redo: Lsn::new(u64_at(bytes, 40)?),
            timeline: u32_at(bytes, 48)?,
            checkpoint_time: u64_at(bytes, 104)?.cast_signed(),
        })
    }
}

/// Returns the system identifier of the cluster in `data_directory`.
pub(crate) fn system_id(data_directory: &Path) -> Result<u64, Error> {
    Ok(ControlFileData::read(data_directory)?.system_id)
}

/// Returns the segment size of the cluster in `directory`, from its control file.
///
/// `xlog_seg_size` follows `floatFormat`, `blcksz`, `relseg_size` and `xlog_blcksz` in every
/// version (`ControlFileData` in `src/include/catalog/pg_control.h`), and `floatFormat` is always
/// 1234567.0.
pub(crate) fn segment_size(directory: &Path) -> Result<SegmentSize, Error> {
    let path = directory.join(CONTROL_FILE);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    parse_segment_size(&bytes).ok_or_else(|| Error::DataDirectory {
        path: directory.to_owned(),
        why: "`global/pg_control` has no valid size of WAL segments".to_owned(),
    })
}

fn parse_segment_size(bytes: &[u8]) -> Option<SegmentSize> {
    let format = 1_234_567.0_f64.to_le_bytes();
    let at = bytes
        .windows(format.len())
        .position(|window| window == format);
    let size = bytes.get(at? + 20..)?.first_chunk().copied();
    SegmentSize::new(u32::from_le_bytes(size?).into())
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

/// Returns the data directory for which PostgreSQL runs a command: the working directory, in which
/// PostgreSQL starts `archive_command` and `restore_command`, or else the one in the settings.
pub(crate) fn data_directory(config: &Config) -> PathBuf {
    let here = std::env::current_dir().ok();
    here.filter(|path| path.join(CONTROL_FILE).is_file())
        .unwrap_or_else(|| config.postgres.data_directory.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0; 300];
        bytes[8..12].copy_from_slice(&1300_u32.to_le_bytes());
        bytes[208..216].copy_from_slice(&1_234_567.0_f64.to_le_bytes());
        bytes[228..232].copy_from_slice(&(64_u32 << 20).to_le_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn damaged_control_file_then_no_panic(bytes in damaged(&sample())) {
            if let Some(control) = ControlFileData::parse(&bytes) {
                prop_assert!(bytes.len() >= 112, "{control:?}");
            }
            parse_segment_size(&bytes);
        }
    }

    #[test]
    fn control_file_then_system_id_and_other_files_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("global")).unwrap();
        let file = directory.path().join("global/pg_control");
        let mut bytes = vec![0; 8192];
        bytes[..8].copy_from_slice(&7_312_345_678_901_234_567_u64.to_le_bytes());
        fs::write(&file, &bytes).unwrap();
        assert!(system_id(directory.path()).is_err());

        bytes[8..12].copy_from_slice(&1300_u32.to_le_bytes());
        bytes[40..48].copy_from_slice(&0x0000_0016_B374_D848_u64.to_le_bytes());
        fs::write(&file, &bytes).unwrap();
        let read = ControlFileData::read(directory.path()).unwrap();
        assert_eq!(read.system_id, 7_312_345_678_901_234_567);
        assert_eq!(read.redo.to_string(), "16/B374D848");
    }

    #[test]
    fn control_file_then_segment_size() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("global")).unwrap();
        let mut control = vec![0; 8192];
        let path = directory.path().join("global/pg_control");
        fs::write(&path, &control).unwrap();
        assert!(segment_size(directory.path()).is_err());

        control[208..216].copy_from_slice(&1_234_567.0_f64.to_le_bytes());
        control[228..232].copy_from_slice(&(64_u32 << 20).to_le_bytes());
        fs::write(&path, &control).unwrap();
        assert_eq!(segment_size(directory.path()).unwrap().bytes(), 64 << 20);
    }
}
