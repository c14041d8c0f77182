//! Copying of one object, and of a backup's packs before its manifest.

use crate::archive::backfill::replicate_object::{
    CopyOutcome, CopyReport, ObjectCopy, replicate_object,
};
use crate::archive::backfill::replicate_packs::replicate_packs;
use crate::encryption::keys::Identity;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;

/// Suffix of a manifest's key. The manifest completes a backup, so its packs are copied first.
pub(super) const MANIFEST: &str = "/manifest";

/// Copies `key` to `target` from the first other bucket that has a complete and valid copy; if it
/// is a manifest, its packs first.
pub(super) async fn replicate(
    buckets: &Buckets,
    target: &Bucket,
    key: &str,
    identity: Option<&Identity>,
) -> CopyReport {
    let others = buckets.all().iter();
    let sources: Vec<_> = others
        .filter(|other| other.name() != target.name())
        .collect();
    let copy = ObjectCopy {
        key,
        target,
        sources: &sources,
        bytes: None,
    };
    let mut packs = 0;
    if let Some(backup) = key.strip_suffix(MANIFEST) {
        let copied = replicate_packs(&copy, &format!("{backup}/pack/"), identity).await;
        packs = copied.packs;
        if copied.outcome != CopyOutcome::AlreadyThere {
            return copied;
        }
    }
    let outcome = replicate_object(&copy, identity).await;
    CopyReport { outcome, packs }
}
