//! Packer: turns blobs into encrypted parts, and sends each part to every bucket.

use bytes::Bytes;
use causeway_core::backup::BackupId;
use causeway_core::backup::manifest::{Blob, Pack};

use crate::base_backup::bucket_writers::BucketWriters;
use crate::base_backup::read::BlobRead;
use crate::config::Config;
use crate::encryption::stream::Encryptor;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::multipart_upload::PART_BYTES;
use crate::storage::object_keys::ObjectKeys;

/// Writes blobs into packs.
pub(crate) struct Packer<'a> {
    config: &'a Config,
    object_keys: &'a ObjectKeys,
    id: &'a BackupId,
    writers: BucketWriters,
    open: Option<OpenPack>,
    packs: Vec<Pack>,
    stored_bytes: u64,
}

struct OpenPack {
    encryptor: Encryptor,
    number: u32,
    payload_bytes: u64,
}

/// All packs of a backup.
pub(crate) struct PackedBlobs {
    /// The packs.
    pub(crate) packs: Vec<Pack>,
    /// Their size in one bucket, in bytes.
    pub(crate) stored_bytes: u64,
    /// Buckets that hold all of them.
    pub(crate) holders: Vec<Bucket>,
}

impl<'a> Packer<'a> {
    /// Returns a packer for the backup `id`.
    pub(crate) fn new(
        config: &'a Config,
        object_keys: &'a ObjectKeys,
        id: &'a BackupId,
        writers: BucketWriters,
    ) -> Self {
        Self {
            config,
            object_keys,
            id,
            writers,
            open: None,
            packs: Vec::new(),
            stored_bytes: 0,
        }
    }

    /// Adds a blob, and returns its position.
    pub(crate) async fn add(&mut self, read: BlobRead) -> Result<Blob, Error> {
        let stored_bytes = u64::try_from(read.frame.len()).unwrap_or(u64::MAX);
        let full = self.config.limits.pack_bytes;
        if let Some(open) = &self.open
            && open.payload_bytes.saturating_add(stored_bytes) > full
        {
            self.close().await?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin().await?,
        };
        let blob = Blob {
            pack: open.number,
            offset: open.payload_bytes,
            stored_bytes,
            raw_bytes: read.raw_bytes,
            sha256: read.sha256,
        };
        open.encryptor
            .write(&read.frame)
            .map_err(Error::io("seal", std::path::Path::new("a pack")))?;
        open.payload_bytes += stored_bytes;
        if open.encryptor.encrypted_bytes() >= PART_BYTES {
            let part = self.count_bytes(open.encryptor.take());
            self.writers.part(part).await?;
        }
        self.open = Some(open);
        Ok(blob)
    }

    async fn begin(&mut self) -> Result<OpenPack, Error> {
        let number = u32::try_from(self.packs.len())
            .map_err(|_| Error::Internal("a backup has too many packs"))?;
        let key = self.object_keys.pack(self.id, number);
        let metadata = serde_json::json!({});
        let encryptor = Encryptor::new(&self.config.recipients, &key, &metadata);
        let encryptor = encryptor.map_err(Error::io("seal", std::path::Path::new(&key)))?;
        self.writers.begin(key).await?;
        Ok(OpenPack {
            encryptor,
            number,
            payload_bytes: 0,
        })
    }

    async fn close(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let last = open
            .encryptor
            .finish()
            .map_err(Error::io("seal", std::path::Path::new("a pack")))?;
        let last = self.count_bytes(last);
        self.writers.last(last).await?;
        self.packs.push(Pack {
            backup: self.id.clone(),
            number: open.number,
            payload_bytes: open.payload_bytes,
        });
        Ok(())
    }

    fn count_bytes(&mut self, part: Vec<u8>) -> Bytes {
        self.stored_bytes += u64::try_from(part.len()).unwrap_or(0);
        Bytes::from(part)
    }

    /// Closes the last pack, and waits until every bucket has stored everything or failed.
    pub(crate) async fn finish(mut self) -> Result<PackedBlobs, Error> {
        let closed = self.close().await;
        let holders = self.writers.finish().await;
        closed?;
        Ok(PackedBlobs {
            packs: self.packs,
            stored_bytes: self.stored_bytes,
            holders: holders?,
        })
    }

    /// Abandons the backup, and waits until every writer has ended.
    pub(crate) async fn abandon(self) {
        self.writers.abandon().await;
    }
}
