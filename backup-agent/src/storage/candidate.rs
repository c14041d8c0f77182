//! One bucket that may have an object, and whether its answer is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use causeway_runtime::retry::RetryBackoff;
use tokio::time::Instant;

use crate::storage::bucket::{Bucket, RETRY_POLICY};

/// How long the nearest bucket has to begin its answer before the next is asked as well.
const HEDGE_AFTER: Duration = Duration::from_millis(200);

/// How many bytes a second an answer must bring, once it has had `HEDGE_SLOW_AFTER`, so that no other
/// bucket is asked as well.
pub(crate) const HEDGE_BYTES_PER_SEC: u64 = 256 << 10;
pub(crate) const HEDGE_SLOW_AFTER: Duration = Duration::from_secs(2);

/// How far one answer has come.
#[derive(Debug, Default)]
pub(super) struct AnswerProgress {
    pub(super) begun: AtomicBool,
    pub(super) bytes: AtomicU64,
}

/// What became of asking a bucket.
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

/// One bucket that may have the object.
#[derive(Debug)]
pub(super) struct BucketCandidate<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) avoided: bool,
    pub(super) backoff: RetryBackoff,
    pub(super) damaged: u32,
    pub(super) state: CandidateState,
}

impl<'a> BucketCandidate<'a> {
    /// Returns a bucket that was not asked yet; `avoided` if it did not answer a moment ago.
    pub(super) fn new(bucket: &'a Bucket, avoided: bool) -> Self {
        Self {
            bucket,
            avoided,
            backoff: RETRY_POLICY.backoff(),
            damaged: 0,
            state: CandidateState::NotAsked,
        }
    }

    /// Says whether the bucket said that it has nothing.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state, CandidateState::Absent)
    }

    /// Says whether nothing more comes of the bucket.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, CandidateState::Absent | CandidateState::Failed)
    }

    /// Returns since when the bucket has been asked without a beginning of its answer.
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

    /// Says whether the bucket was asked and is not slow.
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
