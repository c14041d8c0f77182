//! Bringing to one bucket what another has. Objects are copied as they are stored: their seal is
//! bound to their key and not to a bucket, so this needs no identity.

use std::collections::BTreeSet;

use ha_runtime::telemetry::chain;
use tracing::{info, warn};

use crate::buckets::Buckets;
use crate::error::Failure;
use crate::layout::Layout;
use crate::object_store::{Bucket, Created};

/// Copies `key` to `bucket` from the first other one that has it, and forgets that it was lacking.
/// Says whether that succeeded.
pub(crate) async fn bring(buckets: &Buckets, bucket: &Bucket, key: &str) -> bool {
    for other in buckets.all() {
        if other.name() == bucket.name() || buckets.memory().is_avoided(other.name()) {
            continue;
        }
        let Ok(sealed) = other.read_verified(key).await else {
            continue;
        };
        match bucket.create(key, &sealed).await {
            // What was stored there in the meantime was compared with the file when it was.
            Ok(Created::New | Created::AlreadyThere) => {
                info!(bucket = bucket.name(), from = other.name(), %key, "gap closed");
                buckets.memory().caught_up(bucket.name(), key);
                return true;
            }
            Err(error) => {
                warn!(bucket = bucket.name(), error = %chain(&error), "gap not closed");
                return false;
            }
        }
    }
    false
}

/// What a comparison of the buckets found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// How many objects were brought.
    pub(crate) brought: usize,
    /// How many are still lacking somewhere.
    pub(crate) lacking: usize,
    /// How many buckets did not answer.
    pub(crate) silent: usize,
}

/// Compares the log in all buckets, and brings to each what it lacks.
pub(crate) async fn compare(buckets: &Buckets, layout: &Layout) -> Result<Compared, Failure> {
    let mut compared = Compared::default();
    for prefix in [layout.log(), layout.histories()] {
        let lists = buckets.list(&prefix, "").await?;
        compared.silent = buckets.all().len() - lists.len();
        let lists: Vec<(&Bucket, BTreeSet<String>)> = lists
            .into_iter()
            .map(|(bucket, keys)| (bucket, keys.into_iter().collect()))
            .collect();
        let everything: BTreeSet<&String> = lists.iter().flat_map(|(_, keys)| keys).collect();
        for (bucket, keys) in &lists {
            for key in everything.iter().filter(|it| !keys.contains(**it)) {
                if bring(buckets, bucket, key).await {
                    compared.brought += 1;
                } else {
                    compared.lacking += 1;
                }
            }
        }
    }
    Ok(compared)
}
