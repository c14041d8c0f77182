//! The SDK's client of one bucket.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{ResponseChecksumValidation, StalledStreamProtectionConfig};
use causeway_runtime::aws::{self, AwsConnections, AwsService, AwsTimeouts, SdkRetries};

/// After how long an upload of which no byte moves is given up, and tried again.
const UPLOAD_STALL: Duration = Duration::from_secs(20);

/// The SDK's own limit of a call, which knows nothing of its size: longer than any call of ours.
const NO_LIMIT: Duration = Duration::from_hours(24);

/// How long a call to a bucket may take, beside the time that its bytes need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// Until a connection stands.
    pub(crate) connect: Duration,
    /// Until an answer comes, or its next bytes do.
    pub(crate) answer: Duration,
    /// For how long a call that fails is tried again.
    pub(crate) retry: Duration,
}

/// Returns a client, which shares `connections`. Nothing is sent yet.
pub(super) async fn client(
    service: &AwsService,
    connections: &AwsConnections,
    limits: CallLimits,
) -> Client {
    let patience = AwsTimeouts {
        connect: limits.connect,
        attempt: NO_LIMIT,
    };
    let client = aws::s3_over(connections, service, SdkRetries::Off, patience).await;
    let stalls = StalledStreamProtectionConfig::enabled()
        .download_enabled(false)
        .upload_enabled(true)
        .grace_period(UPLOAD_STALL);
    // What is read is authenticated, which says more about it than S3's checksum does, and says it as
    // what it is: damage, and not a call to repeat.
    let settings = client
        .config()
        .to_builder()
        .stalled_stream_protection(stalls.build())
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(settings)
}
