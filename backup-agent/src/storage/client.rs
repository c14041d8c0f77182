//! The SDK's client of one bucket.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{ResponseChecksumValidation, StalledStreamProtectionConfig};
use causeway_runtime::aws::{self, AwsConnections, AwsService, AwsTimeouts, SdkRetries};

/// Time after which an upload of which no byte moves is cancelled and retried.
const UPLOAD_STALL: Duration = Duration::from_secs(20);

/// The SDK's own call timeout, which does not depend on the size of the object: longer than any
/// call.
const NO_LIMIT: Duration = Duration::from_hours(24);

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

/// Returns a client that shares `connections`. Sends no request.
pub(super) async fn client(
    service: &AwsService,
    connections: &AwsConnections,
    limits: CallLimits,
) -> Client {
    let timeouts = AwsTimeouts {
        connect: limits.connect,
        attempt: NO_LIMIT,
    };
    let client = aws::s3_over(connections, service, SdkRetries::Off, timeouts).await;
    let stalls = StalledStreamProtectionConfig::enabled()
        .download_enabled(false)
        .upload_enabled(true)
        .grace_period(UPLOAD_STALL);
    // The content is authenticated, which detects more than S3's checksum does and classifies it as
    // damage. A failed checksum would look like a call to retry.
    let settings = client
        .config()
        .to_builder()
        .stalled_stream_protection(stalls.build())
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(settings)
}
