//! Storing of one WAL file in every bucket, without waiting for slow or unavailable ones.

use causeway_runtime::s3::S3ErrorKind;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{self, Instant};

use crate::archive::encrypted_wal_file::EncryptedWalFile;
use crate::encryption::fingerprint::Fingerprint;
use crate::encryption::metadata::WalMetadata;
use crate::encryption::payload::EncryptedPart;
use crate::error::Error;
use crate::storage::bucket::{Bucket, CreateOutcome};
use crate::storage::buckets::Buckets;
use crate::storage::multipart_upload::{PART_BYTES, Upload};
use crate::storage::store_error::StoreError;

/// Retry timeout of a failing call, after which PostgreSQL is told to retry. A transfer that
/// progresses may take as long as it needs.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time in which a bucket must respond whether it has a file of a kind that may have several with
/// one name.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Outcome of storing an object in one bucket.
enum StoreOutcome {
    Stored,
    Conflict,
    Failed(StoreError),
    Local(Error),
}

/// Object that a bucket has under a key, compared with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExistingObject {
    /// No object.
    Free,
    /// The same file.
    Same,
    /// Another object.
    Other,
    /// The bucket did not respond.
    Unknown,
}

/// Concurrent attempts of one push.
struct StoreAttempts<'a> {
    buckets: &'a Buckets,
    file: &'a EncryptedWalFile<'a>,
    stored: Vec<&'a Bucket>,
    last: Option<StoreError>,
}

impl Buckets {
    /// Stores `file`, and returns once it is in the required number of buckets and the others have
    /// had a grace period. It is recorded as missing in the remaining ones.
    ///
    /// An existing object must have the same content; it is never overwritten.
    pub(crate) async fn store(&self, file: &EncryptedWalFile<'_>) -> Result<(), Error> {
        // The background backfill fills slow buckets: this push need not wait for them at each
        // file.
        let is_filled = self.health().is_backfill_running();
        let (later, first): (Vec<_>, Vec<_>) = self.all().iter().partition(|bucket| {
            let name = bucket.name();
            self.health().is_avoided(name) || is_filled && self.health().has_missing_wal(name)
        });
        let mut storing = StoreAttempts {
            buckets: self,
            file,
            stored: Vec::new(),
            last: None,
        };
        let rounds = if self.required() == self.all().len() {
            vec![self.all().iter().collect()]
        } else {
            vec![first, later]
        };
        for round in rounds {
            if storing.stored.len() < self.required() {
                storing.store_in(&round).await?;
            }
        }
        let StoreAttempts { stored, last, .. } = storing;
        if stored.len() < self.required() {
            return Err(Error::TooFewBuckets {
                what: format!("`{}`", file.key()),
                stored: stored.len(),
                required: self.required(),
                last: last.map(Box::new),
            });
        }
        for bucket in self.all() {
            let name = bucket.name();
            if stored.iter().any(|holder| holder.name() == name) {
                self.health()
                    .stored(name, crate::storage::bucket_health::StoredKind::Wal);
                // An earlier push of the same file may have recorded it as missing.
                if self.health().is_noted(name, file.key()) {
                    self.health().filled(name, file.key());
                }
            } else {
                self.health().record_missing(name, file.key());
            }
        }
        Ok(())
    }

    /// Returns the state of each bucket under the key of `file`.
    pub(crate) async fn compare(
        &self,
        key: &str,
        is_same: impl Fn(&Fingerprint) -> std::io::Result<bool>,
    ) -> Vec<ExistingObject> {
        let is_same = &is_same;
        let looks = self.all().iter().map(|bucket| async move {
            let held = time::timeout(LOOK_TIMEOUT, bucket_holds(bucket, key, is_same)).await;
            match held
                .unwrap_or_else(|_| Err(StoreOutcome::Failed(bucket.timeout_error("show", key))))
            {
                Ok(true) => ExistingObject::Same,
                Ok(false) => ExistingObject::Other,
                Err(StoreOutcome::Failed(error)) if error.kind() == S3ErrorKind::NoSuchKey => {
                    ExistingObject::Free
                }
                Err(_) => ExistingObject::Unknown,
            }
        });
        join_all(looks).await
    }
}

impl<'a> StoreAttempts<'a> {
    async fn store_in(&mut self, round: &[&'a Bucket]) -> Result<(), Error> {
        let began = Instant::now();
        let (buckets, file) = (self.buckets, self.file);
        let mut unanswered: Vec<&Bucket> = round.to_vec();
        let mut attempts: FuturesUnordered<_> = round
            .iter()
            .map(|bucket| async { (*bucket, create_or_compare(bucket, file).await) })
            .collect();
        let mut until: Option<Instant> = None;
        loop {
            let next = match until {
                Some(until) => time::timeout_at(until, attempts.next())
                    .await
                    .ok()
                    .flatten(),
                None => attempts.next().await,
            };
            let Some((bucket, kept)) = next else {
                break;
            };
            unanswered.retain(|other| other.name() != bucket.name());
            match kept {
                StoreOutcome::Stored => {
                    buckets.health().record_response(bucket.name());
                    self.stored.push(bucket);
                }
                StoreOutcome::Conflict => {
                    return Err(Error::Conflict {
                        bucket: bucket.name().to_owned(),
                        key: file.key().to_owned(),
                    });
                }
                StoreOutcome::Local(error) => return Err(error),
                StoreOutcome::Failed(error) => {
                    buckets.skip_bucket(bucket, &error);
                    self.last = Some(error);
                }
            }
            if self.stored.len() >= buckets.required() {
                until.get_or_insert(Instant::now() + grace_period(began.elapsed()));
            }
        }
        // A slow bucket is not unavailable: the file is recorded as missing there, and the
        // background backfill copies it.
        if let Some(bucket) = unanswered.first() {
            self.last = Some(bucket.timeout_error("take", file.key()));
        }
        Ok(())
    }
}

/// Returns the grace period of the other buckets once enough have a file: long enough for a healthy
/// distant one, short enough not to make PostgreSQL wait for an unavailable one.
fn grace_period(took: Duration) -> Duration {
    (3 * took).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

async fn create_or_compare(bucket: &Bucket, file: &EncryptedWalFile<'_>) -> StoreOutcome {
    let created = match file.whole_content() {
        Some(encrypted) => bucket
            .create_retried(STORE_TIMEOUT, file.key(), encrypted)
            .await
            .map_err(StoreOutcome::Failed),
        None => Box::pin(upload(bucket, file)).await,
    };
    match created {
        Ok(CreateOutcome::New) => StoreOutcome::Stored,
        // After a lost response the object is this push's own; it can also be another's at any
        // time.
        Ok(CreateOutcome::AlreadyThere) => {
            match bucket_holds(bucket, file.key(), |fingerprint| file.matches(fingerprint)).await {
                Ok(true) => StoreOutcome::Stored,
                Ok(false) => StoreOutcome::Conflict,
                Err(kept) => kept,
            }
        }
        Err(kept) => kept,
    }
}

/// Stores a file that is too large for one call. It is encrypted for each bucket separately, so the
/// buckets need not keep pace with each other, and memory holds a part of each.
async fn upload(
    bucket: &Bucket,
    file: &EncryptedWalFile<'_>,
) -> Result<CreateOutcome, StoreOutcome> {
    // Checked first: a gigabyte is not sent only to find that it exists.
    match bucket_holds(bucket, file.key(), |fingerprint| file.matches(fingerprint)).await {
        Ok(true) => return Ok(CreateOutcome::New),
        Ok(false) => return Ok(CreateOutcome::AlreadyThere),
        Err(StoreOutcome::Failed(error)) if error.kind() == S3ErrorKind::NoSuchKey => {}
        Err(kept) => return Err(kept),
    }
    let local = |error| StoreOutcome::Local(file.failed(error));
    let mut stream = file.stream().map_err(local)?;
    let mut upload = Upload::new(bucket.clone(), file.key().to_owned(), STORE_TIMEOUT);
    loop {
        let sent = match stream.next_part(PART_BYTES) {
            Ok(EncryptedPart::Middle(part)) => {
                upload.part(part).await.map_err(StoreOutcome::Failed)
            }
            Ok(EncryptedPart::Last(part)) => {
                return upload.finish(part).await.map_err(StoreOutcome::Failed);
            }
            Err(error) => Err(local(error)),
        };
        if let Err(kept) = sent {
            upload.abandon().await;
            return Err(kept);
        }
    }
}

/// Returns whether the object that `bucket` has under `key` has a content, without decrypting it.
async fn bucket_holds(
    bucket: &Bucket,
    key: &str,
    is_same: impl Fn(&Fingerprint) -> std::io::Result<bool>,
) -> Result<bool, StoreOutcome> {
    let header = match bucket.header(key).await {
        Ok(header) => header,
        // The object is not Causeway's, and it blocks the key: damage in this bucket.
        Err(error) => return Err(StoreOutcome::Failed(error)),
    };
    let Ok(metadata) = header.metadata::<WalMetadata>() else {
        return Ok(false);
    };
    let failed = |error| StoreOutcome::Local(Error::io("read", key.as_ref())(error));
    is_same(&metadata.fingerprint).map_err(failed)
}
