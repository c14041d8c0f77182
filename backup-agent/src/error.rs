//! Errors of a command, with exit code and hint.

use std::io;
use std::path::{Path, PathBuf};

use causeway_core::Timeline;
use causeway_core::backup::manifest::lines::ManifestLineError;
use causeway_core::backup::{BackupChoiceError, BackupId};

use crate::archive::wal_header::WalFileError;
use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::KeyError;
use crate::storage::store_error::StoreError;

/// Error of a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    #[error("`{name}` is not in the archive")]
    NotArchived { name: String },
    #[error("the settings are invalid")]
    Settings(#[from] crate::config::error::BackupConfigError),
    #[error("the identity that decrypts the archive is unusable")]
    Identity(#[from] KeyError),
    #[error("`{}` is not a usable data directory: {why}", path.display())]
    DataDirectory { path: PathBuf, why: String },
    #[error("`{}` is not the data directory of this server: {why}", path.display())]
    OtherDirectory { path: PathBuf, why: String },
    #[error("the connection to PostgreSQL or a statement failed")]
    Postgres(#[source] anyhow::Error),
    #[error("{what} is in {stored} of {required} required buckets")]
    TooFewBuckets {
        what: String,
        stored: usize,
        required: usize,
        #[source]
        last: Option<Box<StoreError>>,
    },
    #[error("`{what}` was found in no bucket, and only {answered} responded")]
    Unreachable {
        what: String,
        answered: usize,
        #[source]
        last: Box<StoreError>,
    },
    #[error(
        "`{name}` was lost from every bucket: the restore found the WAL complete to `{known_end}`"
    )]
    WalLost { name: String, known_end: String },
    #[error("the WAL has a gap: `{name}` is in no bucket, and {later} is")]
    WalGap { name: String, later: String },
    #[error("buckets lack objects that others have: {0}")]
    Lacking(String),
    #[error("bucket `{bucket}` already has `{key}` with other content")]
    Conflict { bucket: String, key: String },
    #[error("`{name}` was not archived")]
    WalFileRejected {
        name: String,
        #[source]
        why: WalFileError,
    },
    #[error("`{key}` cannot be decrypted")]
    Damaged {
        key: String,
        #[source]
        why: DecryptError,
    },
    #[error("{pages} pages do not match their checksum:{report}")]
    PageChecksums { pages: u64, report: String },
    #[error("the WAL that the backup needs was not archived within {waited_secs} s: {missing}")]
    WalNotArchived { waited_secs: u64, missing: String },
    #[error("the backup was not completed: {0}")]
    Incomplete(String),
    #[error("no backup reaches the target{}", .earliest.as_deref().unwrap_or_default())]
    NoBackup {
        #[source]
        why: BackupChoiceError,
        earliest: Option<String>,
    },
    #[error("{why} ({reach})")]
    BeyondReach { why: String, reach: String },
    #[error("timeline {timeline} has WAL in the archive, but its history is in no bucket")]
    NoHistory { timeline: Timeline },
    #[error("no bucket has an object below `{prefix}`: another cluster's archive, or none")]
    NothingStored { prefix: String },
    #[error("bucket `{bucket}` does not respond, and may have objects that no other bucket has")]
    SilentBucket { bucket: String },
    #[error("backup `{id}` in bucket `{bucket}` cannot be read")]
    UnreadableBackup {
        id: BackupId,
        bucket: String,
        #[source]
        why: Box<Error>,
    },
    #[error("the manifest is invalid")]
    Manifest(#[from] ManifestLineError),
    #[error("`{}` is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error("`{}` has a complete restore that was not started", path.display())]
    Restored { path: PathBuf },
    #[error("the backup is stored, but the WAL after older ones has a gap: {0}")]
    OlderWalGap(String),
    #[error("{failed} of {all} checks failed")]
    ChecksFailed { failed: usize, all: usize },
    #[error("`{}` exists and is not overwritten", path.display())]
    Exists { path: PathBuf },
    #[error("{0}")]
    Refused(String),
    #[error("could not {doing} `{}`", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{0}")]
    Internal(&'static str),
    #[error(transparent)]
    RecoveryStopped(Box<Error>),
}

impl Error {
    /// Converts the error of a `restore_command` that may end recovery only at the end of the WAL:
    /// PostgreSQL stops at a code above 125, and can be started again.
    pub(crate) fn stops_recovery(self) -> Self {
        if matches!(self, Self::NotArchived { .. } | Self::RecoveryStopped(_)) {
            return self;
        }
        Self::RecoveryStopped(Box::new(self))
    }

    /// Returns the exit code, which is part of the command's interface: a number is never reused.
    ///
    /// 0 is success, 1 means that a file is in no bucket, 2 is a wrong command line. All except
    /// [`Error::RecoveryStopped`] are below 126.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotArchived { .. } => 1,
            Self::Settings(_) => 10,
            Self::Identity(_) => 11,
            Self::DataDirectory { .. } | Self::OtherDirectory { .. } => 12,
            Self::Postgres(_) => 13,
            Self::TooFewBuckets { .. } | Self::Unreachable { .. } | Self::SilentBucket { .. } => 14,
            Self::Conflict { .. } => 15,
            Self::WalFileRejected { .. } => 16,
            Self::Damaged { .. } | Self::Manifest(_) => 17,
            Self::PageChecksums { .. } => 18,
            Self::WalNotArchived { .. } | Self::Incomplete(_) => 19,
            Self::NoBackup { .. } | Self::BeyondReach { .. } | Self::NoHistory { .. } => 20,
            Self::UnreadableBackup { why, .. } => why.exit_code(),
            Self::NotEmpty { .. } | Self::Restored { .. } => 21,
            Self::ChecksFailed { .. } => 22,
            Self::Exists { .. } => 23,
            Self::Refused(_) | Self::NothingStored { .. } => 24,
            Self::OlderWalGap(_) => 25,
            Self::WalGap { .. } | Self::WalLost { .. } => 26,
            Self::Lacking(_) => 27,
            Self::Io { .. } => 30,
            Self::Internal(_) => 31,
            Self::RecoveryStopped(_) => 255,
        }
    }

    /// Returns the remedy, if there is one.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RecoveryStopped(why) => why.hint(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free disk space, and run the same command again")
            }
            Self::Identity(_) => Some(
                "set `identity-file` to the file that `backup-agent keygen` wrote; hosts that only write need none",
            ),
            Self::TooFewBuckets { .. } => {
                Some("nothing was acknowledged: run the same command again")
            }
            Self::Unreachable { .. } => {
                Some("run `backup-agent check` to see which bucket responds")
            }
            Self::Conflict { .. } => Some(
                "another server, or a copy restored with `archive_mode` on, archives under this name and system identifier: stop one, or give it another `cluster`; nothing was overwritten",
            ),
            Self::WalLost { .. } => Some(
                "restore the object in a bucket or push the segment again, and start PostgreSQL again; without `--known-end` in `restore_command` recovery ends there",
            ),
            Self::WalGap { .. } => Some(
                "recover to a target before the gap, or restore a backup from after it; `backup-agent list` shows both",
            ),
            Self::Lacking(_) => Some(
                "run `backup-agent check` to see which bucket responds, then the same command again; of two different objects under one key, remove the wrong one first",
            ),
            Self::WalFileRejected { .. } => {
                Some("PostgreSQL recycles WAL files; nothing was stored under this name")
            }
            Self::Damaged { .. } => Some(
                "the object was altered after it was stored, or belongs under another key; try the other bucket with `--from`, or an older backup with `--backup`, which `backup-agent list` shows",
            ),
            Self::BeyondReach { .. } => Some(
                "choose an earlier target, or none to replay all WAL; a gap is closed by `backup-agent wal backfill` (with `--all` if the bucket never had it) if another bucket has the segment, and by `wal push` from a node's `pg_wal`",
            ),
            Self::NoHistory { .. } => Some(
                "archive the history again from a node's `pg_wal` (`backup-agent wal push`), or follow another timeline with `--target-timeline`",
            ),
            Self::NothingStored { .. } => Some(
                "set `cluster` and `[[buckets]]` as when the backup was taken, and start PostgreSQL again: recovery resumes",
            ),
            Self::SilentBucket { .. } => {
                Some("try again, or read only from another bucket with `--from`")
            }
            Self::UnreadableBackup { .. } => Some(
                "try again, or name the backup to restore with `--backup`; `backup-agent list` shows them",
            ),
            Self::PageChecksums { .. } => Some(
                "the server's storage is damaged: keep older backups; `--accept-damaged FILE`, once for each, stores them as they are",
            ),
            Self::WalNotArchived { .. } => Some(
                "check `pg_stat_archiver` and `archive_command`, and run the backup again: this one does not count",
            ),
            Self::OtherDirectory { .. } => Some(
                "set `data-directory` to the files of the server in `[postgres]`; nothing was stored",
            ),
            Self::OlderWalGap(_) => Some(
                "a restore from an older backup ends before the gap; keep the new one, and see `backup-agent list`",
            ),
            Self::Restored { .. } => Some(
                "start PostgreSQL on it as it is, or remove it to restore again; only the removal of its mark, `backup-agent.restore`, was interrupted",
            ),
            Self::NotEmpty { .. } => Some("restore into a directory that does not exist yet"),
            Self::Exists { .. } => {
                Some("choose another name: objects encrypted for a lost identity stay unreadable")
            }
            Self::NotArchived { .. }
            | Self::Settings(_)
            | Self::DataDirectory { .. }
            | Self::Postgres(_)
            | Self::Incomplete(_)
            | Self::NoBackup { .. }
            | Self::Manifest(_)
            | Self::ChecksFailed { .. }
            | Self::Refused(_)
            | Self::Io { .. }
            | Self::Internal(_) => None,
        }
    }

    /// Returns a function that adds the operation and the path to an I/O error.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    /// Returns a function that adds the object's key to a decryption error.
    pub(crate) fn damaged(key: &str) -> impl FnOnce(DecryptError) -> Self {
        let key = key.to_owned();
        move |why| Self::Damaged { key, why }
    }
}

impl From<BackupChoiceError> for Error {
    fn from(why: BackupChoiceError) -> Self {
        let earliest = match &why {
            BackupChoiceError::AllTooLate { time, .. }
            | BackupChoiceError::TooLate { time, .. } => Some(format!(
                " (possible from {})",
                crate::display::timestamp(*time)
            )),
            BackupChoiceError::None
            | BackupChoiceError::OtherHistory
            | BackupChoiceError::Ambiguous { .. }
            | BackupChoiceError::Unknown(_)
            | BackupChoiceError::NotOnTheWay { .. } => None,
        };
        Self::NoBackup { why, earliest }
    }
}
