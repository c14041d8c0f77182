//! Copying one object from one bucket to another, looked at on the way.

use bytes::{Bytes, BytesMut};
use ha_runtime::telemetry::chain;
use tracing::{info, warn};

use crate::buckets::Buckets;
use crate::object_store::{
    Bucket, Created, ErrorKind, ObjectBody, PART_BYTES, PATIENT, StoreError, Upload,
};
use crate::seal::{Damaged, Identity, Opener, Structure};

/// The end of a manifest's key: the backup exists once it does, so its packs go first.
const MANIFEST: &str = "/manifest";

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replicated {
    /// The object is new in the bucket.
    Copied,
    /// It was there.
    AlreadyThere,
    /// No bucket has it.
    Nowhere,
    /// It could not be read whole and sound from any bucket, or not be stored.
    Failed,
}

/// Why one copy failed.
#[derive(Debug, thiserror::Error)]
enum NotCopied {
    #[error("it could not be read or stored")]
    Store(#[from] StoreError),
    #[error("it is damaged, and was not copied")]
    Damaged(#[from] Damaged),
}

/// Copies `key` to `bucket` from the first other bucket that gives it whole and sound; of a backup's
/// manifest, its packs first.
pub(super) async fn replicate(
    buckets: &Buckets,
    bucket: &Bucket,
    key: &str,
    identity: Option<&Identity>,
) -> Replicated {
    if let Some(backup) = key.strip_suffix(MANIFEST)
        && !replicate_packs(buckets, bucket, &format!("{backup}/pack/"), identity).await
    {
        return Replicated::Failed;
    }
    replicate_object(buckets, bucket, key, identity).await
}

/// Copies the packs that `bucket` lacks, and says whether it has all of them.
async fn replicate_packs(
    buckets: &Buckets,
    bucket: &Bucket,
    prefix: &str,
    identity: Option<&Identity>,
) -> bool {
    let Ok(held) = bucket.list(prefix, "").await else {
        return false;
    };
    let mut is_complete = false;
    for source in others(buckets, bucket) {
        let Ok(packs) = source.list(prefix, "").await else {
            continue;
        };
        is_complete = !packs.is_empty();
        for pack in packs {
            // In order, so that a binary search finds it.
            if held.binary_search(&pack).is_err() {
                let replicated = replicate_object(buckets, bucket, &pack, identity).await;
                let is_there = matches!(replicated, Replicated::Copied | Replicated::AlreadyThere);
                is_complete &= is_there;
            }
        }
        if is_complete {
            return true;
        }
    }
    is_complete
}

async fn replicate_object(
    buckets: &Buckets,
    bucket: &Bucket,
    key: &str,
    identity: Option<&Identity>,
) -> Replicated {
    let mut is_nowhere = true;
    for source in others(buckets, bucket) {
        match copy(source, bucket, key, identity).await {
            Ok(Created::New) => {
                info!(bucket = bucket.name(), from = source.name(), %key, "object copied");
                return Replicated::Copied;
            }
            // What was stored there meanwhile was compared with the file when it was, if it is one of
            // ours; anything else stays there and stays lacking.
            Ok(Created::AlreadyThere) => match bucket.header(key).await {
                Ok(_) => return Replicated::AlreadyThere,
                Err(error) => {
                    is_nowhere = false;
                    warn!(bucket = bucket.name(), %key, error = %chain(&error), "another object is in the place of a missing one");
                }
            },
            Err(NotCopied::Store(error))
                if error.kind() == ErrorKind::NotFound && error.bucket() == source.name() => {}
            Err(error) => {
                is_nowhere = false;
                warn!(bucket = bucket.name(), from = source.name(), %key, error = %chain(&error), "object not copied");
            }
        }
    }
    if is_nowhere {
        Replicated::Nowhere
    } else {
        Replicated::Failed
    }
}

fn others<'a>(buckets: &'a Buckets, bucket: &Bucket) -> impl Iterator<Item = &'a Bucket> {
    let name = bucket.name().to_owned();
    let all = buckets.all().iter();
    all.filter(move |other| other.name() != name)
}

/// Looks at an object that passes: with an identity it is decrypted, without one its structure is
/// compared with its length. S3's own checksum vouches for the rest.
enum Inspection<'a> {
    Decrypted {
        opener: Box<Opener<'a>>,
        payload: Vec<u8>,
    },
    Structure(Structure),
}

impl<'a> Inspection<'a> {
    fn new(identity: Option<&'a Identity>, key: &'a str) -> Self {
        match identity {
            Some(identity) => Self::Decrypted {
                opener: Box::new(Opener::new(identity, key)),
                payload: Vec::new(),
            },
            None => Self::Structure(Structure::default()),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        match self {
            Self::Decrypted { opener, payload } => {
                payload.clear();
                opener.push(bytes, payload)
            }
            Self::Structure(structure) => structure.push(bytes),
        }
    }

    fn finish(self) -> Result<(), Damaged> {
        match self {
            Self::Decrypted {
                opener,
                mut payload,
            } => opener.finish(&mut payload).map(drop),
            Self::Structure(structure) => structure.finish(),
        }
    }
}

/// Copies one object. Its last part, without which it does not exist, is sent once all of it was
/// seen to be sound.
async fn copy(
    source: &Bucket,
    target: &Bucket,
    key: &str,
    identity: Option<&Identity>,
) -> Result<Created, NotCopied> {
    let mut body = source.open_verified(key).await?;
    let mut upload = Upload::new(target.clone(), key.to_owned(), PATIENT);
    let copied = send(&mut body, &mut upload, Inspection::new(identity, key)).await;
    match copied {
        Ok(last) => Ok(upload.finish(last).await?),
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

/// Sends all but the last part, which is returned.
async fn send(
    body: &mut ObjectBody,
    upload: &mut Upload,
    mut inspection: Inspection<'_>,
) -> Result<Bytes, NotCopied> {
    let mut part = BytesMut::new();
    while let Some(bytes) = body.next().await {
        let bytes = bytes?;
        inspection.push(&bytes)?;
        // Only when more follows is a full part not the last.
        if part.len() >= PART_BYTES {
            upload.part(part.split().freeze()).await?;
        }
        part.extend_from_slice(&bytes);
    }
    inspection.finish()?;
    Ok(part.freeze())
}
