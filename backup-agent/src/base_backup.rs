//! A base backup: every file read once, compressed and sealed once, stored in every bucket.
//!
//! Readers turn files into blobs, one packer turns blobs into sealed parts, and a lane for each
//! bucket stores them. Between them are queues of a few places, so memory does not grow with the
//! database, and a bucket that fails leaves the others to go on.

mod copy;
mod data_directory;
mod file_spool;
mod lanes;
mod packer;
mod page;
mod read;
mod session;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use ha_core::backup::chain::{gaps, needed};
use ha_core::backup::manifest;
use ha_core::backup::{BackupId, Manifest, Summary};
use ha_core::lsn::SegmentSize;
use ha_runtime::shutdown::Tasks;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::base_backup::data_directory::DataDirectory;
use crate::base_backup::lanes::Lanes;
use crate::base_backup::packer::Packer;
use crate::base_backup::read::Reader;
pub(crate) use crate::base_backup::session::Session;
use crate::buckets::Buckets;
use crate::catch_up;
use crate::config::Config;
use crate::control_file;
use crate::error::Failure;
use crate::layout::Layout;
use crate::wal_archive::WalArchive;

/// How often it is looked whether the log has been archived.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The control file: read last, because it must not be older than any other file.
const CONTROL_FILE: &str = "global/pg_control";

/// What can be read of a manifest without an identity.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Clear {
    /// When, where and how large.
    pub(crate) summary: Summary,
}

/// A backup that was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Its times, positions and sizes.
    pub(crate) summary: Summary,
    /// The buckets that hold it.
    pub(crate) buckets: Vec<String>,
    /// Those that do not.
    pub(crate) left_out: Vec<String>,
}

/// Makes a backup called `label`.
pub(crate) async fn make(
    config: &Config,
    buckets: &Buckets,
    label: &str,
    tasks: &Tasks,
) -> Result<Made, Failure> {
    let mut session = Session::connect(&config.postgres, tasks).await?;
    let system_id = control_file::system_id(&config.postgres.data_directory)?;
    let server = session.describe(system_id).await?;
    let layout = Layout::new(&config.cluster, system_id);
    let id = new_id()?;

    let started = session.start(label).await?;
    info!(backup = %id, lsn = %started.lsn, "backup began");
    let directory = DataDirectory::list(&config.postgres.data_directory)?;
    let pages_since = server.checksums.then_some(started.lsn);
    let reader = Arc::new(Reader::new(
        directory.files.clone(),
        config.limits.zstd_level,
        pages_since,
    ));
    let lanes = Lanes::start(buckets.all(), buckets.required());
    let packer = Packer::new(config, &layout, &id, lanes);
    let copied = copy::copy(config, packer, Arc::clone(&reader)).await?;
    let stopped = session.stop().await?;
    if reader.newest_torn() > stopped.lsn {
        return Err(Failure::Incomplete(format!(
            "a page claims position {}, which the log has not reached: it is damaged",
            reader.newest_torn()
        )));
    }
    if stopped.timeline != started.timeline {
        return Err(Failure::Incomplete(
            "the server was promoted meanwhile; run the backup again".to_owned(),
        ));
    }

    let summary = Summary {
        id: id.clone(),
        timeline: started.timeline,
        start_lsn: started.lsn,
        stop_lsn: stopped.lsn,
        started_at: started.at,
        stopped_at: stopped.at,
        segment_bytes: server.segment_size.bytes(),
        raw_bytes: copied.files.raw_bytes(),
        stored_bytes: copied.packed.stored_bytes,
        damaged_pages: 0,
    };
    wait_for_log(config, buckets, system_id, &summary, server.segment_size).await?;
    let manifest = Manifest {
        format: manifest::FORMAT,
        summary: summary.clone(),
        label: label.to_owned(),
        system_id,
        server_version: server.version,
        pages_checked: server.checksums,
        damaged: Vec::new(),
        group_access: directory.group_access,
        backup_label: stopped.backup_label,
        tablespace_map: stopped.tablespace_map,
        tablespaces: directory.tablespaces,
        directories: directory.directories,
        packs: copied.packed.packs,
        files: copied.files.files(),
    };
    let holders = copied.packed.holders;
    let holders = file_spool::store(config, &layout, &manifest, copied.files, &holders).await?;
    let left_out = buckets
        .all()
        .iter()
        .map(|it| it.name().to_owned())
        .filter(|it| !holders.contains(it))
        .collect();
    catch_up_log(buckets, &layout).await;
    Ok(Made {
        summary,
        buckets: holders,
        left_out,
    })
}

fn new_id() -> Result<BackupId, Failure> {
    let mut drawn = [0; 4];
    rand::fill(&mut drawn).map_err(|_| Failure::Internal("no random numbers to be had"))?;
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let text = format!("{now}-{:08x}", u32::from_be_bytes(drawn));
    text.parse()
        .map_err(|_| Failure::Internal("the clock shows no year of four digits"))
}

/// Waits until every segment that the backup needs is archived: PostgreSQL's own wait believes
/// `archive_command`, and has no end.
async fn wait_for_log(
    config: &Config,
    buckets: &Buckets,
    system_id: u64,
    summary: &Summary,
    size: SegmentSize,
) -> Result<(), Failure> {
    let waited_secs = config.limits.archive_wait_secs;
    let until = Instant::now() + Duration::from_secs(waited_secs);
    let archive = WalArchive::new(config, buckets, system_id);
    let range = || needed(summary.timeline, summary.start_lsn, summary.stop_lsn, size);
    let Some(first) = range().next() else {
        return Ok(());
    };
    loop {
        let holders = archive.holders(first).await?;
        let enough = |segment: &_| {
            holders.iter().filter(|it| it.contains(segment)).count() >= buckets.required()
        };
        let held = range().filter(enough).collect();
        let missing = gaps(range(), &held);
        let Some(one) = missing.first() else {
            return Ok(());
        };
        if Instant::now() >= until {
            return Err(Failure::LogNotArchived {
                waited_secs,
                missing: format!("{} segments from `{one}` on", missing.len()),
            });
        }
        time::sleep(LOOK_EVERY).await;
    }
}

/// A backup is taken rarely and lists much: the right moment to close what notes have missed.
async fn catch_up_log(buckets: &Buckets, layout: &Layout) {
    match catch_up::compare(buckets, layout).await {
        Ok(compared) => info!(
            brought = compared.brought,
            lacking = compared.lacking,
            "the log in the buckets was compared"
        ),
        Err(error) => {
            warn!(error = %ha_runtime::telemetry::chain(&error), "the log in the buckets was not compared");
        }
    }
}
