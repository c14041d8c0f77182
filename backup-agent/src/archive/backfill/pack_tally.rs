//! Packs of one backup in a bucket's listing, compared with their total length according to the
//! backup. The length is in the metadata of the manifest, so no identity is needed.

use causeway_core::backup::BackupSummary;

use crate::storage::bucket::Bucket;
use crate::storage::object_keys::ObjectKeys;
use crate::storage::store_error::StoreError;

/// Packs listed so far, in order of their numbers.
#[derive(Clone, Debug)]
pub(crate) struct PackTally {
    stored_bytes: u64,
    next: u32,
    bytes: u64,
    first_missing: Option<u32>,
    missing: u32,
}

impl PackTally {
    /// Returns a tally without packs, for a backup whose packs have this many bytes in total.
    pub(crate) fn new(stored_bytes: u64) -> Self {
        Self {
            stored_bytes,
            next: 0,
            bytes: 0,
            first_missing: None,
            missing: 0,
        }
    }

    /// Adds the next pack. Packs after the last one of the backup do not count.
    pub(crate) fn add(&mut self, number: u32, bytes: u64) {
        if self.is_complete() || number < self.next {
            return;
        }
        if number > self.next {
            self.first_missing.get_or_insert(self.next);
            self.missing = self.missing.saturating_add(number - self.next);
        }
        self.next = number.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Returns whether every pack is present with its length.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0 && self.bytes == self.stored_bytes
    }

    /// Returns the fault, if there is one.
    pub(crate) fn find_fault(&self) -> Option<String> {
        let Self {
            stored_bytes,
            bytes,
            missing,
            ..
        } = self;
        if self.is_complete() {
            return None;
        }
        Some(match (self.first_missing, missing) {
            (Some(first), 1) => format!("lacks pack {first:08}"),
            (Some(first), _) => format!("lacks pack {first:08} and {} more", missing - 1),
            (None, _) if bytes < stored_bytes => format!(
                "has {bytes} of {stored_bytes} bytes of packs: the last ones are missing, or one is truncated"
            ),
            (None, _) => format!("has {bytes} bytes of packs, and the backup {stored_bytes}"),
        })
    }
}

/// Returns the number of the pack stored under `key`.
pub(crate) fn pack_number(key: &str) -> Option<u32> {
    let (_, number) = key.rsplit_once("/pack/")?;
    let is_number = number.len() == 8 && number.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten()
}

/// Counts the packs of a backup that `bucket` lists.
pub(crate) async fn tally(
    bucket: &Bucket,
    object_keys: &ObjectKeys,
    summary: &BackupSummary,
) -> Result<PackTally, StoreError> {
    let mut tally = PackTally::new(summary.stored_bytes);
    let prefix = object_keys.pack_prefix(&summary.id);
    let listed = bucket.list_each(&prefix, "", |object| {
        if let Some(number) = pack_number(&object.key) {
            tally.add(number, object.size);
        }
    });
    listed.await?;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    #[test]
    fn every_pack_present_then_later_keys_ignored() {
        let tally = tally_of(30, &[(0, 10), (1, 20), (2, 5), (99_999_999, 7)]);
        assert!(tally.is_complete());
        assert_eq!(tally.find_fault(), None);
    }

    #[test]
    fn pack_missing_or_of_another_length_then_named() {
        for (packs, expected) in [
            (&[(0, 10), (2, 20)][..], "lacks pack 00000001"),
            (&[(2, 20)], "lacks pack 00000000 and 1 more"),
            (&[(0, 10)], "has 10 of 40 bytes"),
            (&[(0, 10), (1, 9), (2, 20)], "has 39 of 40 bytes"),
            (&[(0, 10), (1, 11), (2, 20)], "has 41 bytes"),
            (&[], "has 0 of 40 bytes"),
        ] {
            let tally = tally_of(40, packs);
            let fault = tally.find_fault().unwrap();
            assert!(fault.starts_with(expected), "{fault}");
            assert!(!tally.is_complete());
        }
    }

    #[test]
    fn key_of_a_pack_then_its_number() {
        let number = |key| pack_number(key);
        assert_eq!(number("main/1/backup/x/pack/00000012"), Some(12));
        assert_eq!(number("main/1/backup/x/pack/12"), None);
        assert_eq!(number("main/1/backup/x/pack/+0000012"), None);
        assert_eq!(number("main/1/backup/x/manifest"), None);
    }

    proptest! {
        #[test]
        fn damaged_pack_key_then_no_panic(key in damaged_text("main/1/backup/x/pack/00000012")) {
            if let Some(number) = pack_number(&key) {
                prop_assert!(key.ends_with(&format!("/pack/{number:08}")), "{key}: {number}");
            }
        }
    }

    fn tally_of(stored_bytes: u64, packs: &[(u32, u64)]) -> PackTally {
        let mut tally = PackTally::new(stored_bytes);
        for (number, bytes) in packs {
            tally.add(*number, *bytes);
        }
        tally
    }
}
