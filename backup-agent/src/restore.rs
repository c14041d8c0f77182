//! Restore of a backup into an empty directory, or into one in which a restore was interrupted.
//! Every part is compared with its checksum.
//!
//! The control file gets its name last, so PostgreSQL cannot be started in an incomplete directory.

pub(crate) mod choice;
pub(crate) mod directory;
pub(crate) mod fill;
pub(crate) mod marker;
pub(crate) mod other_branches;
pub(crate) mod own_conf;
mod pack_sink;
pub(crate) mod plan;
pub(crate) mod recovery;
pub(crate) mod request;
mod restore_progress;
pub(crate) mod tablespace_guard;
pub(crate) mod tablespaces;
mod target_check;
pub(crate) mod target_directories;
mod wal_link;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use causeway_core::Timeline;
use causeway_core::backup::{BackupSummary, RecoveryTarget, TimelineHistory};
use causeway_runtime::telemetry::chain;
use tracing::{info, warn};

use crate::archive::listed_segments::written_timelines;
use crate::archive::reach;
use crate::archive::reach::KnownReach;
use crate::archive::wal_archive::WalArchive;
use crate::config::Config;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::output;
use crate::restore::directory::TargetDirectory;
use crate::restore::fill::PackRestore;
use crate::restore::marker::{LockedMarker, Marker};
use crate::restore::plan::RestorePlan;
use crate::restore::recovery::Destination;
use crate::restore::tablespaces::PlacedTablespace;
use crate::storage::buckets::Buckets;
use crate::storage::catalog;
use crate::storage::catalog::Catalog;
use crate::storage::download::Downloader;

use crate::restore::request::{Purpose, RestoreRequest};

/// Result of a restore.
#[derive(Clone, Debug)]
pub(crate) struct RestoredBackup {
    /// The restored backup.
    pub(crate) summary: BackupSummary,
    /// Number of files.
    pub(crate) files: u64,
    /// Timeline that recovery follows.
    pub(crate) timeline: Timeline,
    /// Notes for the operator, to read before the server is started.
    pub(crate) notes: Vec<String>,
    /// Reach of the archived WAL.
    pub(crate) reach: KnownReach,
}

/// Restores a backup as requested. PostgreSQL is not started.
pub(crate) async fn restore(
    config: &Config,
    buckets: &Buckets,
    system_id: u64,
    request: &RestoreRequest,
) -> Result<RestoredBackup, Error> {
    let identity = Arc::new(config.identity()?);
    let begun = Marker::find(&request.directory)?;
    let archive = WalArchive::new(config, buckets, system_id);
    let catalog = catalog::list(buckets, archive.object_keys()).await?;
    let catalog = catalog.refuse_silent()?;
    let request = &resumed(request, begun.as_ref(), system_id)?;
    let catalog = catalog.refuse_unreadable(request.backup.as_ref())?;
    let (chosen, lineage) = choose_backup(&archive, buckets, &identity, &catalog, request)
        .await
        .map_err(|why| explain_resumed(why, request, begun.as_ref()))?;
    let timeline = lineage.timeline();
    let reach = reach::read_reach(&archive, buckets, &identity, &lineage, &chosen).await?;
    output::print_progress(&format!("backup {}: {reach}", chosen.id));
    if request.purpose != Purpose::Standby {
        target_check::refuse_unreachable(
            &reach,
            &request.target,
            request.boundary,
            request.timeline,
        )?;
        if request.target == RecoveryTarget::Latest && request.timeline.is_some() {
            other_branches::refuse_partial_end(&archive, &identity, &lineage, &reach).await?;
        }
    }
    let is_resumed = begun.is_some();
    info!(backup = %chosen.id, ends_at = %chosen.stop_lsn, %timeline, is_resumed, "restore began");

    let downloads = Downloader::new(buckets, identity, request.retry_timeout);
    let object_keys = archive.object_keys();
    let directory = &request.directory;
    let plan =
        RestorePlan::fetch(&downloads, object_keys, system_id, &chosen.id, directory).await?;
    let (lock, directory) = prepare(request, &plan, begun)?;
    let filling = PackRestore {
        downloads: Arc::new(downloads),
        directory: Arc::new(directory),
        parallelism: config.limits.parallelism,
        is_resumed: lock.is_resumed,
    };
    filling.run(&plan, object_keys).await?;

    let (head, directory) = (plan.head(), filling.directory);
    let destination = Destination {
        timeline,
        known_end: reach.segments.last,
    };
    let settings = recovery::settings(config, request, destination, head.server_version)?;
    directory.write_recovery(head, &settings, request.purpose)?;
    let notes = own_conf::set_data_directory(&request.directory)?;
    directory.complete()?;
    Ok(RestoredBackup {
        summary: head.summary.clone(),
        files: head.files,
        timeline,
        notes,
        reach,
    })
}

/// Returns whether `directory` has an interrupted restore that can be resumed.
pub(crate) fn is_interrupted(directory: &Path) -> bool {
    Marker::find(directory).is_ok_and(|marker| marker.is_some())
}

/// Returns the request with the backup and tablespaces of the interrupted restore.
fn resumed(
    request: &RestoreRequest,
    begun: Option<&Marker>,
    system_id: u64,
) -> Result<RestoreRequest, Error> {
    let mut request = request.clone();
    let Some(begun) = begun else {
        return Ok(request);
    };
    let asked = request.backup.get_or_insert_with(|| begun.backup.clone());
    if *asked == begun.backup && begun.system_id == system_id {
        begun.check_wal_directory(&request.directory)?;
        return Ok(request);
    }
    Err(Error::Refused(format!(
        "`{}` holds an interrupted restore of backup {} of cluster {}: remove the directory to begin \
         with another one",
        request.directory.display(),
        begun.backup,
        begun.system_id
    )))
}

fn explain_resumed(why: Error, request: &RestoreRequest, begun: Option<&Marker>) -> Error {
    match (begun, why) {
        (Some(begun), Error::NoBackup { why, .. }) => Error::Refused(format!(
            "`{}` holds an interrupted restore of backup {}, from which the target is not reached \
             ({why}): remove the directory to begin with another one",
            request.directory.display(),
            begun.backup
        )),
        (_, why) => why,
    }
}

/// Returns the backup to start from, and the timeline to replay towards.
async fn choose_backup(
    archive: &WalArchive<'_>,
    buckets: &Buckets,
    identity: &Identity,
    catalog: &Catalog,
    request: &RestoreRequest,
) -> Result<(BackupSummary, TimelineHistory), Error> {
    let backups = catalog.summaries();
    let newest = backups.iter().map(|backup| backup.timeline).max();
    let at_least = newest.unwrap_or(Timeline::FIRST);
    let lineage = match request.timeline {
        Some(_) => {
            let known = archive.histories().await?;
            let asked = request.timeline;
            archive.lineage(identity, &known, asked, at_least).await?
        }
        None => newest_lineage(archive, buckets, identity, at_least).await?,
    };
    let chosen = choice::choose_in_time(archive, identity, &lineage, backups, request).await?;
    Ok((chosen, lineage))
}

/// Returns the history of the newest timeline. A timeline that has WAL and no history is an error:
/// its history is lost, for example to a lifecycle rule by age, and recovery would end at the fork
/// without an error. A timeline whose history cannot be read and that has no WAL is ignored:
/// otherwise any principal with write access could block every restore with one object.
async fn newest_lineage(
    archive: &WalArchive<'_>,
    buckets: &Buckets,
    identity: &Identity,
    at_least: Timeline,
) -> Result<TimelineHistory, Error> {
    let (written, mut silent) = written_timelines(buckets, archive.object_keys()).await?;
    if let Some(bucket) = silent.pop() {
        return Err(Error::SilentBucket { bucket });
    }
    let mut known = archive.histories_of_all().await?;
    let lineage = loop {
        let lineage = archive.lineage(identity, &known, None, at_least).await;
        match (lineage, known.last().copied()) {
            (Err(why @ (Error::Damaged { .. } | Error::WalFileRejected { .. })), Some(newest))
                if newest > at_least && !written.contains(&newest) =>
            {
                warn!(timeline = %newest, error = %chain(&why), "timeline without WAL ignored, its history is unreadable");
                known.remove(&newest);
            }
            (lineage, _) => break lineage?,
        }
    };
    match written.last() {
        Some(timeline) if *timeline > lineage.timeline() => Err(Error::NoHistory {
            timeline: *timeline,
        }),
        Some(_) | None => Ok(lineage),
    }
}

/// Creates every directory and file of the backup, after all checks that can refuse the restore.
fn prepare(
    request: &RestoreRequest,
    plan: &RestorePlan,
    begun: Option<Marker>,
) -> Result<(LockedMarker, TargetDirectory), Error> {
    let head = plan.head();
    let placed = tablespaces::place_tablespaces(request, head)?;
    let directories: Vec<(String, PathBuf)> = placed
        .iter()
        .map(|tablespace: &PlacedTablespace| {
            (tablespace.link.clone(), tablespace.directory.clone())
        })
        .collect();
    let marker = match begun {
        Some(begun) if begun.tablespaces == directories => begun,
        Some(_) => {
            return Err(Error::Refused(format!(
                "`{}` holds an interrupted restore that puts tablespaces elsewhere: pass the same \
                 mappings, or remove it and their directories",
                request.directory.display()
            )));
        }
        None => {
            let (id, wal) = (&head.summary.id, wal_link::target(&request.directory)?);
            Marker::new(head.system_id, id.clone(), directories, wal)
        }
    };
    for tablespace in &placed {
        marker.check_claim(&tablespace.directory)?;
    }
    let directory = TargetDirectory::new(&request.directory, head, placed);
    directory.create_root()?;
    let lock = marker.lock_directory(&request.directory)?;
    directory.make_all(head, &lock.marker)?;
    if lock.is_resumed {
        directory.remove_others(plan)?;
    }
    plan.each_file(|file| directory.make_file(&file))?;
    Ok((lock, directory))
}
