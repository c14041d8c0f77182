//! Settings of clients of AWS services: credentials, regions, endpoints and timeouts.

mod connections;

pub use connections::{AwsConnections, CaCertificates, CaCertificatesError};

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use serde::Deserialize;

/// Location of an AWS service, from a settings file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AwsService {
    /// Region, such as `eu-west-1`.
    pub region: String,
    /// Address of the service, if it is not AWS's, such as the lab's. Buckets are then part of the path, not
    /// of the host name.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Only CA certificates trusted for the endpoint, instead of the host's.
    #[serde(default)]
    pub ca_certificate: Option<CaCertificates>,
}

impl AwsService {
    /// Returns whether it is accessed over TLS.
    pub fn has_tls(&self) -> bool {
        let endpoint = self.endpoint.as_deref();
        endpoint.is_none_or(|url| url.starts_with("https://"))
    }
}

/// Whether the SDK retries a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdkRetries {
    /// Never: the caller handles each response and each timeout, as with the lease.
    Off,
    /// The SDK's standard mode (three attempts).
    Standard,
}

/// Timeouts of one call.
#[derive(Clone, Copy, Debug)]
pub struct AwsTimeouts {
    /// Timeout of connecting.
    pub connect: Duration,
    /// Timeout from the request to the end of its response.
    pub attempt: Duration,
}

/// Returns the settings for a client of any AWS service. Credentials come from the default chain:
/// environment, profile, container or instance role.
pub async fn config(service: &AwsService, retries: SdkRetries, timeouts: AwsTimeouts) -> SdkConfig {
    load(&AwsConnections::default(), service, retries, timeouts).await
}

/// Returns the settings for a client that shares `connections`.
pub(crate) async fn load(
    connections: &AwsConnections,
    service: &AwsService,
    retries: SdkRetries,
    timeouts: AwsTimeouts,
) -> SdkConfig {
    let timeout_config = TimeoutConfig::builder()
        .connect_timeout(timeouts.connect)
        .operation_attempt_timeout(timeouts.attempt)
        .build();
    let retry = match retries {
        SdkRetries::Off => RetryConfig::disabled(),
        SdkRetries::Standard => RetryConfig::standard(),
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(service.region.clone()))
        .http_client(connections.trusting(service.ca_certificate.as_ref()))
        .retry_config(retry)
        .timeout_config(timeout_config);
    if let Some(endpoint) = &service.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_endpoint_then_no_tls() {
        for (endpoint, has_tls) in [
            (None, true),
            (Some("https://s3.example.com:9000"), true),
            (Some("http://127.0.0.1:9000"), false),
            (Some("HTTP://127.0.0.1:9000"), false),
        ] {
            let service = AwsService {
                region: "eu-west-1".to_owned(),
                endpoint: endpoint.map(str::to_owned),
                ca_certificate: None,
            };
            assert_eq!(service.has_tls(), has_tls, "{endpoint:?}");
        }
    }
}
