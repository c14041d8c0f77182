//! One bucket: the S3 calls that a backup needs, with their retries and timeouts. No object is ever
//! overwritten.
//!
//! Each call has a retry budget that grows with the bytes that it moves. A timeout counts only
//! while no bytes move, and an interrupted read resumes where it was cut.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use causeway_core::lease::WritePrecondition;
use causeway_runtime::aws::AwsConnections;
use causeway_runtime::retry::{self, RetryBudget, RetryClass, RetryPolicy};
use causeway_runtime::s3::{S3Client, S3Error, S3ErrorKind, S3Usage};
use tokio::time;

use crate::config::buckets::BucketConfig;
use crate::storage::bucket_health::BucketHealth;
use crate::storage::call_limits::CallLimits;
use crate::storage::store_error::StoreError;

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
    pub(super) client: S3Client,
    pub(super) limits: CallLimits,
    /// Whether the last call failed after all of its retries.
    pub(super) given_up: AtomicBool,
    /// Set once the service has responded, with an error or not.
    pub(super) reached: AtomicBool,
    /// Whether the last request was answered and allowed, as it is recorded.
    recorded: Mutex<Option<bool>>,
    health: BucketHealth,
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
        health: &BucketHealth,
    ) -> Self {
        let connect = limits.connect;
        let usage = S3Usage::Archive { connect };
        Self {
            shared: Arc::new(BucketState {
                client: S3Client::new(&config.name, &config.service, connections, usage).await,
                limits,
                given_up: AtomicBool::new(false),
                reached: AtomicBool::new(false),
                recorded: Mutex::new(health.is_reachable(&config.name)),
                health: health.clone(),
            }),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.client().bucket()
    }

    /// Returns whether `name` is the name of this bucket or of its region.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name() == name || self.client().region() == name
    }

    /// Returns the timeouts of a call.
    pub(crate) fn limits(&self) -> CallLimits {
        self.shared.limits
    }

    /// Returns whether the service has responded to this process, with an error or not.
    pub(crate) fn is_reached(&self) -> bool {
        self.shared.reached.load(Ordering::Relaxed)
    }

    /// Records whether a request was answered and allowed, if the last one was not.
    pub(super) fn record_request(&self, is_reachable: bool) {
        let recorded = self.shared.recorded.lock();
        let mut recorded = recorded.unwrap_or_else(PoisonError::into_inner);
        if recorded.replace(is_reachable) != Some(is_reachable) {
            self.shared.health.record_request(self.name(), is_reachable);
        }
    }

    pub(super) fn client(&self) -> &S3Client {
        &self.shared.client
    }

    /// Creates the object, unless its key exists.
    pub(crate) async fn create(
        &self,
        key: &str,
        body: &Bytes,
    ) -> Result<CreateOutcome, StoreError> {
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let condition = WritePrecondition::Missing;
        let call = self.client().put(key, body.clone(), &condition);
        match self.answer("create", key, length, call).await {
            Ok(_) => Ok(CreateOutcome::New),
            Err(error) if error.kind() == S3ErrorKind::PreconditionFailed => {
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
    /// response.
    pub(super) async fn answer<T>(
        &self,
        doing: &'static str,
        key: &str,
        bytes: u64,
        call: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, StoreError> {
        let Ok(answer) = time::timeout(self.call_limit(bytes), call).await else {
            self.record_request(false);
            return Err(self.timeout_error(doing, key));
        };
        let is_usable = |error: &S3Error| error.kind().is_usable_bucket();
        self.record_request(answer.as_ref().err().is_none_or(is_usable));
        if answer.as_ref().err().is_none_or(S3Error::is_response) {
            self.shared.reached.store(true, Ordering::Relaxed);
        }
        answer.map_err(|error| self.failed(doing, key, error))
    }

    pub(super) fn call_limit(&self, bytes: u64) -> Duration {
        let CallLimits {
            connect, answer, ..
        } = self.limits();
        let answer = if self.is_given_up() { connect } else { answer };
        answer + transfer_time(bytes)
    }

    /// Returns the error of a response body that is no whole object.
    pub(crate) fn incomplete_body_error(&self, key: &str, source: &'static str) -> StoreError {
        self.error(S3ErrorKind::CutOff, "return all of", key, source)
    }

    /// Returns the error of a call that timed out.
    pub(crate) fn timeout_error(&self, doing: &'static str, key: &str) -> StoreError {
        let source = "it did not respond in time";
        self.error(S3ErrorKind::TimedOut, doing, key, source)
    }

    /// Returns the error of an object whose content rules out a retry.
    pub(super) fn refused(
        &self,
        doing: &'static str,
        key: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        self.error(S3ErrorKind::Rejected, doing, key, source)
    }

    /// Returns the error of a failed call.
    pub(super) fn failed(&self, doing: &'static str, key: &str, error: S3Error) -> StoreError {
        self.error(error.kind(), doing, key, error)
    }

    fn error(
        &self,
        kind: S3ErrorKind,
        doing: &'static str,
        key: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        StoreError {
            bucket: self.name().to_owned(),
            key: key.to_owned(),
            doing,
            kind,
            source: source.into(),
        }
    }
}

/// Returns the maximum transfer time of `bytes`.
fn transfer_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / MIN_BYTES_PER_SEC)
}
