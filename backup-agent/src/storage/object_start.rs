//! The beginning of an object, which is readable without an identity and without the rest.

use std::error::Error as _;

use bytes::{Bytes, BytesMut};
use causeway_runtime::s3::{
    ByteRange, ObjectRequest, S3Body, S3Error, S3ErrorKind, ServiceChecksum,
};
use tokio::time;

use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::header::ObjectHeader;
use crate::storage::bucket::Bucket;
use crate::storage::object_rest::{AnsweredRest, ObjectVersion};
use crate::storage::store_error::StoreError;

/// Bytes that hold a header and its length prefix, for up to about a dozen recipients; a longer
/// header is read in a second call.
const HEADER_GUESS: u64 = 8 << 10;

/// Beginning and length of an object.
#[derive(Clone, Debug)]
pub(crate) struct ObjectStart {
    pub(crate) header: ObjectHeader,
    /// Bytes of the header. They contain a data key that no other object has, so two objects with
    /// the same header are the same object.
    pub(crate) header_bytes: Bytes,
    /// Length of the object in bytes.
    pub(crate) object_bytes: u64,
}

impl Bucket {
    /// Reads the first `bytes` of the object, or all of a shorter one, and its length.
    pub(super) async fn read_start(
        &self,
        key: &str,
        bytes: u64,
    ) -> Result<(Bytes, u64), StoreError> {
        const DOING: &str = "return the header of";
        self.retried(bytes, || async {
            let request = ObjectRequest {
                range: ByteRange::First(bytes),
                ..ObjectRequest::whole(key, ServiceChecksum::Ignored)
            };
            let call = self.client().get(request);
            let answer = match self.answer(DOING, key, 0, call).await {
                Ok(answer) => answer,
                // An empty object has no first byte.
                Err(error) if error.kind() == S3ErrorKind::OutOfRange => {
                    return Ok((Bytes::new(), 0));
                }
                Err(error) => return Err(error),
            };
            let version = ObjectVersion::new(answer.etag.as_deref(), None);
            let answered = AnsweredRest {
                etag: answer.etag.as_deref(),
                content_range: answer.content_range.as_deref(),
                content_length: answer.content_length,
            };
            let rest = version.rest(0, &answered);
            let total = rest
                .map_err(|why| self.incomplete_body_error(key, why))?
                .total_bytes;
            let limit = self.call_limit(bytes);
            let reads_all = total.is_none() || answer.content_range.is_some();
            let start = time::timeout(limit, first_bytes(answer.body, bytes, reads_all)).await;
            let start = start.map_err(|_elapsed| self.timeout_error(DOING, key))?;
            let (start, length) =
                start.map_err(|error| self.failed("return all of", key, error))?;
            let total = total.unwrap_or(length);
            if length < bytes.min(total) {
                return Err(self.incomplete_body_error(key, "it ended early"));
            }
            Ok((start, total))
        })
        .await
    }

    /// Reads the part of the object that needs no identity.
    pub(crate) async fn start(&self, key: &str) -> Result<ObjectStart, StoreError> {
        let mut wanted = HEADER_GUESS;
        loop {
            let (start, object_bytes) = self.read_start(key, wanted).await?;
            match ObjectHeader::read(&start) {
                Ok(Some((header, length))) => {
                    return Ok(ObjectStart {
                        header,
                        header_bytes: start.slice(..length),
                        object_bytes,
                    });
                }
                Ok(None) if wanted == HEADER_GUESS => wanted = 16 * HEADER_GUESS,
                Ok(None) => {
                    return Err(self.refused("return the header of", key, DecryptError::Truncated));
                }
                Err(error) => return Err(self.refused("return the header of", key, error)),
            }
        }
    }

    /// Reads the header of the object.
    pub(crate) async fn header(&self, key: &str) -> Result<ObjectHeader, StoreError> {
        self.start(key).await.map(|start| start.header)
    }
}

/// Returns the first `bytes` of a body and the number of bytes received. With `reads_all` the
/// others are counted as well: a service without `Range` sends them all.
async fn first_bytes(
    mut body: S3Body,
    bytes: u64,
    reads_all: bool,
) -> Result<(Bytes, u64), S3Error> {
    let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut start = BytesMut::new();
    let mut length = 0;
    while reads_all || start.len() < wanted {
        let Some(part) = body.next().await else {
            break;
        };
        let part = part?;
        length += u64::try_from(part.len()).unwrap_or(u64::MAX);
        let left = wanted.saturating_sub(start.len()).min(part.len());
        start.extend_from_slice(&part.slice(..left));
    }
    Ok((start.freeze(), length))
}

impl StoreError {
    /// Returns the damage, if the bucket returned the object and it is damaged.
    pub(crate) fn damage(&self) -> Option<&DecryptError> {
        self.source()?.downcast_ref()
    }
}
