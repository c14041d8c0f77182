//! A backup put back: into an empty directory, every piece compared with its checksum.
//!
//! The control file gets its name last, so that a directory which is not complete cannot be started.

mod directory;
mod fill;
mod places;
mod recovery;
mod request;
mod tablespace_guard;
mod tablespaces;

use ha_core::Timeline;
use ha_core::backup::{Summary, choose};
use tracing::info;

use crate::buckets::Buckets;
use crate::catalog::{self, Entry};
use crate::config::Config;
use crate::error::Failure;
use crate::restore::directory::Directory;
use crate::seal::Identity;
use crate::wal_archive::WalArchive;

pub(crate) use request::{Archiving, Purpose, RestoreRequest, TargetAction};
pub(crate) use tablespace_guard::TablespaceGuard;

/// What was restored.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    /// The backup.
    pub(crate) summary: Summary,
    /// How many files.
    pub(crate) files: usize,
    /// The timeline that is followed.
    pub(crate) timeline: Timeline,
}

/// Restores as `request` says. PostgreSQL is not started.
pub(crate) async fn restore(
    config: &Config,
    buckets: &Buckets,
    system_id: u64,
    request: &RestoreRequest,
) -> Result<Restored, Failure> {
    let identity = config.identity()?;
    Directory::refuse_unless_empty(&request.directory)?;
    let archive = WalArchive::new(config, buckets, system_id);
    let entries = catalog::list(buckets, archive.layout()).await?;
    let (chosen, timeline) = choose_backup(&archive, &identity, &entries, request).await?;
    info!(backup = %chosen.id, ends_at = %chosen.stop_lsn, %timeline, "restore began");

    let (manifest, files) =
        catalog::manifest(buckets, archive.layout(), &identity, &chosen.id).await?;
    let directory = Directory::prepare(request, &manifest, &files)?;
    fill::fill(
        config,
        buckets,
        archive.layout(),
        identity,
        &manifest,
        &files,
        &directory,
    )
    .await?;
    let settings = recovery::settings(config, request, timeline, manifest.server_version)?;
    directory.write_recovery(&manifest, &settings, request.purpose)?;
    directory.complete()?;
    Ok(Restored {
        summary: manifest.summary.clone(),
        files: files.len(),
        timeline,
    })
}

/// Returns the backup to begin from, and the timeline to replay towards.
async fn choose_backup(
    archive: &WalArchive<'_>,
    identity: &Identity,
    entries: &[Entry],
    request: &RestoreRequest,
) -> Result<(Summary, Timeline), Failure> {
    let backups: Vec<Summary> = entries.iter().map(|it| it.summary.clone()).collect();
    let newest = backups.iter().map(|it| it.timeline).max();
    let at_least = newest.unwrap_or(Timeline::FIRST);
    let lineage = archive
        .lineage(identity, request.timeline, at_least)
        .await?;
    let chosen = choose(&backups, &lineage, &request.target, request.backup.as_ref())?;
    Ok((chosen.clone(), lineage.timeline()))
}

/// Says whether a file is the control file, whose presence makes a directory startable.
fn is_control_file(path: &str) -> bool {
    path == "global/pg_control"
}
