//! The packer: blobs in, sealed parts out, each part to every bucket.

use bytes::Bytes;
use causeway_core::backup::BackupId;
use causeway_core::backup::manifest::{Blob, Pack};

use crate::base_backup::bucket_writers::Lanes;
use crate::base_backup::read::BlobRead;
use crate::config::Config;
use crate::encryption::stream::Sealer;
use crate::error::Failure;
use crate::storage::bucket::Bucket;
use crate::storage::multipart_upload::PART_BYTES;
use crate::storage::object_keys::Layout;

/// Puts blobs into packs.
pub(crate) struct Packer<'a> {
    config: &'a Config,
    layout: &'a Layout,
    id: &'a BackupId,
    lanes: Lanes,
    open: Option<OpenPack>,
    packs: Vec<Pack>,
    stored_bytes: u64,
}

struct OpenPack {
    sealer: Sealer,
    number: u32,
    payload_bytes: u64,
}

/// What all packs together are.
pub(crate) struct Packed {
    /// Each of them.
    pub(crate) packs: Vec<Pack>,
    /// How many bytes they have in each bucket.
    pub(crate) stored_bytes: u64,
    /// The buckets that hold all of them.
    pub(crate) holders: Vec<Bucket>,
}

impl<'a> Packer<'a> {
    /// Returns a packer for the backup `id`.
    pub(crate) fn new(
        config: &'a Config,
        layout: &'a Layout,
        id: &'a BackupId,
        lanes: Lanes,
    ) -> Self {
        Self {
            config,
            layout,
            id,
            lanes,
            open: None,
            packs: Vec::new(),
            stored_bytes: 0,
        }
    }

    /// Adds a blob, and returns where it is.
    pub(crate) async fn add(&mut self, read: BlobRead) -> Result<Blob, Failure> {
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
        open.sealer
            .write(&read.frame)
            .map_err(Failure::io("seal", std::path::Path::new("a pack")))?;
        open.payload_bytes += stored_bytes;
        if open.sealer.sealed_bytes() >= PART_BYTES {
            let part = self.counted(open.sealer.take());
            self.lanes.part(part).await?;
        }
        self.open = Some(open);
        Ok(blob)
    }

    async fn begin(&mut self) -> Result<OpenPack, Failure> {
        let number = u32::try_from(self.packs.len())
            .map_err(|_| Failure::Internal("a backup has too many packs"))?;
        let key = self.layout.pack(self.id, number);
        let clear = serde_json::json!({});
        let sealer = Sealer::new(&self.config.recipients, &key, &clear);
        let sealer = sealer.map_err(Failure::io("seal", std::path::Path::new(&key)))?;
        self.lanes.begin(key).await?;
        Ok(OpenPack {
            sealer,
            number,
            payload_bytes: 0,
        })
    }

    async fn close(&mut self) -> Result<(), Failure> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let last = open
            .sealer
            .finish()
            .map_err(Failure::io("seal", std::path::Path::new("a pack")))?;
        let last = self.counted(last);
        self.lanes.last(last).await?;
        self.packs.push(Pack {
            backup: self.id.clone(),
            number: open.number,
            payload_bytes: open.payload_bytes,
        });
        Ok(())
    }

    fn counted(&mut self, part: Vec<u8>) -> Bytes {
        self.stored_bytes += u64::try_from(part.len()).unwrap_or(0);
        Bytes::from(part)
    }

    /// Closes the last pack, and waits until every bucket has stored everything or failed.
    pub(crate) async fn finish(mut self) -> Result<Packed, Failure> {
        let closed = self.close().await;
        let holders = self.lanes.finish().await;
        closed?;
        Ok(Packed {
            packs: self.packs,
            stored_bytes: self.stored_bytes,
            holders: holders?,
        })
    }

    /// Gives up, and waits until every bucket has let go of what it was storing.
    pub(crate) async fn abandon(self) {
        self.lanes.abandon().await;
    }
}
