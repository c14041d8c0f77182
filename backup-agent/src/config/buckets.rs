//! `[[buckets]]`: the buckets that store the archive.

use std::path::PathBuf;

use causeway_runtime::aws::{AwsService, CaCertificates};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::error::BackupConfigError;

/// Buckets that store the archive: at least one, the nearest first. No bucket is there twice.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct WrittenBucket {
    /// Name of the bucket.
    name: String,
    /// Its region; `--from` takes the name or the region.
    region: String,
    /// URL of another S3 service than AWS's, addressed path-style.
    endpoint: Option<String>,
    /// CA certificates, in PEM, of an S3 service without a public CA; by default the host's. No others are
    /// trusted then. The check cannot be turned off.
    #[schemars(with = "Option<PathBuf>", extend("format" = "path"))]
    ca_certificate: Option<CaCertificates>,
}

/// Bucket in the validated settings.
#[derive(Clone, Debug)]
pub(crate) struct BucketConfig {
    pub(crate) name: String,
    /// Region and endpoint.
    pub(crate) service: AwsService,
}

/// Validates the buckets and returns them in the same order.
pub(super) fn validated(
    written: Vec<WrittenBucket>,
) -> Result<Vec<BucketConfig>, BackupConfigError> {
    let mut buckets: Vec<BucketConfig> = Vec::new();
    for bucket in written {
        let bucket = bucket.validated()?;
        if buckets.iter().any(|other| other.name == bucket.name) {
            return Err(BackupConfigError::SameBucket(bucket.name));
        }
        buckets.push(bucket);
    }
    Ok(buckets)
}

impl WrittenBucket {
    fn validated(self) -> Result<BucketConfig, BackupConfigError> {
        if !is_bucket_name(&self.name) {
            return Err(BackupConfigError::BucketName(self.name));
        }
        let service = AwsService {
            region: self.region,
            endpoint: self.endpoint,
            ca_certificate: self.ca_certificate,
        };
        if service.ca_certificate.is_some() && !service.has_tls() {
            return Err(BackupConfigError::CaWithoutTls(self.name));
        }
        Ok(BucketConfig {
            name: self.name,
            service,
        })
    }
}

/// Returns whether S3 allows the name (3 to 63 of these characters), which is also safe as a file
/// name.
fn is_bucket_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    (3..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}
