//! AWS on loopback: S3 in this process, and Route 53 and EC2 by moto.

pub mod ec2;
pub mod plain_s3;
pub mod route53;
pub mod s3;
pub mod s3_faults;
pub mod s3_responses;

use std::net::SocketAddr;

use aws_sdk_s3::config::{BehaviorVersion, Credentials as Provider, Region as SdkRegion};
use causeway_core::Region;
use causeway_runtime::secret::Secret;

/// Access key with which every program of a lab signs its requests.
#[derive(Clone, Debug)]
pub struct Credentials {
    access_key: String,
    secret_key: Secret,
}

impl Credentials {
    /// Generates new credentials.
    pub fn generate() -> Self {
        Self {
            access_key: format!("LAB{:016X}", rand::random::<u64>()),
            secret_key: Secret::new(format!("{:032x}", rand::random::<u128>())),
        }
    }

    /// Returns the credentials of this access key.
    pub fn new(access_key: &str, secret_key: Secret) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_key,
        }
    }

    /// Returns the environment variables of the credentials.
    pub fn environment(&self) -> Vec<(String, String)> {
        let secret = self.secret_key.reveal();
        [
            ("AWS_ACCESS_KEY_ID", self.access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Returns an S3 client of the endpoint at `address`.
    pub fn s3(&self, region: &Region, address: SocketAddr) -> aws_sdk_s3::Client {
        let settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(SdkRegion::new(region.to_string()))
            .credentials_provider(self.provider())
            .endpoint_url(format!("http://{address}"))
            .force_path_style(true)
            .build();
        aws_sdk_s3::Client::from_conf(settings)
    }

    /// Returns a Route 53 client of the endpoint at `address`.
    pub fn route53(&self, address: SocketAddr) -> aws_sdk_route53::Client {
        let settings = aws_sdk_route53::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(SdkRegion::new("us-east-1"))
            .credentials_provider(self.provider())
            .endpoint_url(format!("http://{address}"))
            .build();
        aws_sdk_route53::Client::from_conf(settings)
    }

    fn provider(&self) -> Provider {
        Provider::new(
            &self.access_key,
            self.secret_key.reveal(),
            None,
            None,
            "lab",
        )
    }
}
