//! Writing of packs into files: several packs at once, each read as a stream.

use std::sync::Arc;

use tokio::task::{self, JoinSet};

use crate::error::Error;
use crate::restore::directory::TargetDirectory;
use crate::restore::pack_sink::{OpenFiles, PackSink};
use crate::restore::plan::RestorePlan;
use crate::restore::restore_progress::RestoreProgress;
use crate::storage::download::Downloader;
use crate::storage::object_keys::ObjectKeys;

/// Parameters of a restore.
#[derive(Clone, Debug)]
pub(super) struct PackRestore {
    /// Source of the packs.
    pub(super) downloads: Arc<Downloader>,
    /// Target of the files.
    pub(super) directory: Arc<TargetDirectory>,
    /// Number of packs that are read at once.
    pub(super) parallelism: usize,
    /// Whether files may have content of an interrupted run.
    pub(super) is_resumed: bool,
}

impl PackRestore {
    /// Fills the files of `plan`, which exist.
    pub(super) async fn run(
        &self,
        plan: &RestorePlan,
        object_keys: &ObjectKeys,
    ) -> Result<(), Error> {
        let progress = Arc::new(RestoreProgress::new(plan.head().summary.raw_bytes));
        for run in plan.runs() {
            let batch = plan.batch(&run)?;
            let paths: Arc<[Box<str>]> = batch.paths.into();
            let tasks = batch.packs.into_iter().filter_map(|(number, places)| {
                let pack = plan.head().packs.get(number)?;
                let key = object_keys.pack(&pack.backup, pack.number);
                let files = OpenFiles::new(Arc::clone(&self.directory), Arc::clone(&paths));
                let sink = PackSink::new(files, Arc::clone(&progress), pack.payload_bytes, places);
                Some(restore_pack(self.clone(), key, sink))
            });
            self.run_all(tasks).await?;
        }
        let (done, all) = (progress.blobs(), plan.blobs());
        if done == all {
            return Ok(());
        }
        Err(Error::Internal("not every blob of a file was written"))
    }

    async fn run_all(
        &self,
        mut waiting: impl Iterator<Item = impl Future<Output = Result<(), Error>> + Send + 'static>,
    ) -> Result<(), Error> {
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.parallelism
                && let Some(task) = waiting.next()
            {
                running.spawn(task);
            }
            match running.join_next().await {
                None => return Ok(()),
                Some(Ok(done)) => done?,
                Some(Err(_)) => return Err(Error::Internal("restoring a pack panicked")),
            }
        }
    }
}

/// Restores the missing blobs of one pack.
async fn restore_pack(filling: PackRestore, key: String, mut sink: PackSink) -> Result<(), Error> {
    if filling.is_resumed {
        task::block_in_place(|| sink.keep_existing_blobs())?;
    }
    if sink.is_complete() {
        return Ok(());
    }
    filling.downloads.run(&key, &mut sink).await
}
