//! Timeouts of a call to a bucket.

use std::time::Duration;

/// Timeouts of a call to a bucket, in addition to the transfer time of its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// Connecting, including TLS.
    pub(crate) connect: Duration,
    /// Waiting for a response, or for its next bytes.
    pub(crate) answer: Duration,
    /// Retrying a failing call.
    pub(crate) retry: Duration,
}
