//! One bucket: the S3 calls that a backup needs, with their retries and timeouts. No object is ever
//! overwritten.
//!
//! Each call has a retry budget that grows with the bytes that it moves. A timeout counts only
//! while no bytes move, and an interrupted read resumes where it was cut.

use crate::storage::store_error::{StoreError, StoreErrorKind};

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use causeway_runtime::aws::{AwsConnections, AwsService};
use causeway_runtime::retry::{self, RetryBudget, RetryClass, RetryPolicy};
use tokio::time;

use crate::config::buckets::BucketConfig;
use crate::storage::client::{CallLimits, client};

/// Backoff between two attempts of one call. S3 asks for exponential backoff after a 503.
pub(crate) const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(5),
};

/// Minimum transfer rate that is assumed of a link: half a megabit a second. A call may take as
/// long as its bytes need at this rate; an upload of which no byte moves is detected earlier.
const MIN_BYTES_PER_SEC: u64 = 64 << 10;

/// One bucket, in one region.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(super) shared: Arc<BucketState>,
}

#[derive(Debug)]
pub(super) struct BucketState {
    pub(super) name: String,
    pub(super) service: AwsService,
    pub(super) connections: AwsConnections,
    pub(super) limits: CallLimits,
    pub(super) client: RwLock<Client>,
    /// Whether the last call failed after all of its retries.
    pub(super) given_up: AtomicBool,
    /// Set once the service has responded, with an error or not.
    pub(super) reached: AtomicBool,
}

/// Result of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreateOutcome {
    /// The object was created.
    New,
    /// The key has an object: this process's own after a lost response, or another's.
    AlreadyThere,
}

impl Bucket {
    /// Returns a client of the bucket. Sends no request.
    pub(crate) async fn new(
        config: &BucketConfig,
        connections: &AwsConnections,
        limits: CallLimits,
    ) -> Self {
        let client = client(&config.service, connections, limits).await;
        Self {
            shared: Arc::new(BucketState {
                name: config.name.clone(),
                service: config.service.clone(),
                connections: connections.clone(),
                limits,
                client: RwLock::new(client),
                given_up: AtomicBool::new(false),
                reached: AtomicBool::new(false),
            }),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns whether `name` is the name of this bucket or of its region.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name() == name || self.shared.service.region == name
    }

    /// Returns the timeouts of a call.
    pub(crate) fn limits(&self) -> CallLimits {
        self.shared.limits
    }

    /// Returns whether the service has responded to this process, with an error or not.
    pub(crate) fn is_reached(&self) -> bool {
        self.shared.reached.load(Ordering::Relaxed)
    }

    pub(super) fn client(&self) -> Client {
        let client = self.shared.client.read();
        client.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches new credentials. The SDK caches credentials until their stated expiry, and the
    /// service has just rejected them as expired.
    pub(super) async fn renew_credentials(&self) {
        let BucketState {
            service,
            connections,
            limits,
            ..
        } = &*self.shared;
        let client = client(service, connections, *limits).await;
        let current = self.shared.client.write();
        *current.unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Creates the object, unless its key exists.
    pub(crate) async fn create(
        &self,
        key: &str,
        body: &Bytes,
    ) -> Result<CreateOutcome, StoreError> {
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let call = self.client().put_object().bucket(self.name()).key(key);
        let call = call.if_none_match("*").body(ByteStream::from(body.clone()));
        let mut call = call.customize();
        // Over TLS the signature omits the body's hash: the checksum that S3 compares is signed.
        if self.shared.service.has_tls() {
            call = call.disable_payload_signing();
        }
        match self.answer("create", key, length, call.send()).await {
            Ok(answer) if answer.e_tag.is_some() => Ok(CreateOutcome::New),
            // An error inside of a 200: a stored object has an ETag.
            Ok(_) => Err(self.unavailable("create", key, "its response has no ETag")),
            Err(error) if error.kind() == StoreErrorKind::AlreadyThere => {
                Ok(CreateOutcome::AlreadyThere)
            }
            Err(error) => Err(error),
        }
    }

    /// Calls [`create`](Self::create) and retries it while the bucket is unavailable.
    pub(crate) async fn create_retried(
        &self,
        timeout: Duration,
        key: &str,
        body: &Bytes,
    ) -> Result<CreateOutcome, StoreError> {
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        self.retried_for(timeout, length, || self.create(key, body))
            .await
    }

    /// Retries `call`, which moves `bytes`, while the bucket is unavailable.
    pub(super) async fn retried<T, F, Fut>(&self, bytes: u64, call: F) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        self.retried_for(self.limits().retry, bytes, call).await
    }

    pub(super) async fn retried_for<T, F, Fut>(
        &self,
        timeout: Duration,
        bytes: u64,
        call: F,
    ) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        // A command makes several calls in a row. Only the first one waits for an unavailable
        // bucket; the others try once whether it is available again.
        let timeout = if self.is_given_up() {
            Duration::ZERO
        } else {
            timeout
        };
        let budget = RetryBudget {
            timeout,
            transfer: transfer_time(bytes),
        };
        let done = retry::within(budget, RETRY_POLICY, StoreError::retry_class, call).await;
        let is_away = |error: &StoreError| error.retry_class() == RetryClass::Transient;
        let given_up = done.as_ref().is_err_and(is_away);
        self.shared.given_up.store(given_up, Ordering::Relaxed);
        done
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.shared.given_up.load(Ordering::Relaxed)
    }

    /// Returns the response to a call that moves `bytes`, within the time of a transfer and a
    /// response. The SDK's futures are large: they are boxed once, here.
    pub(super) fn answer<T, E>(
        &self,
        doing: &'static str,
        key: &str,
        bytes: u64,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> impl Future<Output = Result<T, StoreError>>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let call = Box::pin(call);
        async move {
            let Ok(answer) = time::timeout(self.call_limit(bytes), call).await else {
                return Err(self.silent(doing, key));
            };
            let is_answer = |error: &SdkError<E, HttpResponse>| error.raw_response().is_some();
            if answer.as_ref().err().is_none_or(is_answer) {
                self.shared.reached.store(true, Ordering::Relaxed);
            }
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let kind = StoreError::kind_of(&error);
            if kind == StoreErrorKind::StaleCredentials {
                Box::pin(self.renew_credentials()).await;
            }
            Err(StoreError {
                kind,
                ..self.refused(doing, key, error)
            })
        }
    }

    pub(super) fn call_limit(&self, bytes: u64) -> Duration {
        let CallLimits {
            connect, answer, ..
        } = self.limits();
        let answer = if self.is_given_up() { connect } else { answer };
        answer + transfer_time(bytes)
    }

    /// Returns the error of a response body that ended early.
    pub(crate) fn broken_off(
        &self,
        key: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        self.unavailable("return all of", key, source)
    }

    /// Returns the error of a call that timed out.
    pub(crate) fn silent(&self, doing: &'static str, key: &str) -> StoreError {
        self.unavailable(doing, key, "it did not respond in time")
    }

    pub(super) fn unavailable(
        &self,
        doing: &'static str,
        key: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Unavailable,
            ..self.refused(doing, key, source)
        }
    }

    pub(super) fn refused(
        &self,
        doing: &'static str,
        key: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        StoreError {
            bucket: self.name().to_owned(),
            key: key.to_owned(),
            doing,
            kind: StoreErrorKind::Refused,
            source: source.into(),
        }
    }
}

/// Returns the maximum transfer time of `bytes`.
fn transfer_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / MIN_BYTES_PER_SEC)
}
