//! A large object, stored part by part while it is still being made.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use ha_runtime::retry;
use tokio::time::Instant;
use tracing::warn;

use crate::object_store::{Bucket, Created, PAUSES, StoreError, judge};

/// How large a part is. S3 takes 10,000 parts of at least 5 MiB, so an object may reach 80 GiB; two
/// buckets hold a few of them in memory at a time.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// For how long a call is tried in a bucket that has answered before. A backup can wait longer than
/// PostgreSQL's archiver.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);

/// For how long it is tried in one that has not: a region that is down when a backup begins is likely
/// to stay so, and the other buckets wait meanwhile.
pub(crate) const IMPATIENT: Duration = Duration::from_secs(5);

/// One object on its way into one bucket. A small one is stored by a single call.
#[derive(Debug)]
pub(crate) struct Upload {
    bucket: Bucket,
    key: String,
    patience: Duration,
    multipart: Option<Multipart>,
}

#[derive(Debug)]
struct Multipart {
    id: String,
    parts: Vec<CompletedPart>,
}

impl Upload {
    /// Begins to store the object `key`, trying each call for as long as `patience`.
    pub(crate) fn new(bucket: Bucket, key: String, patience: Duration) -> Self {
        Self {
            bucket,
            key,
            patience,
            multipart: None,
        }
    }

    /// Stores one part that is not the last.
    pub(crate) async fn part(&mut self, body: Bytes) -> Result<(), StoreError> {
        let mut multipart = match self.multipart.take() {
            Some(begun) => begun,
            None => self.begin().await?,
        };
        let number = i32::try_from(multipart.parts.len() + 1).unwrap_or(i32::MAX);
        let sent = self.send(&multipart.id, number, &body).await;
        if let Ok(part) = &sent {
            multipart.parts.push(part.clone());
        }
        self.multipart = Some(multipart);
        sent.map(drop)
    }

    /// Stores the last part, after which the object exists.
    pub(crate) async fn finish(mut self, last: Bytes) -> Result<Created, StoreError> {
        if self.multipart.is_none() {
            let deadline = Instant::now() + self.patience;
            return self.bucket.create_until(deadline, &self.key, &last).await;
        }
        let finished = match self.part(last).await {
            Ok(()) => self.complete().await,
            Err(error) => Err(error),
        };
        if finished.is_err() {
            self.abandon().await;
        }
        finished
    }

    /// Removes the parts stored so far. What a killed process leaves is removed by the bucket's
    /// lifecycle rule for incomplete uploads.
    pub(crate) async fn abandon(self) {
        let Some(multipart) = self.multipart else {
            return;
        };
        let Bucket { name, client, .. } = &self.bucket;
        let call = client.abort_multipart_upload().bucket(name).key(&self.key);
        if call.upload_id(multipart.id).send().await.is_err() {
            warn!(bucket = %name, key = %self.key, "parts of an abandoned upload are left to the lifecycle rule");
        }
    }

    async fn begin(&self) -> Result<Multipart, StoreError> {
        let Bucket { name, client, .. } = &self.bucket;
        let deadline = Instant::now() + self.patience;
        let id = retry::until(deadline, PAUSES, judge, || async {
            let call = client.create_multipart_upload().bucket(name).key(&self.key);
            let answer = call.send().await;
            let answer = answer.map_err(|it| self.bucket.failed("begin", &self.key, it))?;
            let no_id = || {
                self.bucket
                    .refused("begin", &self.key, "it gave no upload id")
            };
            answer.upload_id.ok_or_else(no_id)
        });
        Ok(Multipart {
            id: id.await?,
            parts: Vec::new(),
        })
    }

    async fn send(&self, id: &str, number: i32, body: &Bytes) -> Result<CompletedPart, StoreError> {
        let Bucket { name, client, .. } = &self.bucket;
        let deadline = Instant::now() + self.patience;
        let sent = retry::until(deadline, PAUSES, judge, || async {
            let call = client.upload_part().bucket(name).key(&self.key);
            let call = call.upload_id(id).part_number(number);
            let answer = call.body(ByteStream::from(body.clone())).send().await;
            answer.map_err(|it| self.bucket.failed("take a part of", &self.key, it))
        });
        let sent = sent.await?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .build())
    }

    async fn complete(&self) -> Result<Created, StoreError> {
        let Some(multipart) = &self.multipart else {
            return Err(self
                .bucket
                .refused("complete", &self.key, "it was not begun"));
        };
        let Bucket { name, client, .. } = &self.bucket;
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(multipart.parts.clone()))
            .build();
        let deadline = Instant::now() + self.patience;
        retry::until(deadline, PAUSES, judge, || async {
            let call = client.complete_multipart_upload();
            let call = call.bucket(name).key(&self.key).upload_id(&multipart.id);
            let call = call.if_none_match("*").multipart_upload(parts.clone());
            match call.send().await {
                Ok(_) => Ok(Created::New),
                Err(error) => self.bucket.or_already_there(&self.key, error),
            }
        })
        .await
    }
}
