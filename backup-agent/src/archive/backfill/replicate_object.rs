//! Copying of one object between two buckets, with validation.

use bytes::{Bytes, BytesMut};
use causeway_runtime::retry::RetryClass;
use causeway_runtime::s3::S3ErrorKind;
use causeway_runtime::telemetry::chain;
use tracing::{info, warn};

use crate::archive::backfill::sameness::{Sameness, StoredCopy, compare_copies};
use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::Identity;
use crate::encryption::stream::{Decryptor, ObjectStructure};
use crate::storage::bucket::{Bucket, CreateOutcome};
use crate::storage::multipart_upload::{PART_BYTES, UPLOAD_RETRY_TIMEOUT, Upload};
use crate::storage::object_body::ObjectBody;
use crate::storage::object_start::ObjectStart;
use crate::storage::store_error::StoreError;

/// Maximum number of concurrent copies to one bucket: each takes a second to a distant one. Backups
/// are copied one at a time, with this many packs.
pub(super) const MAX_CONCURRENT_COPIES: usize = 4;

/// Outcome of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CopyOutcome {
    /// The object was created in the bucket.
    Copied,
    /// The bucket had it.
    AlreadyThere,
    /// No bucket has it.
    Nowhere,
    /// A bucket failed with a transient error.
    Failed,
    /// A retry fails in the same way until an operator has resolved the cause, which is named.
    Unresolved(String),
}

/// Outcome for an object and those that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopyReport {
    /// Outcome for the object.
    pub(super) outcome: CopyOutcome,
    /// Number of copied packs.
    pub(super) packs: usize,
}

/// Error of one copy.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("it could not be read or stored")]
    Store(#[from] StoreError),
    #[error("it is damaged, and was not copied")]
    Damaged(#[from] DecryptError),
    #[error("it has {found} bytes, and {listed} were listed")]
    Length { found: u64, listed: u64 },
}

/// Object to copy, the bucket that lacks it, and the ones that may have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectCopy<'a> {
    pub(super) key: &'a str,
    pub(super) target: &'a Bucket,
    /// Queried in this order.
    pub(super) sources: &'a [&'a Bucket],
    /// Length in bytes, if known.
    pub(super) bytes: Option<u64>,
}

/// Copies one object. An object that exists in its place is never overwritten: it is compared, and
/// counts as a copy only if it is the same.
pub(super) async fn replicate_object(
    copy: &ObjectCopy<'_>,
    identity: Option<&Identity>,
) -> CopyOutcome {
    let ObjectCopy { key, target, .. } = *copy;
    match target.start(key).await {
        Ok(start) => return compare_with_sources(copy, &start, identity).await,
        Err(error) if error.kind() == S3ErrorKind::NoSuchKey => {}
        Err(error) => return not_compared(copy, &error),
    }
    let mut damaged = None;
    let mut has_failed = false;
    for source in copy.sources {
        match copy_from(source, copy, identity).await {
            Ok(CreateOutcome::New) => {
                info!(bucket = target.name(), from = source.name(), %key, "object copied");
                return CopyOutcome::Copied;
            }
            // It was stored there meanwhile.
            Ok(CreateOutcome::AlreadyThere) => {
                return match target.start(key).await {
                    Ok(start) => compare_with_sources(copy, &start, identity).await,
                    Err(error) => not_compared(copy, &error),
                };
            }
            Err(CopyError::Store(error))
                if error.kind() == S3ErrorKind::NoSuchKey && error.bucket() == source.name() => {}
            Err(error) => {
                warn!(bucket = target.name(), from = source.name(), %key, error = %chain(&error), "object not copied");
                match error {
                    CopyError::Store(_) => has_failed = true,
                    CopyError::Damaged(_) | CopyError::Length { .. } => {
                        let text = format!(
                            "`{}` has a damaged `{key}`: {}",
                            source.name(),
                            chain(&error)
                        );
                        damaged.get_or_insert(text);
                    }
                }
            }
        }
    }
    match damaged {
        _ if has_failed => CopyOutcome::Failed,
        Some(text) => CopyOutcome::Unresolved(text),
        None => CopyOutcome::Nowhere,
    }
}

/// Returns the outcome if the object in the target's place could not be compared.
fn not_compared(copy: &ObjectCopy<'_>, error: &StoreError) -> CopyOutcome {
    let ObjectCopy { key, target, .. } = *copy;
    warn!(bucket = target.name(), %key, error = %chain(error), "existing object not compared");
    match error.damage() {
        Some(why) => CopyOutcome::Unresolved(format!(
            "`{}` has another object under `{key}`: {}",
            target.name(),
            chain(why)
        )),
        None if error.retry_class() == RetryClass::Transient => CopyOutcome::Failed,
        None => CopyOutcome::Unresolved(chain(error)),
    }
}

/// Compares the object in the target's place with the other buckets' copies.
async fn compare_with_sources(
    copy: &ObjectCopy<'_>,
    start: &ObjectStart,
    identity: Option<&Identity>,
) -> CopyOutcome {
    let ObjectCopy { key, target, .. } = *copy;
    let mut outcome = CopyOutcome::AlreadyThere;
    for source in copy.sources {
        let compared = match source.start(key).await {
            Ok(of_source) => {
                let there = StoredCopy {
                    bucket: target,
                    start,
                };
                let other = StoredCopy {
                    bucket: source,
                    start: &of_source,
                };
                compare_copies(key, there, other, identity).await
            }
            Err(error) => Err(error),
        };
        let (here, there) = (target.name(), source.name());
        match compared {
            Ok(Sameness::Same) => return CopyOutcome::AlreadyThere,
            Ok(Sameness::Different(why)) => {
                let text =
                    format!("`{here}` has other content under `{key}` than `{there}`: {why}");
                outcome = CopyOutcome::Unresolved(text);
            }
            Ok(Sameness::NotKnown) => {
                let text = format!(
                    "`{here}` has `{key}` from another push than `{there}`, and only a host with an identity can compare them"
                );
                outcome = CopyOutcome::Unresolved(text);
            }
            Err(error) if error.kind() == S3ErrorKind::NoSuchKey => {}
            // The source is damaged, and the target's object is valid.
            Err(error) if error.damage().is_some() => {
                warn!(bucket = there, %key, error = %chain(&error), "source object damaged");
            }
            Err(error) => {
                warn!(bucket = there, %key, error = %chain(&error), "object not compared");
                outcome = CopyOutcome::Failed;
            }
        }
    }
    outcome
}

/// Validation of an object that is copied: with an identity it is decrypted, without one its
/// structure is compared with its length. S3's own checksum covers the rest.
enum Inspection<'a> {
    Decrypted {
        decryptor: Box<Decryptor<'a>>,
        payload: Vec<u8>,
    },
    ObjectStructure(ObjectStructure),
}

impl<'a> Inspection<'a> {
    fn new(identity: Option<&'a Identity>, key: &'a str) -> Self {
        match identity {
            Some(identity) => Self::Decrypted {
                decryptor: Box::new(Decryptor::new(identity, key)),
                payload: Vec::new(),
            },
            None => Self::ObjectStructure(ObjectStructure::default()),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), DecryptError> {
        match self {
            Self::Decrypted { decryptor, payload } => {
                payload.clear();
                decryptor.push(bytes, payload)
            }
            Self::ObjectStructure(structure) => structure.push(bytes),
        }
    }

    fn finish(self) -> Result<(), DecryptError> {
        match self {
            Self::Decrypted {
                decryptor,
                mut payload,
            } => decryptor.finish(&mut payload).map(drop),
            Self::ObjectStructure(structure) => structure.finish(),
        }
    }
}

/// Copies one object. Its last part, which completes it, is sent only after the whole object has
/// been validated.
async fn copy_from(
    source: &Bucket,
    copy: &ObjectCopy<'_>,
    identity: Option<&Identity>,
) -> Result<CreateOutcome, CopyError> {
    let ObjectCopy { key, target, .. } = *copy;
    let mut body = source.open_verified(key).await?;
    if let (Some(found), Some(listed)) = (body.total_bytes(), copy.bytes)
        && found != listed
    {
        return Err(CopyError::Length { found, listed });
    }
    let mut upload = Upload::new(target.clone(), key.to_owned(), UPLOAD_RETRY_TIMEOUT);
    let copied = send(&mut body, &mut upload, Inspection::new(identity, key)).await;
    match copied {
        Ok(last) => Ok(upload.finish(last).await?),
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

/// Sends all parts except the last, which is returned.
async fn send(
    body: &mut ObjectBody,
    upload: &mut Upload,
    mut inspection: Inspection<'_>,
) -> Result<Bytes, CopyError> {
    let mut part = BytesMut::new();
    while let Some(bytes) = body.next().await {
        let bytes = bytes?;
        inspection.push(&bytes)?;
        // A full part is the last one unless more bytes follow.
        if part.len() >= PART_BYTES {
            upload.part(part.split().freeze()).await?;
        }
        part.extend_from_slice(&bytes);
    }
    inspection.finish()?;
    Ok(part.freeze())
}
