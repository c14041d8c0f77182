//! A base backup: every file read once, compressed and sealed once, stored in every bucket.
//!
//! Readers turn files into pieces, one packer turns pieces into sealed parts, and a lane for each
//! bucket stores them. Between them are queues of a few places, so memory does not grow with the
//! database, and a bucket that fails leaves the others to go on.

mod data_directory;
mod lanes;
mod packer;
mod page;
mod read;
mod session;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use ha_core::Lsn;
use ha_core::backup::chain::{gaps, needed};
use ha_core::backup::manifest::{self, File};
use ha_core::backup::{BackupId, Manifest, Summary};
use ha_core::lsn::SegmentSize;
use ha_runtime::shutdown::Tasks;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::base_backup::data_directory::DataDirectory;
use crate::base_backup::lanes::Lanes;
use crate::base_backup::packer::Packer;
use crate::base_backup::read::{PieceRead, Reader};
pub(crate) use crate::base_backup::session::Session;
use crate::buckets::Buckets;
use crate::catch_up;
use crate::config::Config;
use crate::control_file;
use crate::error::Failure;
use crate::layout::Layout;
use crate::object_store::{Bucket, PATIENT, Upload};
use crate::seal::{self, Fingerprint};
use crate::wal_archive::WalArchive;

/// How often it is looked whether the log has been archived.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The control file: read last, because it must not be older than any other file.
const CONTROL_FILE: &str = "global/pg_control";

/// What can be read of a manifest without an identity.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Clear {
    /// Tells a second write of the same manifest from one of another.
    pub(crate) fingerprint: Fingerprint,
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

/// What the copying of the files gave.
struct Copied {
    manifest_files: Vec<File>,
    packs: Vec<manifest::Pack>,
    stored_bytes: u64,
    holders: Vec<Bucket>,
    newest_torn: Lsn,
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
    let copied = copy(config, buckets, &layout, &id, &directory, reader).await?;
    let stopped = session.stop().await?;
    if copied.newest_torn > stopped.lsn {
        return Err(Failure::Incomplete(format!(
            "a page claims position {}, which the log has not reached: it is damaged",
            copied.newest_torn
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
        raw_bytes: copied.manifest_files.iter().map(File::bytes).sum(),
        stored_bytes: copied.stored_bytes,
    };
    wait_for_log(config, buckets, system_id, &summary, server.segment_size).await?;
    let manifest = Manifest {
        format: manifest::FORMAT,
        summary: summary.clone(),
        label: label.to_owned(),
        system_id,
        server_version: server.version,
        segment_bytes: server.segment_size.bytes(),
        pages_checked: server.checksums,
        group_access: directory.group_access,
        backup_label: stopped.backup_label,
        tablespace_map: stopped.tablespace_map,
        tablespaces: directory.tablespaces,
        directories: directory.directories,
        packs: copied.packs,
        files: copied.manifest_files,
    };
    let holders = store_manifest(config, buckets, &layout, &manifest, copied.holders).await?;
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

async fn copy(
    config: &Config,
    buckets: &Buckets,
    layout: &Layout,
    id: &BackupId,
    directory: &DataDirectory,
    reader: Arc<Reader>,
) -> Result<Copied, Failure> {
    let (sender, mut pieces) = mpsc::channel(config.limits.parallelism);
    let mut readers = JoinSet::new();
    for _ in 0..config.limits.parallelism {
        let (reader, sender) = (Arc::clone(&reader), sender.clone());
        readers.spawn_blocking(move || reader.run(&sender));
    }
    drop(sender);

    let lanes = Lanes::start(buckets.all(), buckets.required());
    let mut packer = Packer::new(config, layout, id, lanes);
    let mut files: Vec<File> = directory
        .files
        .iter()
        .map(|it| File {
            path: it.path.clone(),
            pieces: Vec::new(),
        })
        .collect();
    let mut added = Ok(());
    while let Some(piece) = pieces.recv().await {
        added = add(&mut packer, &mut files, piece).await;
        if added.is_err() {
            break;
        }
    }
    // Readers that wait for room in the queue end when nobody takes from it any more.
    drop(pieces);
    let mut read = Ok(());
    while let Some(ended) = readers.join_next().await {
        let ended = ended.unwrap_or(Err(Failure::Internal("a reader panicked")));
        read = read.and(ended);
    }
    let done = match added.and(read).and_then(|()| reader.verdict()) {
        Ok(()) => add_control_file(config, &reader, &mut packer, &mut files).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        packer.abandon().await;
        return Err(error);
    }

    let vanished = reader.vanished();
    let mut manifest_files: Vec<File> = files
        .into_iter()
        .filter(|it| !vanished.contains(&it.path))
        .collect();
    manifest_files.sort_by(|a, b| a.path.cmp(&b.path));
    let stored = packer.finish().await?;
    Ok(Copied {
        manifest_files,
        packs: stored.packs,
        stored_bytes: stored.stored_bytes,
        holders: stored.holders,
        newest_torn: reader.newest_torn(),
    })
}

async fn add(packer: &mut Packer<'_>, files: &mut [File], read: PieceRead) -> Result<(), Failure> {
    let file = files
        .get_mut(read.file)
        .ok_or(Failure::Internal("a piece belongs to no file"))?;
    file.pieces.push(packer.add(read).await?);
    Ok(())
}

async fn add_control_file(
    config: &Config,
    reader: &Reader,
    packer: &mut Packer<'_>,
    files: &mut Vec<File>,
) -> Result<(), Failure> {
    let path = config.postgres.data_directory.join(CONTROL_FILE);
    let piece = reader.read_control_file(&path, files.len()).await?;
    files.push(File {
        path: CONTROL_FILE.to_owned(),
        pieces: vec![packer.add(piece).await?],
    });
    Ok(())
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

/// Stores the manifest in the buckets that hold every pack: from then on the backup exists.
async fn store_manifest(
    config: &Config,
    buckets: &Buckets,
    layout: &Layout,
    manifest: &Manifest,
    holders: Vec<Bucket>,
) -> Result<Vec<String>, Failure> {
    let key = layout.manifest(&manifest.summary.id);
    let failed = |it| Failure::io("seal", std::path::Path::new(&key))(it);
    let content = serde_json::to_vec(manifest).map_err(|it| failed(it.into()))?;
    let clear = Clear {
        fingerprint: Fingerprint::of(&key, &content).map_err(failed)?,
        summary: manifest.summary.clone(),
    };
    let level = config.limits.zstd_level;
    let sealed = seal::seal(&config.recipients, &key, &clear, &content, level);
    let sealed = Bytes::from(sealed.map_err(failed)?);
    let mut stored = Vec::new();
    let mut last = None;
    for bucket in holders {
        let upload = Upload::new(bucket.clone(), key.clone(), PATIENT);
        match upload.finish(sealed.clone()).await {
            Ok(_) => stored.push(bucket.name().to_owned()),
            Err(error) => last = Some(Box::new(error)),
        }
    }
    if stored.len() < buckets.required() {
        return Err(Failure::TooFewBuckets {
            what: key,
            stored: stored.len(),
            required: buckets.required(),
            last,
        });
    }
    Ok(stored)
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
