//! Calls of a multipart upload.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::client::S3Client;
use super::error::S3Error;
use super::error_kind::S3ErrorKind;
use super::object;

/// Upload that has begun and is neither completed nor aborted.
#[derive(Clone, Debug)]
pub struct StartedUpload {
    key: String,
    id: String,
}

/// Part that the bucket has stored.
#[derive(Clone, Debug)]
pub struct UploadedPart(CompletedPart);

impl S3Client {
    /// Begins the upload of the object `key`.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not begin it.
    pub async fn begin_upload(&self, key: &str) -> Result<StartedUpload, S3Error> {
        let call = self.sdk().create_multipart_upload();
        let call = call.bucket(self.bucket()).key(key);
        let answer = self.call(call.send()).await?;
        let no_id = || {
            let text = "the response has no upload ID";
            S3Error::of_response(S3ErrorKind::Unavailable, text)
        };
        Ok(StartedUpload {
            key: key.to_owned(),
            id: answer.upload_id.ok_or_else(no_id)?,
        })
    }

    /// Uploads one part, whose number is at least 1.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not store it.
    pub async fn put_part(
        &self,
        upload: &StartedUpload,
        number: i32,
        body: Bytes,
    ) -> Result<UploadedPart, S3Error> {
        let call = self.sdk().upload_part().bucket(self.bucket());
        let call = call.key(&upload.key).upload_id(&upload.id);
        let call = call.part_number(number).body(ByteStream::from(body));
        let mut call = call.customize();
        if self.omits_body_hash() {
            call = call.disable_payload_signing();
        }
        let stored = self.call(call.send()).await?;
        let etag = object::non_empty(stored.e_tag).ok_or_else(S3Error::missing_etag)?;
        let part = CompletedPart::builder()
            .part_number(number)
            .e_tag(etag)
            .set_checksum_crc32(stored.checksum_crc32);
        Ok(UploadedPart(part.build()))
    }

    /// Makes the object of its parts, unless its key exists.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not create the object.
    pub async fn complete_upload(
        &self,
        upload: &StartedUpload,
        parts: &[UploadedPart],
    ) -> Result<(), S3Error> {
        let parts = parts.iter().map(|part| part.0.clone()).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let call = self.sdk().complete_multipart_upload();
        let call = call.bucket(self.bucket()).key(&upload.key);
        let call = call.upload_id(&upload.id).if_none_match("*");
        let call = call.multipart_upload(parts.build());
        self.call(call.send()).await.map(drop)
    }

    /// Removes the uploaded parts.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not remove them.
    pub async fn abort_upload(&self, upload: &StartedUpload) -> Result<(), S3Error> {
        let call = self.sdk().abort_multipart_upload();
        let call = call.bucket(self.bucket()).key(&upload.key);
        let call = call.upload_id(&upload.id);
        self.call(call.send()).await.map(drop)
    }
}
