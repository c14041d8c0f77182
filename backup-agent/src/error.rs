//! Errors of a command, with exit code and hint.

mod hints;

use std::io;
use std::path::{Path, PathBuf};

use causeway_core::Timeline;
use causeway_core::backup::manifest::lines::ManifestLineError;
use causeway_core::backup::{BackupChoiceError, BackupId};

use crate::archive::wal_header::WalFileError;
use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::KeyError;
use crate::exit_code::BackupExitCode;
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
    #[error("no backup reaches the target{}", .earliest.as_deref().unwrap_or(""))]
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

    /// Returns whether a bucket did not respond, or refused to: what it has is unknown.
    pub(crate) fn is_silence(&self) -> bool {
        if let Self::RecoveryStopped(why) = self {
            return why.is_silence();
        }
        matches!(self, Self::Unreachable { .. } | Self::SilentBucket { .. })
    }

    /// Returns the exit code, which is part of the command's interface: a number is never reused.
    ///
    /// All except [`Error::RecoveryStopped`] are below 126.
    pub(crate) fn exit_code(&self) -> u8 {
        let code = match self {
            Self::NotArchived { .. } => BackupExitCode::NotArchived,
            Self::Settings(_) => BackupExitCode::Settings,
            Self::Identity(_) => BackupExitCode::Identity,
            Self::DataDirectory { .. } | Self::OtherDirectory { .. } => {
                BackupExitCode::DataDirectory
            }
            Self::Postgres(_) => BackupExitCode::Postgres,
            Self::TooFewBuckets { .. } | Self::Unreachable { .. } | Self::SilentBucket { .. } => {
                BackupExitCode::TooFewBuckets
            }
            Self::Conflict { .. } => BackupExitCode::Conflict,
            Self::WalFileRejected { .. } => BackupExitCode::WalFileRejected,
            Self::Damaged { .. } | Self::Manifest(_) => BackupExitCode::Damaged,
            Self::PageChecksums { .. } => BackupExitCode::PageChecksums,
            Self::WalNotArchived { .. } | Self::Incomplete(_) => BackupExitCode::Incomplete,
            Self::NoBackup { .. } | Self::BeyondReach { .. } | Self::NoHistory { .. } => {
                BackupExitCode::TargetUnreachable
            }
            Self::UnreadableBackup { why, .. } => return why.exit_code(),
            Self::NotEmpty { .. } | Self::Restored { .. } => BackupExitCode::NotEmpty,
            Self::ChecksFailed { .. } => BackupExitCode::ChecksFailed,
            Self::Exists { .. } => BackupExitCode::Exists,
            Self::Refused(_) | Self::NothingStored { .. } => BackupExitCode::Rejected,
            Self::OlderWalGap(_) => BackupExitCode::OlderWalGap,
            Self::WalGap { .. } | Self::WalLost { .. } => BackupExitCode::WalGap,
            Self::Lacking(_) => BackupExitCode::Lacking,
            Self::Io { .. } => BackupExitCode::Io,
            Self::Internal(_) => BackupExitCode::Internal,
            Self::RecoveryStopped(_) => BackupExitCode::RecoveryStopped,
        };
        code as u8
    }

    /// Returns the remedy, if there is one.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RecoveryStopped(why) => why.hint(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free disk space, and run the same command again")
            }
            Self::Identity(_) => Some(hints::IDENTITY),
            Self::TooFewBuckets { .. } => Some(hints::TOO_FEW_BUCKETS),
            Self::Unreachable { .. } => Some(hints::UNREACHABLE),
            Self::Conflict { .. } => Some(hints::CONFLICT),
            Self::WalLost { .. } => Some(hints::WAL_LOST),
            Self::WalGap { .. } => Some(hints::WAL_GAP),
            Self::Lacking(_) => Some(hints::LACKING),
            Self::WalFileRejected { .. } => Some(hints::WAL_FILE_REJECTED),
            Self::Damaged { .. } => Some(hints::DAMAGED),
            Self::BeyondReach { .. } => Some(hints::BEYOND_REACH),
            Self::NoHistory { .. } => Some(hints::NO_HISTORY),
            Self::NothingStored { .. } => Some(hints::NOTHING_STORED),
            Self::SilentBucket { .. } => Some(hints::SILENT_BUCKET),
            Self::UnreadableBackup { .. } => Some(hints::UNREADABLE_BACKUP),
            Self::PageChecksums { .. } => Some(hints::PAGE_CHECKSUMS),
            Self::WalNotArchived { .. } => Some(hints::WAL_NOT_ARCHIVED),
            Self::OtherDirectory { .. } => Some(hints::OTHER_DIRECTORY),
            Self::OlderWalGap(_) => Some(hints::OLDER_WAL_GAP),
            Self::Restored { .. } => Some(hints::RESTORED),
            Self::NotEmpty { .. } => Some(hints::NOT_EMPTY),
            Self::Exists { .. } => Some(hints::EXISTS),
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
