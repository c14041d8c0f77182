//! Copying one object, and of a backup its packs first.

use crate::archive::backfill::replicate_object::{
    CopyOutcome, CopyReport, ObjectCopy, replicate_object,
};
use crate::archive::backfill::replicate_packs::replicate_packs;
use crate::encryption::keys::Identity;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;

/// The end of a manifest's key: the backup exists once it does, so its packs go first.
pub(super) const MANIFEST: &str = "/manifest";

/// Copies `key` to `target` from the first other bucket that gives it whole and sound; of a backup's
/// manifest, its packs first.
pub(super) async fn replicate(
    buckets: &Buckets,
    target: &Bucket,
    key: &str,
    identity: Option<&Identity>,
) -> CopyReport {
    let others = buckets.all().iter();
    let sources: Vec<_> = others.filter(|other| other.name() != target.name()).collect();
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
