//! A backup put back: into an empty directory, every piece compared with its checksum.
//!
//! The control file gets its name last, so that a directory which is not complete cannot be started.

mod directory;
mod fill;
mod recovery;

use std::path::PathBuf;

use ha_core::Timeline;
use ha_core::backup::{BackupId, Summary, Target, choose};
use tracing::info;

use crate::buckets::Buckets;
use crate::catalog::{self, Entry};
use crate::config::Config;
use crate::error::Failure;
use crate::restore::directory::Directory;
use crate::seal::Identity;
use crate::wal_archive::WalArchive;

pub(crate) use recovery::{Action, Archiving, Purpose};

/// What is to be restored, how far, and to where.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The directory, which must be empty or not there.
    pub(crate) directory: PathBuf,
    /// How far to replay.
    pub(crate) target: Target,
    /// The backup to begin from, if it is not to be chosen.
    pub(crate) backup: Option<BackupId>,
    /// The timeline to follow, if it is not the newest.
    pub(crate) timeline: Option<Timeline>,
    /// What the restored server is for.
    pub(crate) purpose: Purpose,
    /// Whether it archives its own log.
    pub(crate) archiving: Archiving,
    /// The bucket or region that alone is read.
    pub(crate) from: Option<String>,
    /// For each tablespace that is not to be where it was, where it is to be.
    pub(crate) tablespaces: Vec<(PathBuf, PathBuf)>,
}

/// What was restored.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    /// The backup.
    pub(crate) summary: Summary,
    /// How many files.
    pub(crate) files: usize,
}

/// Restores as `order` says. PostgreSQL is not started.
pub(crate) async fn restore(
    config: &Config,
    buckets: &Buckets,
    system_id: u64,
    order: &Order,
) -> Result<Restored, Failure> {
    let identity = config.identity()?;
    Directory::refuse_unless_empty(&order.directory)?;
    let archive = WalArchive::new(config, buckets, system_id);
    let entries = catalog::list(buckets, archive.layout()).await?;
    let (chosen, timeline) = choose_backup(&archive, &identity, &entries, order).await?;
    info!(backup = %chosen.id, ends_at = %chosen.stop_lsn, %timeline, "restore began");

    let (manifest, files) =
        catalog::manifest(buckets, archive.layout(), &identity, &chosen.id).await?;
    let directory = Directory::prepare(order, &manifest, &files)?;
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
    let settings = recovery::settings(config, order, timeline)?;
    directory.write_recovery(&manifest, &settings, order.purpose)?;
    directory.complete()?;
    Ok(Restored {
        summary: manifest.summary.clone(),
        files: files.len(),
    })
}

/// Returns the backup to begin from, and the timeline to replay towards.
async fn choose_backup(
    archive: &WalArchive<'_>,
    identity: &Identity,
    entries: &[Entry],
    order: &Order,
) -> Result<(Summary, Timeline), Failure> {
    let backups: Vec<Summary> = entries.iter().map(|it| it.summary.clone()).collect();
    let newest = backups.iter().map(|it| it.timeline).max();
    let at_least = newest.unwrap_or(Timeline::FIRST);
    let lineage = archive.lineage(identity, order.timeline, at_least).await?;
    let chosen = choose(&backups, &lineage, &order.target, order.backup.as_ref())?;
    Ok((chosen.clone(), lineage.timeline()))
}

/// Says whether a file is the control file, whose presence makes a directory startable.
fn is_control_file(path: &str) -> bool {
    path == "global/pg_control"
}
