//! What one base backup consists of.
//!
//! A backup exists once its manifest does: the manifest is the last object written, and it names
//! every other one. It refers to blobs in packs and not to files in packs, so that a later backup
//! can point at a blob that an earlier one stored.
//!
//! It is JSON lines: the [`Manifest`] itself, then one line for each [`ManifestFile`], so that both sides
//! hold one file at a time however many there are. [`lines`] writes and reads them.

mod digest;
pub mod lines;
pub mod paths;

use serde::{Deserialize, Serialize};

pub use self::digest::{Digest, InvalidDigest};
pub use self::lines::ManifestReader;
use crate::backup::BackupId;
use crate::lsn::SegmentSize;
use crate::{Lsn, Timeline};

/// The version of [`Manifest`] that this code writes, and the highest that it reads.
pub const FORMAT: u32 = 1;

/// The longest run of a file that one blob holds, and so what a reader needs room for.
pub const MAX_BLOB_BYTES: u64 = 4 << 20;

/// A wall-clock time in microseconds since 1970, as the database server showed it.
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

/// What can be told of a backup without the key that opens it: times, positions and sizes, and
/// nothing of what it holds. It stands in the clear part of the manifest object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupSummary {
    /// The name of the backup.
    pub id: BackupId,
    /// The timeline that it was taken on.
    pub timeline: Timeline,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where replay has made it consistent.
    pub stop_lsn: Lsn,
    /// When it began.
    pub started_at: WallTime,
    /// When it ended, by the clock of its server, or by the last transaction that a standby had replayed
    /// if that is later: no target before this can be reached from it. Both clocks may be behind that of
    /// the commits in it, so a restore to a time looks into its WAL too.
    pub stopped_at: WallTime,
    /// The size of a WAL segment in bytes: without it the names of segments do not tell which follow
    /// each other.
    pub segment_bytes: u64,
    /// How many bytes the files have.
    pub raw_bytes: u64,
    /// How many bytes its objects have in each bucket, the manifest left out.
    pub stored_bytes: u64,
    /// How many damaged pages it holds, each in a file whose damage was accepted by name.
    pub damaged_pages: u64,
}

impl BackupSummary {
    /// Returns what orders backups by age: where they ended. Their times and names are those of clocks,
    /// which may have been wrong; they tell apart what ended at one position, as on an idle standby.
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

/// One pack object: blobs, each a zstd frame of its own, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pack {
    /// The backup that stored it, which is an earlier one once backups share blobs.
    pub backup: BackupId,
    /// Its number within that backup, from 0.
    pub number: u32,
    /// The length of its frames together, as they are before they are encrypted.
    pub payload_bytes: u64,
}

/// A run of bytes of one file, and where it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blob {
    /// Which of [`Manifest::packs`] holds it.
    pub pack: u32,
    /// Where its frame begins in the payload of the pack.
    pub offset: u64,
    /// The length of the frame.
    pub stored_bytes: u64,
    /// The length of the bytes themselves.
    pub raw_bytes: u64,
    /// Their checksum.
    pub sha256: Digest,
}

/// One file, by its path below the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestFile {
    /// The path, with `/` and no leading one.
    pub path: String,
    /// Its blobs, in order: together they are the file.
    pub blobs: Vec<Blob>,
}

impl ManifestFile {
    /// Returns the length of the file.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.raw_bytes).sum()
    }
}

/// A tablespace outside of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tablespace {
    /// Its number, which is its name in `pg_tblspc`.
    pub oid: u32,
    /// The directory it was in.
    pub location: String,
}

/// Pages of one file that do not match their checksum, stored as they were read because an operator
/// accepted them by the file's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DamagedFile {
    /// The path of the file.
    pub path: String,
    /// The damaged blocks of the relation, as runs from the first to the last.
    pub blocks: Vec<(u32, u32)>,
}

impl DamagedFile {
    /// Returns the number of damaged pages.
    pub fn pages(&self) -> u64 {
        let length = |&(first, last): &(u32, u32)| u64::from(last.saturating_sub(first)) + 1;
        self.blocks.iter().map(length).sum()
    }
}

/// One base backup, all but its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The version of this record.
    pub format: u32,
    /// What the clear part says too; here it is encrypted and authenticated.
    pub summary: BackupSummary,
    /// What the person who asked for the backup called it.
    pub label: String,
    /// The identifier that initdb gave the cluster.
    pub system_id: u64,
    /// `server_version_num`, such as 150020.
    pub server_version: u32,
    /// Whether each page was checked against its checksum.
    pub pages_checked: bool,
    /// The files with damaged pages.
    pub damaged: Vec<DamagedFile>,
    /// Whether the group may read the data directory (`initdb --allow-group-access`).
    pub group_access: bool,
    /// What `backup_label` must hold.
    pub backup_label: String,
    /// What `tablespace_map` would hold; a restore makes the links itself.
    pub tablespace_map: String,
    /// The tablespaces outside of the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// Every directory, parents first.
    pub directories: Vec<String>,
    /// The packs that the blobs are in.
    pub packs: Vec<Pack>,
    /// How many files follow.
    pub files: u64,
}

/// A manifest that contradicts itself or would lead out of the directory it is restored into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is of a later version.
    #[error(
        "the manifest has format {found} and this program reads up to {FORMAT}: use a later release"
    )]
    TooNew {
        /// The version found.
        found: u32,
    },
    /// A path is absolute or climbs.
    #[error("the manifest names the path `{0}`, which is not below the data directory")]
    Path(String),
    /// The segments have a size that PostgreSQL does not have.
    #[error("the manifest names segments of {0} bytes, and PostgreSQL has none of that size")]
    SegmentSize(u64),
    /// A path lies in no directory of the manifest, or is one that a restore writes itself.
    #[error("the manifest has `{0}` where no file of a backup can be")]
    Place(String),
    /// A tablespace is in no place that can be named.
    #[error("the manifest names `{0}` as the place of a tablespace")]
    Location(String),
    /// Two files, directories or tablespaces are one.
    #[error("the manifest names one path twice")]
    Twice,
    /// No server could be started.
    #[error("the manifest has no control file")]
    NoControlFile,
    /// A blob lies outside of its pack, or is larger than one can be.
    #[error("the manifest places a blob of `{0}` outside its pack")]
    Blob(String),
}

impl Manifest {
    /// Checks what a restore relies on, so that it can be trusted afterwards. Each file is checked by
    /// [`Manifest::check_file`].
    ///
    /// # Errors
    ///
    /// [`ManifestError`], with the first thing found.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format > FORMAT {
            return Err(ManifestError::TooNew { found: self.format });
        }
        self.summary.segment_size()?;
        let stray = self.directories.iter().find(|path| !is_below(path));
        stray.map_or(Ok(()), |path| Err(ManifestError::Path(path.clone())))
    }

    /// Checks that a file lies below the data directory, and each of its blobs in a pack.
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
        // zstd makes what it cannot compress longer by less than this.
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
    fn path_outside_or_blob_outside_then_unsound() {
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
