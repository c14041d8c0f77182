//! WAL archive of one cluster.

use std::collections::BTreeSet;

use causeway_core::lsn::{SegmentName, WalFileName};

use crate::config::Config;
use crate::error::Error;
use crate::storage::buckets::Buckets;
use crate::storage::object_keys::{ObjectKeys, wal_file_name};

#[derive(Debug)]
pub(crate) struct WalArchive<'a> {
    pub(super) config: &'a Config,
    pub(super) buckets: &'a Buckets,
    pub(super) object_keys: ObjectKeys,
    pub(super) system_id: u64,
}

impl<'a> WalArchive<'a> {
    /// Returns the archive of the cluster with this identifier.
    pub(crate) fn new(config: &'a Config, buckets: &'a Buckets, system_id: u64) -> Self {
        Self {
            config,
            buckets,
            object_keys: ObjectKeys::new(&config.cluster, system_id),
            system_id,
        }
    }

    /// Returns its object keys.
    pub(crate) fn object_keys(&self) -> &ObjectKeys {
        &self.object_keys
    }

    /// Returns, for each responding bucket, its segments of that timeline from `first` on.
    pub(crate) async fn holders(
        &self,
        first: SegmentName,
    ) -> Result<Vec<BTreeSet<SegmentName>>, Error> {
        let prefix = self.object_keys.timeline_prefix(first.timeline);
        // S3 lists the keys after a given key, without that key: the key without its last digit
        // sorts right before it.
        let mut before = self.object_keys.wal_file(WalFileName::Segment(first));
        before.pop();
        let lists = self.buckets.list(&prefix, &before).await?;
        let segments = |keys: Vec<String>| {
            let names = keys.iter().filter_map(|key| match wal_file_name(key)? {
                WalFileName::Segment(segment) if segment >= first => Some(segment),
                WalFileName::Segment(_)
                | WalFileName::Partial(_)
                | WalFileName::History(_)
                | WalFileName::BackupLabel(..) => None,
            });
            names.collect()
        };
        Ok(lists.into_iter().map(|(_, keys)| segments(keys)).collect())
    }
}
