//! Base backups: each file is read, compressed and encrypted once, and stored in every bucket.
//!
//! Readers turn files into blobs, one packer turns blobs into encrypted parts, and one writer per
//! bucket stores them. The queues between them are bounded, so memory does not grow with the
//! database, and a failing bucket does not stop the others.

pub(crate) mod archive_progress;
pub(crate) mod bounded_client;
pub(crate) mod bucket_writers;
pub(crate) mod copy;
pub(crate) mod damage;
pub(crate) mod directory_walk;
pub(crate) mod file_names;
pub(crate) mod file_spool;
pub(crate) mod needed_files;
pub(crate) mod packer;
pub(crate) mod page;
pub(crate) mod read;
pub(crate) mod server_directory;
pub(crate) mod session;
pub(crate) mod timeline;
pub(crate) mod wal_wait;

use std::path::Path;

use aws_lc_rs::rand;
use causeway_core::backup::manifest::{self, DamagedFile};
use causeway_core::backup::{BackupId, BackupSummary, Manifest};
use causeway_runtime::shutdown::Tasks;
use jiff::Timestamp;
use tracing::info;

use crate::archive::backfill::background::{compare_in_background, start_in_background};
use crate::base_backup::bucket_writers::BucketWriters;
use crate::base_backup::copy::{CopiedFiles, CopySource, copy};
use crate::base_backup::directory_walk::WalkScope;
use crate::base_backup::needed_files::NeededFiles;
use crate::base_backup::packer::Packer;
use crate::base_backup::read::Reader;
use crate::base_backup::session::{Checkpoint, Session};
use crate::base_backup::session::{ServerInfo, StartedBackup, StoppedBackup};
use crate::config::Config;
use crate::control_file::ControlFileData;
use crate::error::Error;
use crate::storage::bucket_health::StoredKind;
use crate::storage::buckets::Buckets;
use crate::storage::object_keys::ObjectKeys;

/// Request for a backup.
#[derive(Clone, Debug)]
pub(crate) struct BackupRequest {
    /// Label of the backup.
    pub(crate) label: String,
    /// Kind of the checkpoint that begins it.
    pub(crate) checkpoint: Checkpoint,
    /// Files that are stored although pages in them are damaged.
    pub(crate) accepted: Vec<String>,
}

/// Completed backup.
#[derive(Debug)]
pub(crate) struct CompletedBackup {
    /// Times, WAL positions and sizes.
    pub(crate) summary: BackupSummary,
    /// Whether page checksums were verified.
    pub(crate) pages_checked: bool,
    /// Damaged files in it.
    pub(crate) damaged: Vec<DamagedFile>,
    /// Files whose damage was accepted and that have none.
    pub(crate) undamaged: Vec<String>,
    /// Buckets that hold it.
    pub(crate) buckets: Vec<String>,
    /// Buckets that do not.
    pub(crate) left_out: Vec<String>,
}

/// Backup in progress.
struct RunningBackup<'a> {
    config: &'a Config,
    buckets: &'a Buckets,
    session: &'a Session,
    object_keys: ObjectKeys,
    system_id: u64,
    id: BackupId,
    server: ServerInfo,
    started: StartedBackup,
}

/// Makes a backup.
pub(crate) async fn make(
    config: &Config,
    buckets: &Buckets,
    request: &BackupRequest,
    tasks: &Tasks,
) -> Result<CompletedBackup, Error> {
    let directory = &config.postgres.data_directory;
    let session = Session::connect(&config.postgres.server, config.limits.server, tasks).await?;
    session.verify_directory(directory).await?;
    let system_id = ControlFileData::read(directory)?.system_id;
    let server = session.describe().await?;
    let started = session.start(&server, &request.label, request.checkpoint);
    let backup = RunningBackup {
        config,
        buckets,
        session: &session,
        object_keys: ObjectKeys::new(&config.cluster, system_id),
        system_id,
        id: new_id()?,
        started: started.await?,
        server,
    };
    info!(backup = %backup.id, lsn = %backup.started.lsn, "backup began");
    let control = ControlFileData::read(directory)?;
    session
        .verify_started(directory, &control, &backup.started)
        .await?;

    let needed = session.needed(&backup.server).await?;
    let copied = backup.copy(request, &needed).await?;
    let needed = needed.intersection(&session.needed(&backup.server).await?);
    needed.check(directory, &copied.taken, &copied.walked)?;
    session
        .verify_started(directory, &copied.control, &backup.started)
        .await?;
    let stopped = session.stop(&backup.server).await?;
    wal_wait::end_segment(config, &backup.server, tasks).await;
    backup.store(request, copied, stopped).await
}

fn new_id() -> Result<BackupId, Error> {
    let mut suffix = [0; 4];
    rand::fill(&mut suffix).map_err(|_| Error::Internal("the random number generator failed"))?;
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let text = format!("{now}-{:08x}", u32::from_be_bytes(suffix));
    text.parse()
        .map_err(|_| Error::Internal("the clock shows no year of four digits"))
}

impl RunningBackup<'_> {
    async fn copy(
        &self,
        request: &BackupRequest,
        needed: &NeededFiles,
    ) -> Result<CopiedFiles, Error> {
        let Self {
            config,
            buckets,
            server,
            ..
        } = self;
        let source = CopySource {
            scope: self.walk_scope().await?,
            reader: Reader::new(
                config.limits.zstd_level,
                server.checksums.then_some(self.started.lsn),
                request.accepted.iter().cloned().collect(),
            ),
            needed: needed.files.clone(),
        };
        let writers = BucketWriters::start(buckets.all(), buckets.required());
        let packer = Packer::new(config, &self.object_keys, &self.id, writers);
        copy(config, packer, source, self.session.lost(server)).await
    }

    async fn walk_scope(&self) -> Result<WalkScope, Error> {
        let setting = async |name| {
            let value = self.session.visible_setting(name).await;
            value.map_err(Error::Postgres)
        };
        let data_directory = setting("data_directory").await?;
        let below = |path: String| {
            let path = Path::new(&path);
            if path.is_relative() {
                return path.to_str().map(ToOwned::to_owned);
            }
            let below = path.strip_prefix(data_directory.as_ref()?).ok()?;
            below.to_str().map(ToOwned::to_owned)
        };
        // PostgreSQL 14 and older have this setting.
        let statistics = setting("stats_temp_directory").await?.and_then(below);
        Ok(WalkScope {
            root: self.config.postgres.data_directory.clone(),
            version_directory: self.server.version_directory(),
            emptied: statistics.into_iter().collect(),
            log_directory: setting("log_directory").await?.and_then(below),
        })
    }

    /// Stores the manifest once the WAL is in the archive. The manifest completes the backup.
    async fn store(
        &self,
        request: &BackupRequest,
        copied: CopiedFiles,
        stopped: StoppedBackup,
    ) -> Result<CompletedBackup, Error> {
        let damaged = copied.damage.files();
        let summary = BackupSummary {
            id: self.id.clone(),
            timeline: stopped.timeline,
            start_lsn: self.started.lsn,
            stop_lsn: stopped.lsn,
            started_at: self.started.at,
            stopped_at: stopped.at,
            segment_bytes: self.server.segment_size.bytes(),
            raw_bytes: copied.files.raw_bytes(),
            stored_bytes: copied.packed.stored_bytes,
            damaged_pages: copied.damage.pages(),
        };
        wal_wait::wait(
            self.config,
            self.buckets,
            self.system_id,
            &summary,
            (&self.server, self.session),
        )
        .await?;
        let manifest = Manifest {
            format: manifest::FORMAT,
            summary: summary.clone(),
            label: request.label.clone(),
            system_id: self.system_id,
            server_version: self.server.version,
            pages_checked: self.server.checksums,
            damaged: damaged.clone(),
            group_access: copied.walked.group_access,
            backup_label: stopped.backup_label,
            tablespace_map: stopped.tablespace_map,
            tablespaces: copied.walked.tablespaces,
            directories: copied.walked.directories,
            packs: copied.packed.packs,
            files: copied.files.files(),
        };
        let holders = copied.packed.holders;
        let stored = file_spool::store(
            self.config,
            &self.object_keys,
            &manifest,
            copied.files,
            &holders,
        );
        let holders = stored.await?;
        let names = self
            .buckets
            .all()
            .iter()
            .map(|bucket| bucket.name().to_owned());
        let left_out = names.filter(|name| !holders.contains(name)).collect();
        self.record_stored(&summary.id, &holders);
        let is_sound = |path: &&String| !damaged.iter().any(|file| file.path == **path);
        Ok(CompletedBackup {
            summary,
            pages_checked: self.server.checksums,
            undamaged: request.accepted.iter().filter(is_sound).cloned().collect(),
            damaged,
            buckets: holders,
            left_out,
        })
    }

    /// Records which buckets have the backup, and starts a backfill of the others. A full
    /// comparison of the buckets runs here as well, because backups are rare: it finds what the
    /// records have missed.
    fn record_stored(&self, id: &BackupId, holders: &[String]) {
        for bucket in self.buckets.all() {
            let health = self.buckets.health();
            if holders.iter().any(|holder| holder == bucket.name()) {
                health.stored(bucket.name(), StoredKind::BaseBackup);
            } else {
                health.record_missing(bucket.name(), &self.object_keys.manifest(id));
            }
        }
        start_in_background(self.config, self.buckets);
        compare_in_background(self.config, self.buckets, self.system_id);
    }
}
