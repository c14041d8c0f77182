//! What one base backup consists of.
//!
//! A backup exists once its manifest does: the manifest is the last object written, and it names
//! every other one. It refers to pieces of packs and not to files of packs, so that a later backup
//! can point at a piece that an earlier one stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Lsn, Timeline};

/// The version of [`Manifest`] that this code writes, and the highest that it reads.
pub const FORMAT: u32 = 1;

/// The name of one backup: when it began, then eight random hexadecimal digits, such as
/// `20261120T201500Z-5f3a9c01`. Names sort by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

/// A text that names no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a backup, such as `20261120T201500Z-5f3a9c01`")]
pub struct InvalidBackupId(String);

impl BackupId {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupId {
    type Err = InvalidBackupId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = |(place, it): (usize, u8)| match place {
            8 => it == b'T',
            15 => it == b'Z',
            16 => it == b'-',
            17.. => it.is_ascii_digit() || (b'a'..=b'f').contains(&it),
            _ => it.is_ascii_digit(),
        };
        if text.len() == 25 && text.bytes().enumerate().all(shape) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidBackupId(text.to_owned()))
    }
}

impl TryFrom<String> for BackupId {
    type Error = InvalidBackupId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

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
pub struct Summary {
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
    /// When it ended: no target before this can be reached from it.
    pub stopped_at: WallTime,
    /// How many bytes the files have.
    pub raw_bytes: u64,
    /// How many bytes its objects have in each bucket, the manifest left out.
    pub stored_bytes: u64,
}

/// The SHA-256 of a piece, as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 in hexadecimal")]
pub struct InvalidDigest(String);

impl Digest {
    /// Wraps the 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let invalid = || InvalidDigest(text.clone());
        if text.len() != 64 || !text.is_ascii() {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * place..2 * place + 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "{it:02x}"))
    }
}

/// One pack object: pieces of files, each a zstd frame of its own, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pack {
    /// The backup that stored it, which is an earlier one once backups share pieces.
    pub backup: BackupId,
    /// Its number within that backup, from 0.
    pub number: u32,
    /// The length of its frames together, as they are before they are encrypted.
    pub payload_bytes: u64,
}

/// A run of bytes of one file, and where it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Piece {
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
pub struct File {
    /// The path, with `/` and no leading one.
    pub path: String,
    /// Its pieces, in order: together they are the file.
    pub pieces: Vec<Piece>,
}

impl File {
    /// Returns the length of the file.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|it| it.raw_bytes).sum()
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

/// One base backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The version of this record.
    pub format: u32,
    /// What the clear part says too; here it is under the seal.
    pub summary: Summary,
    /// What the person who asked for the backup called it.
    pub label: String,
    /// The identifier that initdb gave the cluster.
    pub system_id: u64,
    /// `server_version_num`, such as 150020.
    pub server_version: u32,
    /// The size of a log segment in bytes.
    pub segment_bytes: u64,
    /// Whether each page was checked against its checksum.
    pub pages_checked: bool,
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
    /// The packs that the pieces are in.
    pub packs: Vec<Pack>,
    /// Every file.
    pub files: Vec<File>,
}

/// A manifest that contradicts itself or would lead out of the directory it is restored into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
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
    /// A piece lies outside of its pack.
    #[error("the manifest puts a piece of `{0}` where no pack is")]
    Piece(String),
}

impl Manifest {
    /// Checks what a restore relies on, so that it can be believed afterwards.
    ///
    /// # Errors
    ///
    /// [`Unsound`], with the first thing found.
    pub fn check(&self) -> Result<(), Unsound> {
        if self.format > FORMAT {
            return Err(Unsound::TooNew { found: self.format });
        }
        let paths = self.files.iter().map(|it| &it.path);
        if let Some(path) = paths.chain(&self.directories).find(|it| !is_below(it)) {
            return Err(Unsound::Path(path.clone()));
        }
        let stray = self
            .files
            .iter()
            .find(|file| !file.pieces.iter().all(|it| self.holds(it)));
        stray.map_or(Ok(()), |file| Err(Unsound::Piece(file.path.clone())))
    }

    fn holds(&self, piece: &Piece) -> bool {
        let pack = usize::try_from(piece.pack)
            .ok()
            .and_then(|it| self.packs.get(it));
        let end = piece.offset.checked_add(piece.stored_bytes);
        pack.zip(end)
            .is_some_and(|(pack, end)| end <= pack.payload_bytes)
    }
}

fn is_below(path: &str) -> bool {
    path.split('/').all(|it| !matches!(it, "" | "." | "..")) && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_would_leave_the_directory_or_the_pack() {
        assert_eq!(manifest("base/5/1259", 10).check(), Ok(()));
        for path in ["/etc/passwd", "base/../../x", "", "base//1"] {
            let unsound = Unsound::Path(path.to_owned());
            assert_eq!(manifest(path, 10).check(), Err(unsound), "{path}");
        }
        let stray = Unsound::Piece("base/5/1259".to_owned());
        assert_eq!(manifest("base/5/1259", 9).check(), Err(stray));
    }

    #[test]
    fn reads_back_as_it_was_written() {
        let manifest = manifest("base/5/1259", 10);
        let text = serde_json::to_string(&manifest).unwrap();

        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }

    #[test]
    fn only_the_names_that_are_given_out_name_a_backup() {
        assert!("20261120T201500Z-5f3a9c01".parse::<BackupId>().is_ok());
        for wrong in ["", "20261120T201500Z-5F3A9C01", "../../../../../../../../x"] {
            assert!(wrong.parse::<BackupId>().is_err(), "{wrong}");
        }
    }

    fn manifest(path: &str, payload_bytes: u64) -> Manifest {
        let id: BackupId = "20261120T201500Z-5f3a9c01".parse().unwrap();
        let piece = Piece {
            pack: 0,
            offset: 4,
            stored_bytes: 6,
            raw_bytes: 8192,
            sha256: Digest::new([7; 32]),
        };
        Manifest {
            format: FORMAT,
            summary: Summary {
                id: id.clone(),
                timeline: Timeline::FIRST,
                start_lsn: Lsn::new(1),
                stop_lsn: Lsn::new(2),
                started_at: WallTime::from_micros(1),
                stopped_at: WallTime::from_micros(2),
                raw_bytes: 8192,
                stored_bytes: 6,
            },
            label: "nightly".to_owned(),
            system_id: 1,
            server_version: 150_020,
            segment_bytes: 16 << 20,
            pages_checked: true,
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
            files: vec![File {
                path: path.to_owned(),
                pieces: vec![piece],
            }],
        }
    }
}
