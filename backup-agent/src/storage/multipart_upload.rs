//! Upload of a large object, part by part while it is being made.

use std::time::Duration;

use bytes::Bytes;
use causeway_runtime::retry::RetryClass;
use causeway_runtime::s3::{S3ErrorKind, StartedUpload, UploadedPart};
use tokio::time;
use tracing::warn;

use crate::storage::bucket::{Bucket, CreateOutcome};
use crate::storage::store_error::StoreError;

/// Size of a part. S3 accepts 10,000 parts of at least 5 MiB, so an object may have 80 GiB; two
/// buckets hold a few parts in memory at a time.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Retry timeout of a call to a bucket that has responded before. A backup can wait longer than
/// PostgreSQL's archiver.
pub(crate) const UPLOAD_RETRY_TIMEOUT: Duration = Duration::from_mins(2);

/// Retry timeout of a call to a bucket that has not responded yet: a region that is unavailable
/// when a backup begins is likely to stay so, and the other buckets wait meanwhile.
pub(crate) const FIRST_UPLOAD_RETRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an object's start that identify it: its header has a data key that no other object has.
const START_BYTES: usize = 4 << 10;

/// Upload of one object into one bucket. A small object is stored by a single call.
#[derive(Debug)]
pub(crate) struct Upload {
    bucket: Bucket,
    key: String,
    timeout: Duration,
    multipart: Option<Multipart>,
}

#[derive(Debug)]
struct Multipart {
    started: StartedUpload,
    parts: Vec<UploadedPart>,
    start: Bytes,
    bytes: u64,
}

impl Upload {
    /// Returns an upload of the object `key` that retries each call for up to `timeout`.
    pub(crate) fn new(bucket: Bucket, key: String, timeout: Duration) -> Self {
        Self {
            bucket,
            key,
            timeout,
            multipart: None,
        }
    }

    /// Uploads a part that is not the last.
    pub(crate) async fn part(&mut self, body: Bytes) -> Result<(), StoreError> {
        let mut multipart = match self.multipart.take() {
            Some(begun) => begun,
            None => self.begin(&body).await?,
        };
        let number = i32::try_from(multipart.parts.len() + 1)
            .expect("S3 refuses the part after the 10,000th");
        let length = u64::try_from(body.len()).expect("a length fits into 64 bits");
        let sent = self.send(&multipart.started, number, &body).await;
        let stored = sent.map(|part| {
            multipart.parts.push(part);
            multipart.bytes += length;
        });
        self.multipart = Some(multipart);
        stored
    }

    /// Uploads the last part and completes the object.
    pub(crate) async fn finish(mut self, last: Bytes) -> Result<CreateOutcome, StoreError> {
        if self.multipart.is_none() {
            self.wait_for_bucket().await?;
            return self
                .bucket
                .create_retried(self.timeout, &self.key, &last)
                .await;
        }
        let finished = match self.part(last).await {
            Ok(()) => self.complete().await,
            Err(error) => Err(error),
        };
        if !matches!(finished, Ok(CreateOutcome::New)) {
            self.abandon().await;
        }
        finished
    }

    /// Removes the uploaded parts. After a crash the bucket's lifecycle rule for incomplete uploads
    /// removes them.
    pub(crate) async fn abandon(self) {
        let Some(multipart) = &self.multipart else {
            return;
        };
        let Self { bucket, key, .. } = &self;
        let aborted = bucket.retried_for(self.timeout, 0, || {
            let call = bucket.client().abort_upload(&multipart.started);
            bucket.answer("remove the parts of", key, 0, call)
        });
        match aborted.await {
            Ok(()) => {}
            // An earlier attempt succeeded, and its response was lost.
            Err(error) if error.kind() == S3ErrorKind::NoSuchUpload => {}
            Err(_) => {
                warn!(bucket = %bucket.name(), %key, "abandoned parts not removed, left to the lifecycle rule");
            }
        }
    }

    /// Waits until a bucket that has not responded yet responds to a small call. An upload may take
    /// as long as its bytes need, and an unresponsive bucket would use all of that time.
    async fn wait_for_bucket(&self) -> Result<(), StoreError> {
        let Self { bucket, key, .. } = self;
        if bucket.is_reached() {
            return Ok(());
        }
        let limit = self.timeout + bucket.limits().connect;
        let asked = bucket.retried_for(self.timeout, 0, || async {
            let open = time::timeout(limit, bucket.open_once(key)).await;
            open.unwrap_or_else(|_elapsed| Err(bucket.timeout_error("answer before", key)))
        });
        match asked.await {
            // A response that the object is absent is a response.
            Err(error) if error.retry_class() == RetryClass::Transient => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn begin(&self, first: &Bytes) -> Result<Multipart, StoreError> {
        let Self { bucket, key, .. } = self;
        self.wait_for_bucket().await?;
        let started = bucket.retried_for(self.timeout, 0, || {
            bucket.answer("begin", key, 0, bucket.client().begin_upload(key))
        });
        Ok(Multipart {
            started: started.await?,
            parts: Vec::new(),
            start: first.slice(..first.len().min(START_BYTES)),
            bytes: 0,
        })
    }

    async fn send(
        &self,
        started: &StartedUpload,
        number: i32,
        body: &Bytes,
    ) -> Result<UploadedPart, StoreError> {
        let Self { bucket, key, .. } = self;
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let sent = bucket.retried_for(self.timeout, length, || {
            let call = bucket.client().put_part(started, number, body.clone());
            bucket.answer("store a part of", key, length, call)
        });
        sent.await
    }

    async fn complete(&self) -> Result<CreateOutcome, StoreError> {
        let Self { bucket, key, .. } = self;
        let Some(multipart) = &self.multipart else {
            return Err(bucket.refused("complete", key, "it was not begun"));
        };
        // S3 assembles the parts before it responds, which takes minutes for the largest objects.
        let completed = bucket.retried_for(self.timeout, multipart.bytes, || {
            let Multipart { started, parts, .. } = multipart;
            let call = bucket.client().complete_upload(started, parts);
            bucket.answer("complete", key, multipart.bytes, call)
        });
        let Err(error) = completed.await else {
            return Ok(CreateOutcome::New);
        };
        if error.retry_class() == RetryClass::Transient {
            return Err(error);
        }
        // The response to an earlier attempt may have been lost: then the upload no longer exists,
        // which services report in several ways, and the object does.
        match self.is_stored(multipart).await {
            Ok(true) => Ok(CreateOutcome::New),
            Ok(false) => Ok(CreateOutcome::AlreadyThere),
            Err(absent) if absent.kind() == S3ErrorKind::NoSuchKey => Err(error),
            Err(unread) => Err(unread),
        }
    }

    /// Returns whether the stored object is the uploaded one.
    async fn is_stored(&self, multipart: &Multipart) -> Result<bool, StoreError> {
        let length = u64::try_from(multipart.start.len()).unwrap_or(u64::MAX);
        let (start, total) = self.bucket.read_start(&self.key, length).await?;
        Ok(start == multipart.start && total == multipart.bytes)
    }
}
