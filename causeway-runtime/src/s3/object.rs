//! Reads of one object, whole or in part.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use causeway_core::lease::ETag;

use super::client::S3Client;
use super::error::S3Error;

/// Requested part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it.
    Whole,
    /// Its first bytes, at least one.
    First(u64),
    /// All bytes from this offset on.
    From(u64),
}

/// Whether S3's own checksum of the object is verified as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceChecksum {
    /// Verified: nothing else authenticates the content.
    Verified,
    /// Ignored: the reader authenticates the content and locates damage in it. A failed checksum would look like a
    /// call to retry.
    Ignored,
}

/// Request for an object.
#[derive(Clone, Copy, Debug)]
pub struct ObjectRequest<'a> {
    /// Key of the object.
    pub key: &'a str,
    /// Requested part.
    pub range: ByteRange,
    /// `ETag` that the object must have.
    pub if_match: Option<&'a str>,
    /// Whether S3's checksum is verified.
    pub checksum: ServiceChecksum,
}

/// Response with an object, whose body has not been read.
#[derive(Debug)]
pub struct S3Object {
    /// `ETag`, quotes included.
    pub etag: Option<String>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// Content of the requested part.
    pub body: S3Body,
}

/// Body of a response, as a stream.
#[derive(Debug, Default)]
pub struct S3Body(ByteStream);

/// Object that was read whole.
#[derive(Clone, Debug)]
pub struct WholeObject {
    /// `ETag` of this version.
    pub etag: ETag,
    /// Content.
    pub body: Vec<u8>,
}

impl<'a> ObjectRequest<'a> {
    /// Returns a request for any version of the whole object.
    pub fn whole(key: &'a str, checksum: ServiceChecksum) -> Self {
        Self {
            key,
            range: ByteRange::Whole,
            if_match: None,
            checksum,
        }
    }
}

impl ByteRange {
    fn header(self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::First(bytes) => Some(format!("bytes=0-{}", bytes.saturating_sub(1))),
            Self::From(offset) => Some(format!("bytes={offset}-")),
        }
    }
}

impl S3Client {
    /// Requests an object, and returns once its response has begun.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not return the object.
    pub async fn get(&self, request: ObjectRequest<'_>) -> Result<S3Object, S3Error> {
        let call = self.sdk().get_object().bucket(self.bucket());
        let call = call
            .key(request.key)
            .set_range(request.range.header())
            .set_if_match(request.if_match.map(str::to_owned))
            .set_checksum_mode(match request.checksum {
                ServiceChecksum::Verified => Some(ChecksumMode::Enabled),
                ServiceChecksum::Ignored => None,
            });
        let answer = self.call(call.send()).await?;
        Ok(S3Object {
            etag: non_empty(answer.e_tag),
            content_range: answer.content_range,
            content_length: answer
                .content_length
                .and_then(|length| u64::try_from(length).ok()),
            body: S3Body(answer.body),
        })
    }

    /// Reads an object whole, verified by S3's checksum.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not return the object, or returns it without an `ETag`: without one, a later
    /// write could have no precondition.
    pub async fn get_whole(&self, key: &str) -> Result<WholeObject, S3Error> {
        let request = ObjectRequest::whole(key, ServiceChecksum::Verified);
        let answer = self.get(request).await?;
        let etag = answer.etag.ok_or_else(S3Error::missing_etag)?;
        let body = answer.body.0.collect().await;
        let body = body.map_err(|error| S3Error::of_body(&error))?;
        Ok(WholeObject {
            etag: ETag(etag),
            body: body.to_vec(),
        })
    }
}

impl S3Body {
    /// Returns the next bytes, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, S3Error>> {
        let part = self.0.next().await?;
        Some(part.map_err(|error| S3Error::of_body(&error)))
    }
}

/// Returns the `ETag` unless it is empty: the SDK sends no `If-Match` for an empty one.
pub(super) fn non_empty(etag: Option<String>) -> Option<String> {
    etag.filter(|etag| !etag.is_empty())
}
