//! One bucket that may have an object, and the progress of its response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use causeway_runtime::retry::RetryBackoff;
use tokio::time::Instant;

use crate::storage::bucket::{Bucket, RETRY_POLICY};

/// Time in which the nearest bucket must begin its response before the next one is queried as well.
const HEDGE_AFTER: Duration = Duration::from_millis(200);

/// Minimum transfer rate of a response after `HEDGE_SLOW_AFTER`, below which another bucket is
/// queried as well.
pub(crate) const HEDGE_BYTES_PER_SEC: u64 = 256 << 10;
pub(crate) const HEDGE_SLOW_AFTER: Duration = Duration::from_secs(2);

/// Progress of one response.
#[derive(Debug, Default)]
pub(super) struct AnswerProgress {
    pub(super) begun: AtomicBool,
    pub(super) bytes: AtomicU64,
}

/// State of the query to a bucket.
#[derive(Debug)]
pub(super) enum CandidateState {
    NotAsked,
    Asked {
        since: Instant,
        progress: Arc<AnswerProgress>,
    },
    Pausing {
        until: Instant,
    },
    Absent,
    Failed,
}

#[derive(Debug)]
pub(super) struct BucketCandidate<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) avoided: bool,
    pub(super) backoff: RetryBackoff,
    pub(super) damaged: u32,
    pub(super) state: CandidateState,
}

impl<'a> BucketCandidate<'a> {
    /// Returns a bucket that has not been queried; `avoided` if it was recently unavailable.
    pub(super) fn new(bucket: &'a Bucket, avoided: bool) -> Self {
        Self {
            bucket,
            avoided,
            backoff: RETRY_POLICY.backoff(),
            damaged: 0,
            state: CandidateState::NotAsked,
        }
    }

    /// Returns whether the bucket responded that it has no such object.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state, CandidateState::Absent)
    }

    /// Returns whether the query is over, with or without the object.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, CandidateState::Absent | CandidateState::Failed)
    }

    /// Returns the time of the query if no response has begun.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        match &self.state {
            CandidateState::Asked { since, progress }
                if !progress.begun.load(Ordering::Relaxed) =>
            {
                Some(*since)
            }
            CandidateState::Asked { .. }
            | CandidateState::NotAsked
            | CandidateState::Pausing { .. }
            | CandidateState::Absent
            | CandidateState::Failed => None,
        }
    }

    /// Returns whether the bucket was queried and is not slow.
    pub(super) fn is_answering(&self, now: Instant) -> bool {
        let CandidateState::Asked { since, progress } = &self.state else {
            return false;
        };
        let elapsed = now.saturating_duration_since(*since);
        if !progress.begun.load(Ordering::Relaxed) {
            return elapsed < HEDGE_AFTER;
        }
        let bytes = progress.bytes.load(Ordering::Relaxed);
        elapsed < HEDGE_SLOW_AFTER || bytes / elapsed.as_secs().max(1) >= HEDGE_BYTES_PER_SEC
    }
}
