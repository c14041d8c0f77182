//! All buckets of a cluster: where an object is stored, and where it is read when a region is
//! unavailable.

use std::time::Duration;

use causeway_runtime::aws::AwsConnections;
use causeway_runtime::retry::RetryClass;
use causeway_runtime::telemetry::chain;
use tracing::warn;

use crate::config::Config;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::bucket_health::BucketHealth;
use crate::storage::call_limits::CallLimits;
use crate::storage::store_error::StoreError;

/// Timeouts of the WAL commands. A promotion waits for several of them in a row, and connecting
/// inside of Europe takes at most a tenth of this.
pub(crate) const BRIEF: CallLimits = CallLimits {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(8),
    retry: Duration::from_secs(20),
};

/// Timeouts of a backup and of a restore.
pub(crate) const LONG: CallLimits = CallLimits {
    connect: Duration::from_secs(3),
    answer: Duration::from_secs(20),
    retry: Duration::from_hours(1),
};

/// The buckets, nearest first.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    pub(super) all: Vec<Bucket>,
    pub(super) required: usize,
    pub(super) limits: CallLimits,
    pub(super) health: BucketHealth,
}

impl Buckets {
    /// Returns clients of all configured buckets.
    pub(crate) async fn new(config: &Config, limits: CallLimits) -> Self {
        let connections = AwsConnections::default();
        let limits = CallLimits {
            retry: limits.retry.min(config.limits.retry_timeout),
            ..limits
        };
        let health = BucketHealth::of(config);
        let mut all = Vec::new();
        for bucket in &config.buckets {
            all.push(Bucket::new(bucket, &connections, limits, &health).await);
        }
        Self {
            all,
            required: config.required_buckets,
            limits,
            health,
        }
    }

    /// Keeps only the buckets that `from` names, by their own name or their region's.
    pub(crate) fn only(mut self, from: Option<&str>) -> Result<Self, Error> {
        let Some(from) = from else {
            return Ok(self);
        };
        self.all.retain(|bucket| bucket.is_called(from));
        if self.all.is_empty() {
            let text = format!("`{from}` is neither a bucket nor a region in the settings");
            return Err(Error::Refused(text));
        }
        Ok(self)
    }

    /// Returns the buckets, nearest first.
    pub(crate) fn all(&self) -> &[Bucket] {
        &self.all
    }

    /// Returns the number of buckets that must store an object.
    pub(crate) fn required(&self) -> usize {
        self.required
    }

    /// Returns the retry timeout of a failing call.
    pub(crate) fn retry_timeout(&self) -> Duration {
        self.limits.retry
    }

    /// Returns what this host has recorded of the buckets: missing objects and the times of the
    /// last writes.
    pub(crate) fn health(&self) -> &BucketHealth {
        &self.health
    }

    pub(crate) fn skip_bucket(&self, bucket: &Bucket, error: &StoreError) {
        warn!(bucket = bucket.name(), error = %chain(error), "bucket skipped");
        bucket.record_request(false);
        if error.retry_class() == RetryClass::Transient {
            self.health.record_no_response(bucket.name());
        }
    }
}
