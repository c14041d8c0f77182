//! The content of one object, as a stream that resumes where it was cut.

use bytes::{Buf as _, Bytes};
use causeway_runtime::retry::{ProgressBudget, RetryClass};
use causeway_runtime::s3::{ByteRange, ObjectRequest, S3Body, S3ErrorKind, ServiceChecksum};
use causeway_runtime::telemetry::chain;
use tokio::time;
use tracing::debug;

use crate::storage::bucket::{Bucket, RETRY_POLICY};
use crate::storage::object_rest::{AnsweredRest, ObjectVersion};
use crate::storage::store_error::StoreError;

/// An object that is being read. A body that is cut or stalls is requested again from the byte that
/// was reached: a segment of a gigabyte need not start again.
#[derive(Debug)]
pub(crate) struct ObjectBody {
    bucket: Bucket,
    key: String,
    version: ObjectVersion,
    received_bytes: u64,
    stream: S3Body,
    /// Bytes of `stream` that were received before: a service may not support `Range`.
    repeated_bytes: u64,
    /// Whether `stream` ended regularly and no response has named the object's length.
    end_is_unsure: bool,
    /// Whether a response was no continuation of this version. The whole object must be requested
    /// again.
    has_no_rest: bool,
    /// Set while no bytes have arrived since the body was cut.
    retrying: Option<ProgressBudget>,
}

/// Meaning of the end of a response.
enum BodyEnd {
    /// The end of the object.
    Object,
    /// A part of the object is missing.
    Cut,
    /// The end of the object, possibly.
    Unsure,
}

impl Bucket {
    /// Opens the object, without retries.
    pub(crate) async fn open_once(&self, key: &str) -> Result<ObjectBody, StoreError> {
        ObjectBody::open(self, key, ServiceChecksum::Ignored).await
    }

    /// Opens the object, verified by S3's own checksum.
    pub(crate) async fn open_verified(&self, key: &str) -> Result<ObjectBody, StoreError> {
        self.retried(0, || ObjectBody::open(self, key, ServiceChecksum::Verified))
            .await
    }
}

impl ObjectBody {
    /// Sends one request for the object.
    pub(super) async fn open(
        bucket: &Bucket,
        key: &str,
        checksum: ServiceChecksum,
    ) -> Result<Self, StoreError> {
        let call = bucket.client().get(ObjectRequest::whole(key, checksum));
        let answer = bucket.answer("give", key, 0, call).await?;
        Ok(Self {
            bucket: bucket.clone(),
            key: key.to_owned(),
            version: ObjectVersion::new(answer.etag.as_deref(), answer.content_length),
            received_bytes: 0,
            stream: answer.body,
            repeated_bytes: 0,
            end_is_unsure: false,
            has_no_rest: false,
            retrying: None,
        })
    }

    /// Returns the length of the object, if the service named it.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.version.total_bytes
    }

    /// Returns the next bytes, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            let stall = self.bucket.limits().answer;
            let cut = match time::timeout(stall, self.stream.next()).await {
                Ok(Some(Ok(bytes))) => match self.not_repeated(bytes) {
                    Some(bytes) => return Some(Ok(bytes)),
                    None => continue,
                },
                Ok(None) => match self.end() {
                    BodyEnd::Object => return None,
                    BodyEnd::Cut => self
                        .bucket
                        .incomplete_body_error(&self.key, "it ended early"),
                    BodyEnd::Unsure => match self.request_rest().await {
                        Ok(()) => continue,
                        Err(error) => error,
                    },
                },
                Ok(Some(Err(error))) => self.bucket.failed("return all of", &self.key, error),
                Err(_elapsed) => self.bucket.timeout_error("return the rest of", &self.key),
            };
            if let Err(error) = self.resume(cut).await {
                return Some(Err(error));
            }
        }
    }

    /// Returns the new part of these bytes, if any.
    fn not_repeated(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let length = |part: &Bytes| u64::try_from(part.len()).unwrap_or(u64::MAX);
        let repeated = self.repeated_bytes.min(length(&bytes));
        self.repeated_bytes -= repeated;
        bytes.advance(usize::try_from(repeated).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return None;
        }
        self.received_bytes += length(&bytes);
        self.retrying = None;
        self.end_is_unsure = false;
        Some(bytes)
    }

    /// Classifies the end of a response. If no response named the object's length, it has ended
    /// once another response has nothing beyond the received bytes.
    fn end(&mut self) -> BodyEnd {
        match self.version.total_bytes {
            Some(total) if self.received_bytes >= total => BodyEnd::Object,
            None if self.repeated_bytes == 0 && self.end_is_unsure => BodyEnd::Object,
            None if self.repeated_bytes == 0 => {
                self.end_is_unsure = true;
                BodyEnd::Unsure
            }
            Some(_) | None => BodyEnd::Cut,
        }
    }

    /// Requests the rest, until it arrives or the retry budget is spent.
    async fn resume(&mut self, mut why: StoreError) -> Result<(), StoreError> {
        loop {
            let timeout = self.bucket.limits().retry;
            let budget = || ProgressBudget::new(RETRY_POLICY, timeout);
            let retrying = self.retrying.get_or_insert_with(budget);
            if why.retry_class() == RetryClass::Permanent
                || self.has_no_rest
                || !retrying.wait_for_attempt().await
            {
                return Err(why);
            }
            debug!(error = %chain(&why), from = self.received_bytes, "interrupted body requested again");
            match self.request_rest().await {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
        }
    }

    async fn request_rest(&mut self) -> Result<(), StoreError> {
        let (bucket, key) = (&self.bucket, &self.key);
        let call = bucket.client().get(ObjectRequest {
            key,
            range: ByteRange::From(self.received_bytes),
            if_match: self.version.etag.as_deref(),
            checksum: ServiceChecksum::Ignored,
        });
        let answer = match bucket.answer("return the rest of", key, 0, call).await {
            Ok(answer) => answer,
            // Causeway overwrites no object, so another program replaced this one.
            Err(error) if error.kind() == S3ErrorKind::PreconditionFailed => {
                return Err(bucket.refused("return the rest of", key, "it was replaced meanwhile"));
            }
            Err(error) if error.kind() == S3ErrorKind::OutOfRange && self.end_is_unsure => {
                self.version.total_bytes = Some(self.received_bytes);
                self.stream = S3Body::default();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let answered = AnsweredRest {
            etag: answer.etag.as_deref(),
            content_range: answer.content_range.as_deref(),
            content_length: answer.content_length,
        };
        let from = self.received_bytes;
        let rest = self.version.rest(from, &answered);
        let rest = rest.map_err(|why| {
            self.has_no_rest = true;
            bucket.incomplete_body_error(key, why)
        })?;
        self.version.total_bytes = rest.total_bytes;
        self.repeated_bytes = rest.repeated_bytes;
        self.stream = answer.body;
        Ok(())
    }
}
