//! Conditional writes: create-if-absent and update-if-match.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use causeway_core::lease::{ETag, WritePrecondition};

use super::client::S3Client;
use super::error::S3Error;
use super::error_kind::S3ErrorKind;
use super::object;

impl S3Client {
    /// Writes an object if `condition` holds, and returns its `ETag`.
    ///
    /// # Errors
    ///
    /// [`S3Error`], of these kinds if another writer was first and nothing was written:
    /// [`S3ErrorKind::PreconditionFailed`], also if the object to match does not exist, and
    /// [`S3ErrorKind::ConcurrentWrite`].
    pub async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: &WritePrecondition,
    ) -> Result<ETag, S3Error> {
        let call = self.sdk().put_object().bucket(self.bucket());
        let call = call.key(key).body(ByteStream::from(body));
        let call = match condition {
            WritePrecondition::Match(etag) => call.if_match(&etag.0),
            WritePrecondition::Missing => call.if_none_match("*"),
        };
        let mut call = call.customize();
        if self.omits_body_hash() {
            call = call.disable_payload_signing();
        }
        let written = self.call(call.send()).await;
        let written = written.map_err(|error| match (error.kind(), condition) {
            (S3ErrorKind::NoSuchKey, WritePrecondition::Match(_)) => {
                error.with_kind(S3ErrorKind::PreconditionFailed)
            }
            _ => error,
        })?;
        object::non_empty(written.e_tag)
            .map(ETag)
            .ok_or_else(S3Error::missing_etag)
    }
}
