//! The content of one object, read as a stream that goes on where it was cut.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use ha_runtime::retry::{RetryBackoff, RetryClass};
use ha_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tracing::debug;

use crate::object_store::{Bucket, ErrorKind, RETRY_POLICY, StoreError};

/// An object that is being read. A body that is cut, or that brings nothing for a while, is asked for
/// again from the byte that was reached: a segment of a gigabyte need not begin anew.
#[derive(Debug)]
pub(crate) struct ObjectBody {
    bucket: Bucket,
    key: String,
    etag: Option<String>,
    total_bytes: u64,
    received_bytes: u64,
    stream: ByteStream,
    /// Set while nothing has come since the body was cut.
    retrying: Option<Retrying>,
}

#[derive(Debug)]
struct Retrying {
    backoff: RetryBackoff,
    give_up_at: Instant,
}

/// Whether S3's own checksum of the object is compared as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceChecksum {
    /// It is: the reader cannot decrypt.
    Verified,
    /// It is not: what is read is authenticated, and said to be damaged where it is, which a failed
    /// checksum would present as a call to repeat.
    Ignored,
}

impl ObjectBody {
    /// Asks for the object once.
    pub(super) async fn open(
        bucket: &Bucket,
        key: &str,
        checksum: ServiceChecksum,
    ) -> Result<Self, StoreError> {
        let call = bucket.client().get_object().bucket(bucket.name()).key(key);
        let call = call.set_checksum_mode(match checksum {
            ServiceChecksum::Verified => Some(ChecksumMode::Enabled),
            ServiceChecksum::Ignored => None,
        });
        let answer = bucket.answer("give", key, 0, call.send()).await?;
        Ok(Self {
            bucket: bucket.clone(),
            key: key.to_owned(),
            etag: answer.e_tag,
            total_bytes: answer
                .content_length
                .and_then(|length| u64::try_from(length).ok())
                .unwrap_or(0),
            received_bytes: 0,
            stream: answer.body,
            retrying: None,
        })
    }

    /// Returns the length of the object.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Returns what comes next, or nothing at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            let stall = self.bucket.limits().answer;
            let cut = match time::timeout(stall, self.stream.next()).await {
                Ok(Some(Ok(bytes))) => {
                    self.received_bytes += u64::try_from(bytes.len()).unwrap_or(0);
                    self.retrying = None;
                    return Some(Ok(bytes));
                }
                Ok(None) if self.received_bytes >= self.total_bytes => return None,
                Ok(None) => self.bucket.broken_off(&self.key, "it ended early"),
                Ok(Some(Err(error))) => self.bucket.broken_off(&self.key, error),
                Err(_elapsed) => self.bucket.silent("go on with", &self.key),
            };
            if let Err(error) = self.resume(cut).await {
                return Some(Err(error));
            }
        }
    }

    /// Asks for the rest, until it comes or the budget is spent.
    async fn resume(&mut self, mut why: StoreError) -> Result<(), StoreError> {
        loop {
            let timeout = self.bucket.limits().retry;
            let retrying = self.retrying.get_or_insert_with(|| Retrying {
                backoff: RETRY_POLICY.backoff(),
                give_up_at: Instant::now() + timeout,
            });
            let pause = retrying.backoff.next_pause();
            if why.retry_class() == RetryClass::Permanent
                || Instant::now() + pause >= retrying.give_up_at
            {
                return Err(why);
            }
            debug!(error = %chain(&why), from = self.received_bytes, "body asked for again");
            time::sleep(pause).await;
            match self.ask_for_rest().await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(error) => why = error,
            }
        }
    }

    async fn ask_for_rest(&self) -> Result<ByteStream, StoreError> {
        let (bucket, key) = (&self.bucket, &self.key);
        let call = bucket.client().get_object().bucket(bucket.name()).key(key);
        let call = call
            .set_if_match(self.etag.clone())
            .range(format!("bytes={}-", self.received_bytes));
        let answer = bucket.answer("go on with", key, 0, call.send()).await;
        match answer {
            Ok(answer) => Ok(answer.body),
            // Nothing is overwritten, so that this is another's doing.
            Err(error) if error.kind() == ErrorKind::AlreadyThere => {
                Err(bucket.refused("go on with", key, "it was replaced meanwhile"))
            }
            Err(error) => Err(error),
        }
    }
}
