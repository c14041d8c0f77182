//! One set of credentials, regions and endpoints for everything at AWS.

mod connections;

pub use connections::{AwsConnections, CaCertificates, CaCertificatesError};

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use serde::Deserialize;

/// Where an AWS service is reached, as a settings file says it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AwsService {
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// Another address than AWS's own, such as the lab's; a bucket is then a part of the path and
    /// not of the host name.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The only CA certificates that the endpoint's is checked against, instead of the host's.
    #[serde(default)]
    pub ca_certificate: Option<CaCertificates>,
}

impl AwsService {
    /// Returns whether it is reached through TLS.
    pub fn has_tls(&self) -> bool {
        let endpoint = self.endpoint.as_deref();
        endpoint.is_none_or(|url| url.starts_with("https://"))
    }
}

/// Whether the SDK repeats a call by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdkRetries {
    /// It never does: each answer, or its absence, is the caller's to judge, as with the lease.
    Off,
    /// It does, as AWS advises (three attempts).
    Standard,
}

/// How long one call may take.
#[derive(Clone, Copy, Debug)]
pub struct AwsTimeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// From the request to the end of its answer.
    pub attempt: Duration,
}

/// Returns the settings from which a client of any AWS service is made. Credentials come from the
/// default chain: environment, profile, container or instance role.
pub async fn config(service: &AwsService, retries: SdkRetries, patience: AwsTimeouts) -> SdkConfig {
    load(&AwsConnections::default(), service, retries, patience).await
}

/// Returns a client of S3.
pub async fn s3(
    service: &AwsService,
    retries: SdkRetries,
    patience: AwsTimeouts,
) -> aws_sdk_s3::Client {
    s3_over(&AwsConnections::default(), service, retries, patience).await
}

/// Returns a client of S3 that shares its connections.
pub async fn s3_over(
    connections: &AwsConnections,
    service: &AwsService,
    retries: SdkRetries,
    patience: AwsTimeouts,
) -> aws_sdk_s3::Client {
    let shared = load(connections, service, retries, patience).await;
    let settings = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(service.endpoint.is_some())
        .build();
    aws_sdk_s3::Client::from_conf(settings)
}

async fn load(
    connections: &AwsConnections,
    service: &AwsService,
    retries: SdkRetries,
    patience: AwsTimeouts,
) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(patience.connect)
        .operation_attempt_timeout(patience.attempt)
        .build();
    let retry = match retries {
        SdkRetries::Off => RetryConfig::disabled(),
        SdkRetries::Standard => RetryConfig::standard(),
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(service.region.clone()))
        .http_client(connections.trusting(service.ca_certificate.as_ref()))
        .retry_config(retry)
        .timeout_config(timeouts);
    if let Some(endpoint) = &service.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_can_be_without_tls() {
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
