//! State that a short command leaves for the next one: which buckets were recently unavailable,
//! which objects each one lacks and since when, and when each last stored an object.
//!
//! Losing this state loses no data: `wal backfill` compares the buckets themselves.

pub(crate) mod observations;
mod state_file;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_core::lsn::SegmentName;
use causeway_runtime::clock;
use jiff::Timestamp;
use tracing::{debug, error, warn};

use crate::config::Config;
use crate::metrics;
use crate::storage::bucket_health::state_file::{lock, write_whole};
use crate::storage::health_report::{BucketRecord, HealthReport};

/// Kind of a missing object. WAL is copied without waiting for a backup, whose copy takes hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotedKind {
    /// A segment or a history file.
    Wal,
    /// A backup, identified by its manifest.
    Backup,
}

impl NotedKind {
    fn of(note: &str) -> Self {
        if note.ends_with("+manifest") {
            Self::Backup
        } else {
            Self::Wal
        }
    }
}

/// Time for which an unavailable bucket is skipped by commands that can do without it. Each probe
/// of an unavailable bucket costs up to a second, so a burst of segments is slowed by a fifteenth.
const AVOIDANCE_PERIOD: Duration = Duration::from_secs(15);

/// Kind of object that a bucket has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredKind {
    Wal,
    /// A base backup, with its manifest.
    BaseBackup,
}

/// The records in the state directory.
#[derive(Clone, Debug)]
pub(crate) struct BucketHealth {
    directory: PathBuf,
    metrics: Option<PathBuf>,
    buckets: Vec<RecordedBucket>,
}

/// Bucket of the settings.
#[derive(Clone, Debug)]
pub(crate) struct RecordedBucket {
    pub(crate) name: String,
    pub(crate) region: String,
}

impl BucketHealth {
    /// Returns the records of `buckets` in `directory`, which are also written as metrics to
    /// `metrics`. The directory is created with the first record.
    pub(crate) fn new(
        directory: &Path,
        metrics: Option<&Path>,
        buckets: Vec<RecordedBucket>,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            metrics: metrics.map(ToOwned::to_owned),
            buckets,
        }
    }

    /// Returns the records of the settings' buckets.
    pub(crate) fn of(config: &Config) -> Self {
        let buckets = config.buckets.iter().map(|bucket| RecordedBucket {
            name: bucket.name.clone(),
            region: bucket.service.region.clone(),
        });
        let metrics = config.metrics_textfile.as_deref();
        Self::new(&config.state_directory, metrics, buckets.collect())
    }

    /// Returns whether the bucket was recently unavailable.
    pub(crate) fn is_avoided(&self, bucket: &str) -> bool {
        let Ok(note) = fs::read_to_string(self.no_response_file(bucket)) else {
            return false;
        };
        let Some((boot, millis)) = note.trim().split_once(' ') else {
            return false;
        };
        let noted_at = millis.parse().map(Duration::from_millis);
        let now = clock::now().boottime();
        clock::boot_id().is_ok_and(|id| id == boot)
            && noted_at.is_ok_and(|noted_at| noted_at <= now && now < noted_at + AVOIDANCE_PERIOD)
    }

    /// Records that the bucket did not respond.
    pub(crate) fn record_no_response(&self, bucket: &str) {
        let Ok(boot) = clock::boot_id() else {
            return;
        };
        let note = format!("{boot} {}\n", clock::now().boottime().as_millis());
        self.write(&self.no_response_file(bucket), &note);
    }

    /// Records that the bucket responded.
    pub(crate) fn record_response(&self, bucket: &str) {
        let _was_avoided = remove(&self.no_response_file(bucket));
    }

    /// Records that the bucket lacks `key`.
    pub(crate) fn record_missing(&self, bucket: &str, key: &str) {
        let path = self.lacking(bucket).join(file_name(key));
        let made = fs::create_dir_all(self.lacking(bucket)).and_then(|()| File::create_new(path));
        match made {
            Ok(_) => self.record(bucket, |record| {
                record.lacking_files += 1;
                record.lacking_since.get_or_insert_with(now);
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                error!(bucket, key, %error, "missing object not recorded; run `wal backfill`");
            }
        }
    }

    /// Records that the bucket lacks `key`, unless the state directory has been removed: then the
    /// comparison that found this ran for an archive that no longer exists.
    pub(crate) fn record_missing_if_kept(&self, bucket: &str, key: &str) {
        if self.directory.is_dir() {
            self.record_missing(bucket, key);
        }
    }

    /// Returns whether `key` is recorded as missing in the bucket.
    pub(crate) fn is_noted(&self, bucket: &str, key: &str) -> bool {
        self.lacking(bucket).join(file_name(key)).exists()
    }

    /// Returns whether any object is recorded as missing in the bucket.
    pub(crate) fn has_missing(&self, bucket: &str) -> bool {
        match fs::read_dir(self.lacking(bucket)) {
            Ok(mut notes) => notes.next().is_some(),
            Err(error) => !is_absent(&error),
        }
    }

    /// Returns whether any WAL is recorded as missing in the bucket.
    pub(crate) fn has_missing_wal(&self, bucket: &str) -> bool {
        !self
            .notes(bucket, NotedKind::Wal, 1, &BTreeSet::new())
            .is_empty()
    }

    /// Returns up to about `most` recorded keys of a kind that the bucket lacks, sorted and without
    /// those in `except`.
    pub(crate) fn notes(
        &self,
        bucket: &str,
        kind: NotedKind,
        most: usize,
        except: &BTreeSet<String>,
    ) -> Vec<String> {
        let entries = match fs::read_dir(self.lacking(bucket)) {
            Ok(entries) => entries,
            Err(error) => {
                if !is_absent(&error) {
                    warn!(bucket, %error, "records of missing objects not read");
                }
                return Vec::new();
            }
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names = names.filter(|name| NotedKind::of(name) == kind);
        let keys = names.map(|name| name.replace('+', "/"));
        let mut keys: Vec<String> = keys
            .filter(|key| !except.contains(key))
            .take(most)
            .collect();
        keys.sort();
        keys
    }

    /// Removes the record that the bucket lacks `key`.
    pub(crate) fn filled(&self, bucket: &str, key: &str) {
        // A comparison also copies objects that were not recorded as missing.
        let was_noted = remove(&self.lacking(bucket).join(file_name(key)));
        let is_last = !self.has_missing(bucket);
        self.record(bucket, |record| {
            record.lacking_files = record.lacking_files.saturating_sub(u64::from(was_noted));
            if is_last {
                record.lacking_files = 0;
                record.lacking_since = None;
            }
        });
    }

    /// Records that the bucket stored an object of this kind now.
    pub(crate) fn stored(&self, bucket: &str, kind: StoredKind) {
        self.record(bucket, |record| match kind {
            StoredKind::Wal => {
                record.last_wal_stored_at = Some(now());
                (record.has_conflict, record.is_foreign) = (false, false);
            }
            StoredKind::BaseBackup => record.last_base_stored_at = Some(now()),
        });
    }

    /// Records that a segment is in no bucket and not on this host.
    pub(crate) fn add_gap(&self, segment: SegmentName) {
        self.update(|report| report.known_gaps.insert(segment.to_string()));
    }

    /// Removes a found segment from the known gaps.
    pub(crate) fn close_gap(&self, segment: &str) {
        self.update(|report| report.known_gaps.remove(segment));
    }

    /// Returns the records, or empty ones if they cannot be read.
    pub(crate) fn report(&self) -> HealthReport {
        self.try_report().unwrap_or_else(|error| {
            warn!(path = %self.report_path().display(), %error, "bucket state not read");
            self.complete(HealthReport::default())
        })
    }

    /// Reads the report. Not a default after a read error: the next update would erase the known
    /// gaps.
    fn try_report(&self) -> io::Result<HealthReport> {
        let path = self.report_path();
        let report = match fs::read(&path) {
            // A crash can leave the file empty; `wal backfill` rebuilds its content.
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                warn!(path = %path.display(), %error, "bucket state unreadable, reset");
                HealthReport::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HealthReport::default(),
            Err(error) => return Err(error),
        };
        Ok(self.complete(report))
    }

    /// Returns the report with one entry for each configured bucket, and no other.
    fn complete(&self, mut report: HealthReport) -> HealthReport {
        let is_named = |name: &String| self.buckets.iter().any(|bucket| bucket.name == *name);
        report.buckets.retain(|name, _| is_named(name));
        for bucket in &self.buckets {
            report.buckets.entry(bucket.name.clone()).or_default();
        }
        report
    }

    /// Checks that the state directory is writable.
    pub(crate) fn check(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        tempfile::tempfile_in(&self.directory).map(drop)
    }

    /// Returns the lock file of the background backfill.
    pub(crate) fn backfill_lock(&self) -> PathBuf {
        self.directory.join("backfill.lock")
    }

    /// Returns whether a background backfill is running.
    pub(crate) fn is_backfill_running(&self) -> bool {
        File::open(self.backfill_lock()).is_ok_and(|file| file.try_lock_shared().is_err())
    }

    fn record(&self, bucket: &str, change: impl FnOnce(&mut BucketRecord)) {
        self.update(|report| change(report.buckets.entry(bucket.to_owned()).or_default()));
    }

    fn update<T>(&self, change: impl FnOnce(&mut HealthReport) -> T) {
        if let Err(error) = self.try_update(change) {
            warn!(path = %self.report_path().display(), %error, "bucket state not written");
        }
    }

    fn try_update<T>(&self, change: impl FnOnce(&mut HealthReport) -> T) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let _lock = lock(&self.directory.join("health.lock"))?;
        let before = self.try_report()?;
        let mut report = before.clone();
        change(&mut report);
        let is_changed = report != before;
        if is_changed {
            write_whole(&self.report_path(), &serde_json::to_vec_pretty(&report)?)?;
        }
        match &self.metrics {
            Some(path) if is_changed || !path.exists() => {
                write_whole(path, metrics::text(&report, &self.buckets)?.as_bytes())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn report_path(&self) -> PathBuf {
        self.directory.join("health.json")
    }

    fn no_response_file(&self, bucket: &str) -> PathBuf {
        self.directory.join("down").join(bucket)
    }

    fn lacking(&self, bucket: &str) -> PathBuf {
        self.directory.join("lacking").join(bucket)
    }

    fn write(&self, path: &Path, text: &str) {
        let directory = path.parent().unwrap_or(&self.directory);
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(path, text));
        if let Err(error) = written {
            warn!(path = %path.display(), %error, "bucket record not written");
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Returns the file name for a key. Keys contain no `+`, and a file name cannot contain `/`.
fn file_name(key: &str) -> String {
    key.replace('/', "+")
}

/// Removes a file and returns whether it existed.
fn remove(path: &Path) -> bool {
    match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            debug!(path = %path.display(), %error, "bucket record not removed");
            false
        }
    }
}

#[cfg(test)]
mod tests;
