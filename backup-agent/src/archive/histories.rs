//! Timeline histories in the archive.

use std::collections::BTreeSet;

use causeway_core::Timeline;
use causeway_core::backup::TimelineHistory;
use causeway_core::lsn::{Ancestor, WalFileName, parse_history};

use crate::archive::wal_archive::WalArchive;
use crate::archive::wal_header::WalFileError;
use crate::encryption::keys::Identity;
use crate::encryption::metadata::WalMetadata;
use crate::encryption::object::decrypt_object;
use crate::error::Error;
use crate::storage::object_keys::wal_file_name;

/// Maximum size of a history file, far above any real one.
const MAX_HISTORY_BYTES: u64 = 1 << 20;

impl WalArchive<'_> {
    /// Returns the timelines whose history is in a responding bucket.
    pub(crate) async fn histories(&self) -> Result<BTreeSet<Timeline>, Error> {
        let lists = self
            .buckets
            .list(&self.object_keys.history_prefix(), "")
            .await?;
        let keys = lists.iter().flat_map(|(_, keys)| keys);
        let names = keys.filter_map(|key| wal_file_name(key));
        Ok(names.map(WalFileName::timeline).collect())
    }

    /// Returns the history of the newest timeline in the archive, or of `asked`, among `known`.
    pub(crate) async fn lineage(
        &self,
        identity: &Identity,
        known: &BTreeSet<Timeline>,
        asked: Option<Timeline>,
        at_least: Timeline,
    ) -> Result<TimelineHistory, Error> {
        let newest = known
            .last()
            .map_or(at_least, |newest| at_least.max(*newest));
        let timeline = asked.unwrap_or(newest);
        // The timeline that initdb begins has no history.
        if !known.contains(&timeline) {
            return Ok(TimelineHistory::new(timeline, Vec::new()));
        }
        let name = WalFileName::History(timeline);
        let content = self.read_history(identity, timeline).await?;
        let ancestors = parse_history(&String::from_utf8_lossy(&content));
        let ancestors = ancestors.map_err(|why| Error::WalFileRejected {
            name: name.to_string(),
            why: WalFileError::NoHistory(why),
        });
        Ok(TimelineHistory::new(timeline, ancestors?))
    }

    /// Returns the timelines whose history is in any bucket. Every bucket must respond.
    pub(crate) async fn histories_of_all(&self) -> Result<BTreeSet<Timeline>, Error> {
        let prefix = self.object_keys.history_prefix();
        let mut known = BTreeSet::new();
        for bucket in self.buckets.all() {
            let listed = bucket.list_each(&prefix, "", |object| {
                known.extend(wal_file_name(&object.key).map(WalFileName::timeline));
            });
            listed.await.map_err(|last| Error::Unreachable {
                what: prefix.clone(),
                answered: 0,
                last: Box::new(last),
            })?;
        }
        Ok(known)
    }

    /// Reads the ancestors of a timeline.
    pub(crate) async fn ancestors(
        &self,
        identity: &Identity,
        timeline: Timeline,
    ) -> Result<Vec<Ancestor>, Error> {
        let content = self.read_history(identity, timeline).await?;
        let ancestors = parse_history(&String::from_utf8_lossy(&content));
        ancestors.map_err(|why| Error::WalFileRejected {
            name: WalFileName::History(timeline).to_string(),
            why: WalFileError::NoHistory(why),
        })
    }

    /// Reads the history of a timeline.
    pub(crate) async fn read_history(
        &self,
        identity: &Identity,
        timeline: Timeline,
    ) -> Result<Vec<u8>, Error> {
        let key = self.object_keys.wal_file(WalFileName::History(timeline));
        let open = |encrypted: &[u8]| {
            let opened =
                decrypt_object::<WalMetadata>(identity, &key, encrypted, MAX_HISTORY_BYTES);
            opened.map(|(_, content)| content)
        };
        self.buckets.fetch(&key, open).await
    }
}
