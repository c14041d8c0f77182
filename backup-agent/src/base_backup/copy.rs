//! The copying of the files: readers turn files into blobs, the packer stores them, and each file
//! that is complete goes to the spool.

use std::sync::Arc;

use ha_core::backup::manifest::{Blob, File};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::base_backup::CONTROL_FILE;
use crate::base_backup::file_spool::FileSpool;
use crate::base_backup::packer::{Packed, Packer};
use crate::base_backup::read::{FromReader, Reader};
use crate::config::Config;
use crate::error::Failure;

/// What the copying gave.
pub(crate) struct Copied {
    /// Every file.
    pub(crate) files: FileSpool,
    /// Where their blobs are.
    pub(crate) packed: Packed,
}

/// Copies everything that `reader` reads, and the control file last.
pub(crate) async fn copy(
    config: &Config,
    mut packer: Packer<'_>,
    reader: Arc<Reader>,
) -> Result<Copied, Failure> {
    let mut files = FileSpool::create(&config.state_directory)?;
    let done = match copy_files(config, &mut packer, &mut files, &reader).await {
        Ok(()) => copy_control_file(config, &mut packer, &mut files, &reader).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        packer.abandon().await;
        return Err(error);
    }
    Ok(Copied {
        files,
        packed: packer.finish().await?,
    })
}

async fn copy_files(
    config: &Config,
    packer: &mut Packer<'_>,
    files: &mut FileSpool,
    reader: &Arc<Reader>,
) -> Result<(), Failure> {
    let (sender, mut read) = mpsc::channel(config.limits.parallelism);
    let mut readers = JoinSet::new();
    for number in 0..config.limits.parallelism {
        let (reader, sender) = (Arc::clone(reader), sender.clone());
        readers.spawn_blocking(move || reader.run(number, &sender));
    }
    drop(sender);
    // The file that each reader is at.
    let mut open = vec![Vec::new(); config.limits.parallelism];
    let mut added = Ok(());
    while let Some(read) = read.recv().await {
        added = add(packer, files, &mut open, read).await;
        if added.is_err() {
            break;
        }
    }
    // Readers that wait for room in the queue end when it is closed.
    drop(read);
    let mut ended = Ok(());
    while let Some(reader) = readers.join_next().await {
        let reader = reader.unwrap_or(Err(Failure::Internal("a reader panicked")));
        ended = ended.and(reader);
    }
    added.and(ended).and_then(|()| reader.verdict())
}

async fn add(
    packer: &mut Packer<'_>,
    files: &mut FileSpool,
    open: &mut [Vec<Blob>],
    read: FromReader,
) -> Result<(), Failure> {
    let no_reader = Failure::Internal("a blob belongs to no reader");
    match read {
        FromReader::Blob { reader, blob } => {
            let open = open.get_mut(reader).ok_or(no_reader)?;
            open.push(packer.add(blob).await?);
            Ok(())
        }
        FromReader::Finished { reader, path } => {
            let open = open.get_mut(reader).ok_or(no_reader)?;
            let blobs = std::mem::take(open);
            files.add(&File { path, blobs })
        }
    }
}

async fn copy_control_file(
    config: &Config,
    packer: &mut Packer<'_>,
    files: &mut FileSpool,
    reader: &Reader,
) -> Result<(), Failure> {
    let path = config.postgres.data_directory.join(CONTROL_FILE);
    let blob = reader.read_control_file(&path).await?;
    files.add(&File {
        path: CONTROL_FILE.to_owned(),
        blobs: vec![packer.add(blob).await?],
    })
}
