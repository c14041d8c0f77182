//! The backups that the buckets list.

use std::collections::BTreeMap;
use std::sync::Arc;

use causeway_core::backup::manifest::lines::{ManifestLineError, ManifestLines};
use causeway_core::backup::{BackupId, BackupSummary, Manifest};
use causeway_runtime::s3::S3ErrorKind;
use causeway_runtime::telemetry::chain;
use futures_util::StreamExt as _;
use tracing::warn;

use crate::config::Config;
use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::Identity;
use crate::encryption::metadata::ManifestMetadata;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;
use crate::storage::download::{DownloadError, Downloader, SinkDemand};
use crate::storage::manifest_sink::{ManifestOutput, ManifestSink};
use crate::storage::object_keys::ObjectKeys;

/// Maximum number of manifests that are read concurrently.
const MAX_CONCURRENT_READS: usize = 16;

/// A backup, and the buckets that hold it.
#[derive(Clone, Debug)]
pub(crate) struct CatalogEntry {
    /// The part of its manifest that is readable without an identity.
    pub(crate) summary: BackupSummary,
    /// Names of the buckets.
    pub(crate) buckets: Vec<String>,
}

/// A backup whose manifest a bucket lists but does not return.
#[derive(Debug)]
pub(crate) struct UnreadableBackup {
    pub(crate) id: BackupId,
    /// Name of the bucket.
    pub(crate) bucket: String,
    /// Cause.
    pub(crate) why: Error,
}

/// All backups that the buckets list.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Backups whose manifest at least one bucket returned, oldest first.
    pub(crate) backups: Vec<CatalogEntry>,
    /// Copies whose manifest cannot be read.
    pub(crate) unreadable: Vec<UnreadableBackup>,
    /// Buckets that did not respond.
    pub(crate) silent: Vec<String>,
}

impl Catalog {
    /// Returns the catalog of these backups.
    pub(crate) fn of(mut backups: Vec<CatalogEntry>) -> Self {
        backups.sort_by(|one, other| one.summary.age_order().cmp(&other.summary.age_order()));
        Self {
            backups,
            ..Self::default()
        }
    }

    /// Returns the summaries, which are readable without an identity.
    pub(crate) fn summaries(&self) -> Vec<BackupSummary> {
        self.backups
            .iter()
            .map(|backup| backup.summary.clone())
            .collect()
    }

    /// Fails if a bucket did not respond: a backup that only this bucket holds may be newer.
    pub(crate) fn refuse_silent(mut self) -> Result<Self, Error> {
        match self.silent.pop() {
            Some(bucket) => Err(Error::SilentBucket { bucket }),
            None => Ok(self),
        }
    }

    /// Returns the cause if backups exist and none is readable.
    pub(crate) fn refuse_all_unreadable(mut self) -> Result<(), Error> {
        if !self.backups.is_empty() || self.unreadable.is_empty() {
            return Ok(());
        }
        let UnreadableBackup { id, bucket, why } = self.unreadable.swap_remove(0);
        let why = Box::new(why);
        Err(Error::UnreadableBackup { id, bucket, why })
    }

    /// Fails while a backup that no bucket returns may be the one to restore: `asked` itself or,
    /// without `asked`, one whose bucket is unreachable. A backup that is damaged in every bucket
    /// stays damaged, so it is only logged.
    pub(crate) fn refuse_unreadable(mut self, asked: Option<&BackupId>) -> Result<Self, Error> {
        let is_known = |id: &BackupId| self.backups.iter().any(|backup| backup.summary.id == *id);
        let is_in_the_way = |backup: &UnreadableBackup| match asked {
            Some(asked) => backup.id == *asked,
            None => matches!(backup.why, Error::Unreachable { .. }),
        };
        let found = self
            .unreadable
            .iter()
            .position(|backup| !is_known(&backup.id) && is_in_the_way(backup));
        // If no manifest is readable, the archive is not known to be empty.
        let found = found.or((self.backups.is_empty() && !self.unreadable.is_empty()).then_some(0));
        let Some(found) = found else {
            for backup in &self.unreadable {
                warn!(backup = %backup.id, bucket = backup.bucket, error = %chain(&backup.why), "backup unreadable");
            }
            return Ok(self);
        };
        let UnreadableBackup { id, bucket, why } = self.unreadable.swap_remove(found);
        let why = Box::new(why);
        Err(Error::UnreadableBackup { id, bucket, why })
    }
}

/// Returns the system identifier of the only PostgreSQL cluster stored under the cluster's name, or
/// `asked`.
pub(crate) async fn system_id(
    config: &Config,
    buckets: &Buckets,
    asked: Option<u64>,
) -> Result<u64, Error> {
    if let Some(asked) = asked {
        return Ok(asked);
    }
    let prefix = ObjectKeys::cluster_prefix(&config.cluster);
    let lists = buckets.folders(&prefix).await?;
    let answered = |queried: &&Bucket| {
        lists
            .iter()
            .any(|(bucket, _)| bucket.name() == queried.name())
    };
    let silent = buckets.all().iter().find(|bucket| !answered(bucket));
    let silent = silent.map(|bucket| bucket.name().to_owned());
    let names = lists.into_iter().flat_map(|(_, names)| names);
    let mut found: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(match silent {
            Some(bucket) => Error::SilentBucket { bucket },
            None => Error::Refused(format!(
                "nothing is stored for cluster `{}`",
                config.cluster
            )),
        }),
        several => Err(Error::Refused(format!(
            "{} PostgreSQL clusters are stored as `{}`: choose one with `--system-id`: {}",
            several.len(),
            config.cluster,
            several
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// Reads the summary of each backup in every bucket that responds.
pub(crate) async fn list(buckets: &Buckets, object_keys: &ObjectKeys) -> Result<Catalog, Error> {
    let lists = buckets.folders(&object_keys.backup_prefix()).await?;
    let answered = |queried: &Bucket| {
        lists
            .iter()
            .any(|(bucket, _)| bucket.name() == queried.name())
    };
    let silent = buckets.all().iter().filter(|bucket| !answered(bucket));
    let mut catalog = Catalog {
        silent: silent.map(|bucket| bucket.name().to_owned()).collect(),
        ..Catalog::default()
    };
    let manifests = lists.iter().flat_map(|(bucket, names)| {
        let ids = names
            .iter()
            .filter_map(|name| name.parse::<BackupId>().ok());
        ids.map(|id| (*bucket, id))
    });
    let mut looks = futures_util::stream::iter(manifests)
        .map(|(bucket, id)| async move {
            let found = summary(bucket, object_keys, &id).await;
            (bucket, id, found)
        })
        .buffered(MAX_CONCURRENT_READS);
    let mut entries: BTreeMap<BackupId, CatalogEntry> = BTreeMap::new();
    while let Some((bucket, id, found)) = looks.next().await {
        let bucket = bucket.name().to_owned();
        match found {
            Ok(Some(summary)) => entries
                .entry(id)
                .or_insert_with(|| CatalogEntry {
                    summary,
                    buckets: Vec::new(),
                })
                .buckets
                .push(bucket),
            // Without a manifest the backup is incomplete, and not a backup.
            Ok(None) => {}
            Err(why) => catalog
                .unreadable
                .push(UnreadableBackup { id, bucket, why }),
        }
    }
    catalog.backups = Catalog::of(entries.into_values().collect()).backups;
    Ok(catalog)
}

/// Returns the summary of a backup, or `None` if it has no manifest.
async fn summary(
    bucket: &Bucket,
    object_keys: &ObjectKeys,
    id: &BackupId,
) -> Result<Option<BackupSummary>, Error> {
    let key = object_keys.manifest(id);
    let header = match bucket.header(&key).await {
        Ok(header) => header,
        Err(error) if error.kind() == S3ErrorKind::NoSuchKey => return Ok(None),
        Err(error) if error.damage().is_some() => {
            let why = DecryptError::Content(chain(&error));
            return Err(Error::damaged(&key)(why));
        }
        // A backup that a bucket refuses to return may be sound, and the newest.
        Err(error) => {
            return Err(Error::Unreachable {
                what: key,
                answered: 0,
                last: Box::new(error),
            });
        }
    };
    let metadata = header
        .metadata::<ManifestMetadata>()
        .map_err(Error::damaged(&key))?;
    if metadata.summary.id != *id {
        let why = DecryptError::Content(format!("it belongs to backup `{}`", metadata.summary.id));
        return Err(Error::damaged(&key)(why));
    }
    let unsound = |error| Error::damaged(&key)(DecryptError::Content(chain(&error)));
    metadata.summary.segment_size().map_err(unsound)?;
    Ok(Some(metadata.summary))
}

/// Part of a manifest to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManifestDepth {
    /// The head, which precedes the lines of the files.
    Head,
    /// The head and the line of each file.
    Files,
}

/// Decrypts the manifest of a backup and returns its head. The lines of the files are checked one
/// by one and not kept; they are not read if only the head is requested.
pub(crate) async fn manifest(
    buckets: &Buckets,
    object_keys: &ObjectKeys,
    identity: &Arc<Identity>,
    summary: &BackupSummary,
    depth: ManifestDepth,
) -> Result<Manifest, Error> {
    let key = object_keys.manifest(&summary.id);
    let mut sink = ManifestSink::new(ManifestCheck {
        lines: ManifestLines::default(),
        summary,
        depth,
    });
    let downloads = Downloader::new(buckets, Arc::clone(identity), buckets.retry_timeout());
    downloads.run(&key, &mut sink).await?;
    let head = sink.output.lines.into_head();
    head.ok_or(Error::Internal("a manifest ended without its head"))
}

/// Checks a manifest while it is read.
struct ManifestCheck<'a> {
    lines: ManifestLines,
    summary: &'a BackupSummary,
    depth: ManifestDepth,
}

impl ManifestOutput for ManifestCheck<'_> {
    fn begin(&mut self) -> Result<(), Error> {
        self.lines = ManifestLines::default();
        Ok(())
    }

    fn write(&mut self, content: &[u8]) -> Result<SinkDemand, DownloadError> {
        self.lines
            .push(content)
            .map_err(|error| of_content(&error))?;
        match self.lines.head() {
            Some(head) if head.summary != *self.summary => {
                let text = "its metadata differs from its encrypted content";
                Err(DecryptError::Content(text.to_owned()).into())
            }
            Some(_) if self.depth == ManifestDepth::Head => Ok(SinkDemand::Nothing),
            Some(_) | None => Ok(SinkDemand::More),
        }
    }

    fn end(&mut self) -> Result<&Manifest, DownloadError> {
        Ok(self.lines.finish().map_err(|error| of_content(&error))?)
    }
}

fn of_content(error: &ManifestLineError) -> DecryptError {
    DecryptError::Content(chain(error))
}
