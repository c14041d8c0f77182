//! Client of the lease store: an S3 bucket with conditional writes.

use std::time::Duration;

use causeway_core::agent::{LeaseReadResult, LeaseWriteResult};
use causeway_core::lease::{ETag, LeaseFormatError, LeaseRecord, LeaseStoreId, WritePrecondition};
use causeway_runtime::aws::{AwsConnections, AwsService};
#[cfg(test)]
use causeway_runtime::s3::StaticCredentials;
use causeway_runtime::s3::{
    ListRequest, ObjectHeaders, S3Client, S3Error, S3ErrorKind, S3Usage, WholeObject,
};

use crate::config::Settings;

/// Content of the object that shows what the bucket does with a write.
const PROBE_BODY: &[u8] = b"written to see whether conditional writes are honoured\n";

/// Objects of one cluster in the lease bucket.
#[derive(Clone, Debug)]
pub(crate) struct LeaseStore {
    client: S3Client,
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
        /// S3's code and message, or the reason why there is no response.
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

impl LeaseStore {
    /// Creates the client of the configured store; sends no request.
    pub(crate) async fn open(settings: &Settings) -> Self {
        Self::open_at(settings, &settings.lease.store_id()).await
    }

    /// Creates the client of another store of the cluster, such as a previous one.
    pub(crate) async fn open_at(settings: &Settings, store: &LeaseStoreId) -> Self {
        let patience = settings.timing.request_timeout;
        let service = AwsService {
            region: store.region.clone(),
            endpoint: store.endpoint.clone(),
            ca_certificate: None,
        };
        let usage = S3Usage::Records { timeout: patience };
        let connections = AwsConnections::default();
        Self {
            client: S3Client::new(&store.bucket, &service, &connections, usage).await,
            cluster: settings.cluster.clone(),
            patience,
        }
    }

    /// Returns the client with these credentials instead of the environment's.
    #[cfg(test)]
    pub(crate) fn with_credentials(self, credentials: StaticCredentials<'_>) -> Self {
        let client = self.client.with_credentials(credentials);
        Self { client, ..self }
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
    pub(crate) async fn read(&self, key: &str) -> Result<Option<WholeObject>, LeaseStoreError> {
        match self.client.get_whole(key).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind() == S3ErrorKind::NoSuchKey => Ok(None),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    /// Writes an object if `condition` holds, and returns its `ETag`.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError::Conflict`] when the precondition fails, the object to match does not exist, or another write
    /// is in progress.
    pub(crate) async fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: &WritePrecondition,
    ) -> Result<ETag, LeaseStoreError> {
        let written = self.client.put(key, body.into(), condition).await;
        let lost = [
            S3ErrorKind::PreconditionFailed,
            S3ErrorKind::ConcurrentWrite,
        ];
        written.map_err(|error| {
            if lost.contains(&error.kind()) {
                LeaseStoreError::Conflict(key.to_owned())
            } else {
                self.failed(key, &error)
            }
        })
    }

    /// Lists the keys below `prefix` in lexical order, which for operations is the order of their start.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>, LeaseStoreError> {
        let mut keys = Vec::new();
        let mut token = None;
        loop {
            let request = ListRequest {
                prefix,
                after: "",
                token: token.as_deref(),
            };
            let page = self.client.list_objects(request).await;
            let page = page.map_err(|error| self.failed(prefix, &error))?;
            keys.extend(page.entries.into_iter().map(|object| object.key));
            token = page.next_token;
            if token.is_none() {
                break;
            }
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
        let key = self.probe_key(name);
        match self
            .write(&key, PROBE_BODY.to_vec(), &WritePrecondition::Missing)
            .await
        {
            Ok(_) | Err(LeaseStoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        let other =
            WritePrecondition::Match(ETag("\"00000000000000000000000000000000\"".to_owned()));
        for condition in [WritePrecondition::Missing, other] {
            match self.write(&key, PROBE_BODY.to_vec(), &condition).await {
                Err(LeaseStoreError::Conflict(_)) => {}
                Ok(_) => return Err(LeaseStoreError::NotConditional(self.bucket())),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Overwrites the object that [`Self::probe`] wrote, and returns the version that it had before. Only a write shows
    /// what the bucket does now: an older object shows what it did then.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError`], as for a write and a read.
    pub(crate) async fn overwrite_probe(
        &self,
        name: &str,
    ) -> Result<Option<String>, LeaseStoreError> {
        let key = self.probe_key(name);
        let before = self.probe_headers(name).await?;
        let stored = self.read(&key).await?;
        let condition = stored.map_or(WritePrecondition::Missing, |stored| {
            WritePrecondition::Match(stored.etag)
        });
        self.write(&key, PROBE_BODY.to_vec(), &condition).await?;
        Ok(before.version_id)
    }

    /// Returns the headers of the object that [`Self::probe`] wrote.
    ///
    /// # Errors
    ///
    /// [`LeaseStoreError::Unreachable`] when there is none or the store does not respond.
    pub(crate) async fn probe_headers(&self, name: &str) -> Result<ObjectHeaders, LeaseStoreError> {
        let key = self.probe_key(name);
        let headers = self.client.object_headers(&key).await;
        headers.map_err(|error| self.failed(&key, &error))
    }

    fn probe_key(&self, name: &str) -> String {
        self.key(&format!("probe-{name}"))
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

    fn bucket(&self) -> String {
        self.client.bucket().to_owned()
    }

    fn failed(&self, key: &str, error: &S3Error) -> LeaseStoreError {
        let bucket = self.bucket();
        if error.kind() == S3ErrorKind::MissingETag {
            let key = key.to_owned();
            return LeaseStoreError::MissingETag { bucket, key };
        }
        LeaseStoreError::Unreachable {
            bucket,
            reason: error.to_string(),
        }
    }
}
