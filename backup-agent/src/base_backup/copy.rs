//! Copying of the files: one task finds them, readers turn them into blobs, the packer stores the
//! blobs, and each complete file goes to the spool.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc as blocking};

use causeway_core::backup::manifest::{Blob, ManifestFile};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinSet;
use tracing::error;

use crate::base_backup::damage::DamageReport;
use crate::base_backup::directory_walk::{WalkResult, WalkScope, walk};
use crate::base_backup::file_spool::FileSpool;
use crate::base_backup::packer::{PackedBlobs, Packer};
use crate::base_backup::read::{FromReader, Reader, blob};
use crate::config::Config;
use crate::control_file::{CONTROL_FILE, ControlFileData};
use crate::error::Error;

/// Maximum number of files that wait to be read.
const MAX_WAITING_FILES: usize = 64;

/// Source of a copy.
pub(crate) struct CopySource {
    /// Files to walk.
    pub(crate) scope: WalkScope,
    /// Reader of the files.
    pub(crate) reader: Reader,
    /// Files of which [`CopiedFiles::taken`] reports whether they were copied.
    pub(crate) needed: BTreeSet<String>,
}

/// Result of a copy.
pub(crate) struct CopiedFiles {
    /// All files.
    pub(crate) files: FileSpool,
    /// Positions of their blobs.
    pub(crate) packed: PackedBlobs,
    /// Directories and tablespaces.
    pub(crate) walked: WalkResult,
    /// The control file, which is read last.
    pub(crate) control: ControlFileData,
    /// Damaged pages, all of them accepted.
    pub(crate) damage: DamageReport,
    /// Those of the needed files that were copied.
    pub(crate) taken: BTreeSet<String>,
}

/// Outcome of reading the files.
enum CopyProgress {
    /// All files are stored.
    Stored,
    /// Damage was found that the operator has not accepted.
    DamageFound,
}

/// Copies every file of `source`, and the control file last. Ends early when `lost` returns why the
/// backup cannot be completed any more.
pub(crate) async fn copy(
    config: &Config,
    packer: Packer<'_>,
    source: CopySource,
    lost: impl Future<Output = Error>,
) -> Result<CopiedFiles, Error> {
    let mut copying = CopyTask {
        packer: Some(packer),
        files: FileSpool::create(&config.state_directory)?,
        open: vec![Vec::new(); config.limits.parallelism],
        needed: source.needed,
        taken: BTreeSet::new(),
    };
    let reader = Arc::new(source.reader);
    let mut lost = pin!(lost);
    let copied = copying
        .copy(config, source.scope, Arc::clone(&reader), lost.as_mut())
        .await;
    let packer = copying.packer.take();
    match (copied, packer) {
        (Ok((walked, damage, control)), Some(packer)) => Ok(CopiedFiles {
            files: copying.files,
            packed: tokio::select! {
                biased;
                why = lost => return Err(why),
                stored = packer.finish() => stored?,
            },
            walked,
            control,
            damage,
            taken: copying.taken,
        }),
        (Err(error), packer) => {
            if let Some(packer) = packer {
                packer.abandon().await;
            }
            Err(error)
        }
        (Ok(_), None) => Err(Error::Internal("a backup was stored by no packer")),
    }
}

struct CopyTask<'a> {
    /// `None` once nothing more is stored.
    packer: Option<Packer<'a>>,
    files: FileSpool,
    /// Blobs of the file that each reader is at.
    open: Vec<Vec<Blob>>,
    needed: BTreeSet<String>,
    taken: BTreeSet<String>,
}

impl CopyTask<'_> {
    async fn copy(
        &mut self,
        config: &Config,
        scope: WalkScope,
        reader: Arc<Reader>,
        lost: impl Future<Output = Error>,
    ) -> Result<(WalkResult, DamageReport, ControlFileData), Error> {
        let root = scope.root.clone();
        let (plan, planned) = blocking::sync_channel(MAX_WAITING_FILES);
        let planned = Arc::new(Mutex::new(planned));
        let mut walks = JoinSet::new();
        walks.spawn_blocking(move || walk(&scope, &plan));
        let (sender, mut read) = mpsc::channel(config.limits.parallelism);
        let mut readers = JoinSet::new();
        for number in 0..config.limits.parallelism {
            let (reader, sender) = (Arc::clone(&reader), sender.clone());
            let planned = Arc::clone(&planned);
            readers.spawn_blocking(move || reader.run(number, &planned, &sender));
        }
        // The queues that only the readers hold close with them, and this ends the tasks that fill
        // them.
        drop((sender, planned));

        let stored = tokio::select! {
            biased;
            why = lost => Err(why),
            stored = self.store_all(&mut read) => stored,
        };
        if stored.is_err() {
            reader.stop();
        }
        drop(read);
        let mut done = Ok(());
        while let Some(ended) = readers.join_next().await {
            done = done.and(ended.unwrap_or(Err(Error::Internal("a reader panicked"))));
        }
        let walked = walks.join_next().await;
        let walked = walked.and_then(Result::ok);
        let walked = walked.unwrap_or(Err(Error::Internal("the walk panicked")));
        if let CopyProgress::DamageFound = stored? {
            reader.confirm_torn_pages()?;
        }
        let walked = walked?;
        done?;
        let damage = reader.confirm_torn_pages()?;
        let control = self.add_control_file(&root, &reader).await?;
        Ok((walked, damage, control))
    }

    /// Stores the readers' blobs until all files have been read.
    async fn store_all(&mut self, read: &mut Receiver<FromReader>) -> Result<CopyProgress, Error> {
        let mut progress = CopyProgress::Stored;
        while let Some(done) = read.recv().await {
            match (done, &mut self.packer) {
                (FromReader::DamageFound, packer) => {
                    error!("damaged pages found, upload stopped, verifying the other files");
                    progress = CopyProgress::DamageFound;
                    if let Some(packer) = packer.take() {
                        packer.abandon().await;
                    }
                }
                (FromReader::Blob { reader, blob }, Some(packer)) => {
                    let blob = packer.add(blob).await?;
                    let no_reader = Error::Internal("a blob belongs to no reader");
                    self.open.get_mut(reader).ok_or(no_reader)?.push(blob);
                }
                (FromReader::Finished { reader, path }, Some(_)) => {
                    let blobs = self.open.get_mut(reader).map(std::mem::take);
                    // Not a default: the file would be stored as an empty one.
                    let blobs = blobs.ok_or(Error::Internal("a file belongs to no reader"))?;
                    self.finish(ManifestFile { path, blobs })?;
                }
                (FromReader::Blob { .. } | FromReader::Finished { .. }, None) => {}
            }
        }
        Ok(progress)
    }

    fn finish(&mut self, file: ManifestFile) -> Result<(), Error> {
        self.files.add(&file)?;
        if self.needed.contains(&file.path) {
            self.taken.insert(file.path);
        }
        Ok(())
    }

    async fn add_control_file(
        &mut self,
        root: &Path,
        reader: &Reader,
    ) -> Result<ControlFileData, Error> {
        let path = root.join(CONTROL_FILE);
        let bytes = reader.read_control_file(&path).await?;
        let control = ControlFileData::parse(&bytes).ok_or_else(|| Error::DataDirectory {
            path: root.to_owned(),
            why: format!("`{CONTROL_FILE}` is not a control file"),
        })?;
        let made = reader.compressor();
        let made = made.and_then(|mut writer| blob(&mut writer, &bytes));
        let blob = made.map_err(Error::io("compress", &path))?;
        let packer = self.packer.as_mut();
        let packer = packer.ok_or(Error::Internal("a backup was stored by no packer"))?;
        let blobs = vec![packer.add(blob).await?];
        let path = CONTROL_FILE.to_owned();
        self.finish(ManifestFile { path, blobs })?;
        Ok(control)
    }
}
