//! Client of the lease store: an S3 bucket with conditional writes.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use causeway_core::agent::{LeaseReadResult, LeaseWriteResult};
use causeway_core::lease::{ETag, LeaseFormatError, LeaseRecord, LeaseStoreId, WritePrecondition};
use causeway_runtime::aws::{self, AwsService, AwsTimeouts, SdkRetries};

use crate::config::Settings;

/// Objects of one cluster in the lease bucket.
#[derive(Clone, Debug)]
pub(crate) struct LeaseStore {
    client: Client,
    bucket: String,
    cluster: String,
    patience: Duration,
}

/// Error of the lease store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseStoreError {
    /// The request failed or got no response.
    #[error("could not use the lease bucket `{bucket}`: {reason}")]
    Unreachable {
        /// Bucket.
        bucket: String,
        /// Kind of error: S3's code, if there is one.
        reason: String,
    },
    /// The precondition of a write failed.
    #[error("`{0}` was changed by another writer: retry")]
    Conflict(String),
    /// The bucket accepts writes whose precondition fails.
    #[error(
        "the bucket `{0}` takes a write although `If-None-Match: *` or `If-Match` does not hold, so it cannot keep a \
         lease: use Amazon S3, or a store that honours conditional writes"
    )]
    NotConditional(String),
    /// A response has no `ETag`. Without one, a later write could have no precondition.
    #[error(
        "the bucket `{bucket}` returned no ETag for `{key}`: use Amazon S3, or a store that returns one"
    )]
    MissingETag {
        /// Bucket.
        bucket: String,
        /// Key of the object.
        key: String,
    },
    /// The lease object cannot be parsed or trusted.
    #[error(transparent)]
    Unreadable(#[from] LeaseFormatError),
}

/// Object and its `ETag`.
#[derive(Clone, Debug)]
pub(crate) struct StoredObject {
    pub(crate) etag: ETag,
    pub(crate) body: Vec<u8>,
}

impl LeaseStore {
    /// Creates the client of the configured store; sends no request.
    pub(crate) async fn open(settings: &Settings) -> Self {
        Self::open_at(settings, &settings.lease.store_id()).await
    }

    /// Creates the client of another store of the cluster, such as a previous one.
    pub(crate) async fn open_at(settings: &Settings, store: &LeaseStoreId) -> Self {
        let patience = settings.timing.request_timeout;
        let times = AwsTimeouts {
            connect: patience,
            attempt: patience,
        };
        let service = AwsService {
            region: store.region.clone(),
            endpoint: store.endpoint.clone(),
            ca_certificate: None,
        };
        let client = aws::s3(&service, SdkRetries::Off, times).await;
        let bucket = store.bucket.clone();
        Self {
            client,
            bucket,
            cluster: settings.cluster.clone(),
            patience,
        }
    }

    /// Returns the client with these credentials instead of the environment's.
    #[cfg(test)]
    pub(crate) fn with_credentials(mut self, credentials: aws_sdk_s3::config::Credentials) -> Self {
        let config = self.client.config().to_builder();
        self.client = Client::from_conf(config.credentials_provider(credentials).build());
        self
    }

    /// Reads the lease for the agent's state machine.
    pub(crate) async fn read_lease(&self) -> LeaseReadResult {
        match tokio::time::timeout(self.patience, self.read(&self.lease_key())).await {
            Ok(Ok(Some(stored))) => match LeaseRecord::parse(&stored.body) {
                Ok(record) => LeaseReadResult::Found(stored.etag, Box::new(record)),
                Err(why) => LeaseReadResult::Unusable(why),
            },
            Ok(Ok(None)) => LeaseReadResult::Missing,
            Ok(Err(error)) => {
                tracing::debug!(%error, "reading lease failed");
                LeaseReadResult::Failed
            }
            Err(_elapsed) => LeaseReadResult::Failed,
        }
    }

    /// Writes the lease, and returns the result as far as it is known.
    pub(crate) async fn write_lease(
        &self,
        record: &LeaseRecord,
        condition: &WritePrecondition,
    ) -> LeaseWriteResult {
        let key = self.lease_key();
        let writing = self.write(&key, record.to_body().into_bytes(), condition);
        match tokio::time::timeout(self.patience, writing).await {
            Ok(Ok(etag)) => LeaseWriteResult::Stored(etag),
            Ok(Err(LeaseStoreError::Conflict(_))) => LeaseWriteResult::Rejected,
            Ok(Err(error)) => {
                tracing::debug!(%error, "writing lease failed");
                LeaseWriteResult::Unknown
            }
            Err(_elapsed) => LeaseWriteResult::Unknown,
        }
    }

    /// Reads the lease, if there is one.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError`] when the store does not respond or the object cannot be parsed.
    pub(crate) async fn lease(&self) -> Result<Option<LeaseRecord>, LeaseStoreError> {
        match self.read(&self.lease_key()).await? {
            Some(stored) => Ok(Some(LeaseRecord::parse(&stored.body)?)),
            None => Ok(None),
        }
    }

    /// Reads the lease and its `ETag` for a command that replaces it.
    ///
    /// # Errors
    ///
    /// As for [`Self::lease`].
    pub(crate) async fn version(&self) -> Result<Option<(ETag, LeaseRecord)>, LeaseStoreError> {
        match self.read(&self.lease_key()).await? {
            Some(stored) => Ok(Some((stored.etag, LeaseRecord::parse(&stored.body)?))),
            None => Ok(None),
        }
    }

    /// Replaces the record that `condition` names.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError::Conflict`] when the stored record is another one.
    pub(crate) async fn replace_lease(
        &self,
        record: &LeaseRecord,
        condition: &WritePrecondition,
    ) -> Result<(), LeaseStoreError> {
        let body = record.to_body().into_bytes();
        self.write(&self.lease_key(), body, condition)
            .await
            .map(|_| ())
    }

    /// Reads an object, if it exists.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<StoredObject>, LeaseStoreError> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await;
        let object = match answer {
            Ok(object) => object,
            Err(error) if status(&error) == Some(404) && code(&error) != Some("NoSuchBucket") => {
                return Ok(None);
            }
            Err(error) => return Err(self.unreachable(&error)),
        };
        let etag = self.etag(key, object.e_tag)?;
        let broken =
            |error: aws_sdk_s3::primitives::ByteStreamError| LeaseStoreError::Unreachable {
                bucket: self.bucket.clone(),
                reason: error.to_string(),
            };
        let body = object.body.collect().await.map_err(broken)?.to_vec();
        Ok(Some(StoredObject { etag, body }))
    }

    /// Writes an object if `condition` holds, and returns its `ETag`.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError::Conflict`] when the precondition fails (412), another write is in progress (409), or the object
    /// to match does not exist (404).
    pub(crate) async fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: &WritePrecondition,
    ) -> Result<ETag, LeaseStoreError> {
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(ByteStream::from(body));
        let put = match condition {
            WritePrecondition::Match(etag) => put.if_match(&etag.0),
            WritePrecondition::Missing => put.if_none_match("*"),
        };
        match put.send().await {
            Ok(stored) => self.etag(key, stored.e_tag),
            Err(error)
                if matches!(status(&error), Some(404 | 409 | 412))
                    && code(&error) != Some("NoSuchBucket") =>
            {
                Err(LeaseStoreError::Conflict(key.to_owned()))
            }
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    /// Lists the keys below `prefix` in lexical order, which for operations is the order of their start.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>, LeaseStoreError> {
        let mut keys = Vec::new();
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.unreachable(&error))?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key.clone()),
            );
        }
        keys.sort();
        Ok(keys)
    }

    /// Verifies that the bucket honours preconditions: a second `If-None-Match: *` and an `If-Match` of another `ETag`
    /// must both fail.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError::NotConditional`] when one of them succeeds.
    pub(crate) async fn probe(&self, name: &str) -> Result<(), LeaseStoreError> {
        let key = self.key(&format!("probe-{name}"));
        let body = || b"written to see whether conditional writes are honoured\n".to_vec();
        match self.write(&key, body(), &WritePrecondition::Missing).await {
            Ok(_) | Err(LeaseStoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        let other =
            WritePrecondition::Match(ETag("\"00000000000000000000000000000000\"".to_owned()));
        for condition in [WritePrecondition::Missing, other] {
            match self.write(&key, body(), &condition).await {
                Err(LeaseStoreError::Conflict(_)) => {}
                Ok(_) => return Err(LeaseStoreError::NotConditional(self.bucket.clone())),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the key of an object of this cluster.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("clusters/{}/{name}", self.cluster)
    }

    fn lease_key(&self) -> String {
        self.key("lease")
    }

    /// Creates the first lease of the cluster.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError::Conflict`] when a lease exists.
    pub(crate) async fn create_lease(&self, record: &LeaseRecord) -> Result<(), LeaseStoreError> {
        let body = record.to_body().into_bytes();
        self.write(&self.lease_key(), body, &WritePrecondition::Missing)
            .await
            .map(|_| ())
    }

    fn etag(&self, key: &str, etag: Option<String>) -> Result<ETag, LeaseStoreError> {
        etag.map(ETag).ok_or_else(|| LeaseStoreError::MissingETag {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
        })
    }

    fn unreachable<E: aws_sdk_s3::error::ProvideErrorMetadata>(
        &self,
        error: &SdkError<E>,
    ) -> LeaseStoreError {
        let reason = match error.meta().code() {
            Some(code) => code.to_owned(),
            None => kind(error).to_owned(),
        };
        LeaseStoreError::Unreachable {
            bucket: self.bucket.clone(),
            reason,
        }
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

fn code<E: aws_sdk_s3::error::ProvideErrorMetadata>(error: &SdkError<E>) -> Option<&str> {
    error.code()
}

/// Returns the kind of an error. The SDK's own text may contain headers of the request.
fn kind<E>(error: &SdkError<E>) -> &'static str {
    match error {
        SdkError::ConstructionFailure(_) => {
            "the request could not be made: are there AWS credentials?"
        }
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(_) => "it could not be reached",
        SdkError::ResponseError(_) => "its answer could not be read",
        SdkError::ServiceError(_) => "it answered with an error",
        _ => "it failed",
    }
}
