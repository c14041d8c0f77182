//! Fetching from the archive: a WAL file, the end of the WAL, or a reason to stop.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use causeway_core::backup::SegmentShare;
use causeway_core::lsn::{SegmentName, WalFileName};
use causeway_runtime::telemetry::chain;
use tempfile::NamedTempFile;
use tracing::{info, warn};

use crate::archive::fetch_request::{FetchMode, FetchRequest};
use crate::archive::followed::truncate_at_fork;
use crate::archive::listed_segments::written_timelines;
use crate::archive::scratch_file::scratch_file;
use crate::archive::wal_archive::WalArchive;
use crate::archive::wal_header::{self, WalFileError};
use crate::encryption::keys::Identity;
use crate::encryption::payload::{DecryptFileError, DecryptedFile};
use crate::error::Error;
use crate::storage::fetch::{FetchEffort, ObjectSink, SinkError, StandbyLimits};

/// Maximum size of a segment (`initdb --wal-segsize`); all other objects are far smaller.
const MAX_WAL_FILE_BYTES: u64 = 1 << 30;

/// Limits of a standby's fetch: a promotion requests four files or so. A single failed response of
/// the only bucket that has a file must not delay it by PostgreSQL's own 5 s.
const STANDBY_LIMITS: StandbyLimits = StandbyLimits {
    retry: Duration::from_secs(1),
    avoided_answer: Duration::from_secs(1),
    first_answer: Duration::from_secs(3),
};

/// Minimum retry timeout for the history of a timeline that is known to exist.
const LISTED_HISTORY_RETRY: Duration = Duration::from_mins(1);

/// Placeholder for the history of a timeline that the lease reserved and no primary wrote: the text
/// that guard writes in its place when it promotes.
const PLACEHOLDER: &[u8] = b"# Reserved by failover-ctl: this timeline was never written.\n";

impl WalArchive<'_> {
    /// Writes a WAL file to its path atomically. A history that no bucket has, with a number below
    /// the newest listed one, was reserved and never written, and a placeholder is written.
    ///
    /// PostgreSQL searches for `latest` by requesting one number after the other, and stops at the
    /// first that is missing (`findNewestTimeLine` in `src/backend/access/transam/timeline.c`).
    /// Without the placeholder it would end recovery there, before the newest timeline, and report
    /// success.
    ///
    /// A segment is renamed to its path only after `inspect` has accepted it.
    pub(crate) async fn fetch(
        &self,
        identity: &Identity,
        request: &FetchRequest,
        inspect: impl Fn(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let share = match request.name {
            WalFileName::Segment(segment) => {
                self.followed_share(identity, request, segment).await?
            }
            WalFileName::Partial(_) | WalFileName::History(_) | WalFileName::BackupLabel(..) => {
                SegmentShare::Whole
            }
        };
        if share == SegmentShare::Nothing {
            info!(file = %request.name, "segment of an abandoned branch not fetched");
            let name = self.object_keys.wal_file(request.name);
            return Err(Error::NotArchived { name });
        }
        let missing = match self.fetch_stored(identity, request, share, inspect).await {
            Err(why @ Error::NotArchived { .. }) => why,
            // An unavailable region includes its bucket: one responding bucket suffices to show
            // that a higher number is in use, but not that none is.
            Err(why @ Error::Unreachable { answered: 1.., .. })
                if request.mode == FetchMode::Standby =>
            {
                why
            }
            // Of a timeline that recovery does not follow, only the number counts: it is in use.
            Err(why @ (Error::Damaged { .. } | Error::WalFileRejected { .. }))
                if request.only_number_counts() =>
            {
                warn!(file = %request.name, error = %chain(&why), "unreadable history replaced by a placeholder");
                return write_whole(&request.path, PLACEHOLDER);
            }
            Err(why @ (Error::Damaged { .. } | Error::WalFileRejected { .. }))
                if request.mode.is_standby() =>
            {
                return Err(self.classify_damage(request.name, why).await?);
            }
            fetched => return fetched,
        };
        match request.name {
            WalFileName::History(timeline) => {
                let known = match request.mode {
                    FetchMode::Standby => self.histories().await?,
                    FetchMode::RestoredStandby | FetchMode::Recovery => {
                        self.histories_of_all().await?
                    }
                };
                if request.mode.is_standby() && known.contains(&timeline) {
                    return self.fetch_listed_history(identity, request).await;
                }
                if known.contains(&timeline) || known.last().is_none_or(|newest| *newest < timeline)
                {
                    return Err(missing);
                }
                info!(%timeline, "history of an unwritten timeline replaced by a placeholder");
                write_whole(&request.path, PLACEHOLDER)
            }
            WalFileName::Segment(segment) if request.mode == FetchMode::Recovery => {
                self.refuse_gap(identity, request, segment).await?;
                Err(missing)
            }
            WalFileName::Segment(_) | WalFileName::Partial(_) | WalFileName::BackupLabel(..) => {
                Err(missing)
            }
        }
    }

    /// Returns the meaning, to a standby, of a file that no bucket has whole. A history without WAL
    /// of its timeline is only an object that any writer may have created.
    async fn classify_damage(&self, name: WalFileName, why: Error) -> Result<Error, Error> {
        let WalFileName::History(timeline) = name else {
            return Ok(why);
        };
        let (written, _) = written_timelines(self.buckets, &self.object_keys).await?;
        if written.contains(&timeline) {
            return Ok(why.stops_recovery());
        }
        Ok(why)
    }

    /// Fetches a listed history for a standby. PostgreSQL would treat a failure below 126 as the
    /// absence of the timeline, and replay the branch that it left.
    async fn fetch_listed_history(
        &self,
        identity: &Identity,
        request: &FetchRequest,
    ) -> Result<(), Error> {
        let key = self.object_keys.wal_file(request.name);
        let effort = FetchEffort {
            retry_timeout: request.retry_timeout.max(LISTED_HISTORY_RETRY),
            hurry: None,
        };
        let file = self.fetch_file(identity, request.name, &key, &request.path, effort);
        let file = file.await.map_err(Error::stops_recovery)?;
        put_in_place(file, &request.path)
    }

    async fn fetch_stored(
        &self,
        identity: &Identity,
        request: &FetchRequest,
        share: SegmentShare,
        inspect: impl Fn(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let key = self.object_keys.slot(request.name, request.slot);
        let effort = match request.mode {
            FetchMode::Recovery | FetchMode::RestoredStandby => FetchEffort {
                retry_timeout: request.retry_timeout,
                hurry: None,
            },
            FetchMode::Standby => FetchEffort {
                retry_timeout: request.retry_timeout.max(STANDBY_LIMITS.retry),
                hurry: Some(STANDBY_LIMITS),
            },
        };
        let file = self
            .fetch_file(identity, request.name, &key, &request.path, effort)
            .await?;
        if let WalFileName::Segment(_) = request.name {
            if let SegmentShare::UpTo(left_at) = share {
                truncate_at_fork(&file, left_at).map_err(Error::io("write", &request.path))?;
            }
            inspect(file.path())?;
        }
        put_in_place(file, &request.path)
    }

    /// Reads a segment into an unnamed file, for inspection.
    pub(crate) async fn read_segment(
        &self,
        identity: &Identity,
        segment: SegmentName,
    ) -> Result<NamedTempFile, Error> {
        let name = WalFileName::Segment(segment);
        let effort = FetchEffort {
            retry_timeout: self.buckets.retry_timeout(),
            hurry: None,
        };
        let path = std::env::temp_dir().join(name.to_string());
        let key = self.object_keys.wal_file(name);
        self.fetch_file(identity, name, &key, &path, effort).await
    }

    /// Reads a file into the directory of `path`, from where it can be renamed.
    async fn fetch_file(
        &self,
        identity: &Identity,
        name: WalFileName,
        key: &str,
        path: &Path,
        effort: FetchEffort,
    ) -> Result<NamedTempFile, Error> {
        let begin = || {
            let file = scratch_file(path);
            let opened =
                file.and_then(|file| DecryptedFile::new(identity, key, file, MAX_WAL_FILE_BYTES));
            Ok(WalSink {
                key,
                name,
                system_id: self.system_id,
                path,
                opened: opened.map_err(Error::io("write", path))?,
            })
        };
        self.buckets.fetch_into(key, effort, begin).await
    }
}

/// Sink of a WAL file that is read from one bucket.
struct WalSink<'a> {
    key: &'a str,
    name: WalFileName,
    system_id: u64,
    path: &'a Path,
    opened: DecryptedFile<'a>,
}

impl WalSink<'_> {
    fn not_opened(key: &str, path: &Path, why: DecryptFileError) -> SinkError {
        match why {
            DecryptFileError::Damaged(why) => SinkError::Object(Error::damaged(key)(why)),
            DecryptFileError::Write(error) => SinkError::Local(Error::io("write", path)(error)),
        }
    }
}

impl ObjectSink for WalSink<'_> {
    type Output = NamedTempFile;

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let written = self.opened.write(bytes);
        written.map_err(|why| Self::not_opened(self.key, self.path, why))
    }

    fn finish(self) -> Result<NamedTempFile, SinkError> {
        let file = self.opened.finish();
        let file = file.map_err(|why| Self::not_opened(self.key, self.path, why))?;
        let read = wal_header::read_start(file.path(), self.name);
        let failed = |error| SinkError::Local(Error::io("read", file.path())(error));
        let (start, bytes) = read.map_err(failed)?;
        // The encryption authenticates that the archive returns what was stored; the header check,
        // that it was right to store it. A segment at a fork begins with its ancestor's page, and
        // was checked against the history when it was pushed.
        let at_a_fork = |_| None;
        match wal_header::check(self.name, &start, bytes, self.system_id, at_a_fork) {
            Ok(()) | Err(WalFileError::OtherTimeline { .. }) => Ok(file),
            Err(why) => Err(SinkError::Object(Error::WalFileRejected {
                name: self.name.to_string(),
                why,
            })),
        }
    }
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |error| Error::io("write", path)(error);
    let mut file = scratch_file(path).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    put_in_place(file, path)
}

/// Renames a file to its path without syncing it. PostgreSQL makes it durable before it relies on
/// it (`durable_rename` in `KeepFileRestoredFromArchive`,
/// `src/backend/access/transam/xlogarchive.c`), and `pg_rewind` does before it ends; an incomplete
/// file after a crash has a name that both remove.
fn put_in_place(file: NamedTempFile, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("write", path)(error);
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
