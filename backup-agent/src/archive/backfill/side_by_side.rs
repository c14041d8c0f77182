//! Merged listing of several buckets below one prefix, with a page of each in memory.

use causeway_runtime::s3::ListedObject;

use crate::storage::bucket::Bucket;
use crate::storage::listing::Listing;
use crate::storage::store_error::StoreError;

/// One bucket's listing, and its current object.
struct Cursor {
    listing: Listing,
    current: Option<ListedObject>,
}

/// Listings of several buckets.
pub(super) struct SideBySide {
    cursors: Vec<Cursor>,
}

/// Key, and the length of its object in each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedKey {
    pub(super) key: String,
    /// Lengths in the order of the buckets; `None` without an object.
    pub(super) bytes: Vec<Option<u64>>,
}

impl SideBySide {
    /// Starts listing below `prefix` in each of `buckets`.
    pub(super) async fn open<'a>(
        buckets: impl IntoIterator<Item = &'a Bucket>,
        prefix: &str,
    ) -> Result<Self, StoreError> {
        let mut cursors = Vec::new();
        for bucket in buckets {
            let mut listing = bucket.listing(prefix, "");
            let current = listing.next().await?;
            cursors.push(Cursor { listing, current });
        }
        Ok(Self { cursors })
    }

    /// Returns the next key that any of them lists, in order.
    pub(super) async fn next(&mut self) -> Result<Option<ListedKey>, StoreError> {
        let listed = self.cursors.iter();
        let keys = listed.filter_map(|cursor| Some(&cursor.current.as_ref()?.key));
        let Some(key) = keys.min().cloned() else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(self.cursors.len());
        for cursor in &mut self.cursors {
            let object = cursor.current.take_if(|object| object.key == key);
            if object.is_some() {
                cursor.current = cursor.listing.next().await?;
            }
            bytes.push(object.map(|object| object.size));
        }
        Ok(Some(ListedKey { key, bytes }))
    }
}
