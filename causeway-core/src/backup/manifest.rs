//! Manifest of a base backup.
//!
//! A backup exists once its manifest exists: the manifest is written last and names every other object. It
//! refers to blobs in packs, not to files in packs, so that a later backup can refer to a blob of an earlier
//! one.
//!
//! Its format is JSON lines: the [`Manifest`], then one line for each [`ManifestFile`], so that writer and
//! reader keep one file in memory. [`lines`] writes and reads them.

mod digest;
pub mod lines;
pub mod paths;

use serde::{Deserialize, Serialize};

pub use self::digest::{Digest, InvalidDigest};
pub use self::lines::ManifestReader;
use crate::backup::BackupId;
use crate::lsn::SegmentSize;
use crate::{Lsn, Timeline};

/// Format of [`Manifest`] that this release writes, and the highest that it reads.
pub const FORMAT: u32 = 1;

/// Maximum bytes of a file in one blob, and so the buffer of a reader.
pub const MAX_BLOB_BYTES: u64 = 4 << 20;

/// Wall-clock time of the database server, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(i64);

impl WallTime {
    /// Returns the time this many microseconds after 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

/// Unencrypted metadata of a backup: times, positions and sizes, without any content. It is in the plaintext
/// part of the manifest object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupSummary {
    /// Name of the backup.
    pub id: BackupId,
    /// Timeline on which it was taken.
    pub timeline: Timeline,
    /// Position at which replay begins.
    pub start_lsn: Lsn,
    /// Position at which it is consistent.
    pub stop_lsn: Lsn,
    /// Start time.
    pub started_at: WallTime,
    /// End time by the clock of its server, or by the last transaction that a standby had replayed if that is
    /// later: no target before this can be reached from it. Both clocks may be behind that of the commits in
    /// it, so a restore to a time also reads its WAL.
    pub stopped_at: WallTime,
    /// Size of a WAL segment in bytes, by which the order of segment names is known.
    pub segment_bytes: u64,
    /// Size of the files in bytes.
    pub raw_bytes: u64,
    /// Size of its objects in each bucket in bytes, without the manifest.
    pub stored_bytes: u64,
    /// Number of damaged pages, each in a file whose damage was accepted by name.
    pub damaged_pages: u64,
}

impl BackupSummary {
    /// Returns the key that orders backups by age: the position at which they ended. Times and names depend on
    /// clocks, which may be wrong; they order only backups that ended at one position, as on an idle standby.
    pub fn age_order(&self) -> (Timeline, Lsn, WallTime, &BackupId) {
        (self.timeline, self.stop_lsn, self.started_at, &self.id)
    }

    /// Returns the size of the cluster's WAL segments.
    ///
    /// # Errors
    ///
    /// [`ManifestError::SegmentSize`] if PostgreSQL has no such size.
    pub const fn segment_size(&self) -> Result<SegmentSize, ManifestError> {
        match SegmentSize::new(self.segment_bytes) {
            Some(size) => Ok(size),
            None => Err(ManifestError::SegmentSize(self.segment_bytes)),
        }
    }
}

/// A pack object: a sequence of blobs, each a separate zstd frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pack {
    /// Backup that stored it: an earlier one if backups share blobs.
    pub backup: BackupId,
    /// Number within that backup, from 0.
    pub number: u32,
    /// Total length of its frames before encryption.
    pub payload_bytes: u64,
}

/// A part of one file, and its location in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blob {
    /// Index of its pack in [`Manifest::packs`].
    pub pack: u32,
    /// Offset of its frame in the payload of the pack.
    pub offset: u64,
    /// Length of the frame.
    pub stored_bytes: u64,
    /// Length of the uncompressed bytes.
    pub raw_bytes: u64,
    /// Checksum of the uncompressed bytes.
    pub sha256: Digest,
}

/// A file, by its path below the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestFile {
    /// Path with `/`, without a leading one.
    pub path: String,
    /// Its blobs in order, which together are the file.
    pub blobs: Vec<Blob>,
}

impl ManifestFile {
    /// Returns the length of the file.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.raw_bytes).sum()
    }
}

/// A tablespace outside the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tablespace {
    /// OID, which is its name in `pg_tblspc`.
    pub oid: u32,
    /// Directory of the tablespace.
    pub location: String,
}

/// Pages of one file with a wrong checksum, stored as read because the operator accepted the file by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DamagedFile {
    /// Path of the file.
    pub path: String,
    /// Damaged blocks of the relation, as ranges with both ends included.
    pub blocks: Vec<(u32, u32)>,
}

impl DamagedFile {
    /// Returns the number of damaged pages.
    pub fn pages(&self) -> u64 {
        let length = |&(first, last): &(u32, u32)| u64::from(last.saturating_sub(first)) + 1;
        self.blocks.iter().map(length).sum()
    }
}

/// A base backup without its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// Format of this record.
    pub format: u32,
    /// Copy of the unencrypted metadata, here encrypted and authenticated.
    pub summary: BackupSummary,
    /// Label given by the operator.
    pub label: String,
    /// System identifier of the database cluster.
    pub system_id: u64,
    /// `server_version_num`, such as 150020.
    pub server_version: u32,
    /// Whether page checksums were verified.
    pub pages_checked: bool,
    /// Files with damaged pages.
    pub damaged: Vec<DamagedFile>,
    /// Whether the group may read the data directory (`initdb --allow-group-access`).
    pub group_access: bool,
    /// Content of `backup_label`.
    pub backup_label: String,
    /// Content of `tablespace_map`, for information: a restore creates the links itself.
    pub tablespace_map: String,
    /// Tablespaces outside the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// Directories, parents first.
    pub directories: Vec<String>,
    /// Packs of the blobs.
    pub packs: Vec<Pack>,
    /// Number of files that follow.
    pub files: u64,
}

/// A manifest that is inconsistent, or has a path outside the data directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Its format is too new.
    #[error(
        "the manifest has format {found} and this program reads up to {FORMAT}: use a later release"
    )]
    TooNew {
        /// Format of the manifest.
        found: u32,
    },
    /// A path is absolute or contains `..`.
    #[error("the manifest names the path `{0}`, which is not below the data directory")]
    Path(String),
    /// PostgreSQL has no segments of this size.
    #[error("the manifest names segments of {0} bytes, and PostgreSQL has none of that size")]
    SegmentSize(u64),
    /// A path is in no directory of the manifest, or is a file that a restore writes.
    #[error("the manifest has `{0}` outside the directories of the backup")]
    Place(String),
    /// The location of a tablespace is not allowed.
    #[error("the manifest has the invalid tablespace location `{0}`")]
    Location(String),
    /// Two files, directories or tablespaces have one path.
    #[error("the manifest names one path twice")]
    Twice,
    /// It has no control file, so PostgreSQL could not start.
    #[error("the manifest has no control file")]
    NoControlFile,
    /// A blob is outside its pack, or above the maximum size.
    #[error("the manifest has a blob of `{0}` outside its pack")]
    Blob(String),
}

impl Manifest {
    /// Checks everything that a restore relies on except the files, which [`Manifest::check_file`] checks.
    ///
    /// # Errors
    ///
    /// The first [`ManifestError`].
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format > FORMAT {
            return Err(ManifestError::TooNew { found: self.format });
        }
        self.summary.segment_size()?;
        let stray = self.directories.iter().find(|path| !is_below(path));
        stray.map_or(Ok(()), |path| Err(ManifestError::Path(path.clone())))
    }

    /// Checks that a file is below the data directory, and each of its blobs in a pack.
    ///
    /// # Errors
    ///
    /// [`ManifestError`], with the path.
    pub fn check_file(&self, file: &ManifestFile) -> Result<(), ManifestError> {
        if !is_below(&file.path) {
            return Err(ManifestError::Path(file.path.clone()));
        }
        if file.blobs.iter().all(|blob| self.holds(blob)) {
            return Ok(());
        }
        Err(ManifestError::Blob(file.path.clone()))
    }

    fn holds(&self, blob: &Blob) -> bool {
        let pack = usize::try_from(blob.pack)
            .ok()
            .and_then(|index| self.packs.get(index));
        let end = blob.offset.checked_add(blob.stored_bytes);
        let is_inside = pack
            .zip(end)
            .is_some_and(|(pack, end)| end <= pack.payload_bytes);
        // zstd expands incompressible data by less than this.
        is_inside && blob.raw_bytes <= MAX_BLOB_BYTES && blob.stored_bytes <= 2 * MAX_BLOB_BYTES
    }
}

fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn path_or_blob_outside_then_rejected() {
        let whole = manifest(10);
        assert_eq!(whole.check_file(&file("base/5/1259")), Ok(()));
        for path in ["/etc/passwd", "base/../../x", "", "base//1"] {
            let unsound = ManifestError::Path(path.to_owned());
            assert_eq!(whole.check_file(&file(path)), Err(unsound), "{path}");
            let directories = vec![path.to_owned()];
            let climbing = Manifest {
                directories,
                ..whole.clone()
            };
            assert_eq!(climbing.check(), Err(ManifestError::Path(path.to_owned())));
        }
        let stray = ManifestError::Blob("base/5/1259".to_owned());
        let short = manifest(9);
        assert_eq!(short.check_file(&file("base/5/1259")), Err(stray.clone()));
        let mut huge = file("base/5/1259");
        huge.blobs[0].raw_bytes = u64::MAX;
        assert_eq!(whole.check_file(&huge), Err(stray));
    }

    pub(crate) fn file(path: &str) -> ManifestFile {
        let blob = Blob {
            pack: 0,
            offset: 4,
            stored_bytes: 6,
            raw_bytes: 8192,
            sha256: Digest::new([7; 32]),
        };
        ManifestFile {
            path: path.to_owned(),
            blobs: vec![blob],
        }
    }

    pub(crate) fn manifest(payload_bytes: u64) -> Manifest {
        let id: BackupId = "20261120T201500Z-5f3a9c01".parse().unwrap();
        Manifest {
            format: FORMAT,
            summary: BackupSummary {
                id: id.clone(),
                timeline: Timeline::FIRST,
                start_lsn: Lsn::new(1),
                stop_lsn: Lsn::new(2),
                started_at: WallTime::from_micros(1),
                stopped_at: WallTime::from_micros(2),
                segment_bytes: 16 << 20,
                raw_bytes: 8192,
                stored_bytes: 6,
                damaged_pages: 0,
            },
            label: "nightly".to_owned(),
            system_id: 1,
            server_version: 150_020,
            pages_checked: true,
            damaged: Vec::new(),
            group_access: false,
            backup_label: String::new(),
            tablespace_map: String::new(),
            tablespaces: Vec::new(),
            directories: vec!["base".to_owned()],
            packs: vec![Pack {
                backup: id,
                number: 0,
                payload_bytes,
            }],
            files: 1,
        }
    }
}
