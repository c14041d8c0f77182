//! Errors in the settings.

use crate::encryption::keys::KeyError;

/// Invalid settings. The program has changed nothing when this is returned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupConfigError {
    #[error(transparent)]
    File(#[from] causeway_runtime::config::ConfigFileError),
    #[error(transparent)]
    Recipients(#[from] KeyError),
    #[error("`cluster` is invalid")]
    Cluster(#[source] causeway_core::node::InvalidName),
    #[error("there is no `[[buckets]]`: name at least one")]
    NoBucket,
    #[error("`{0}` is not the name of an S3 bucket")]
    BucketName(String),
    #[error("bucket `{0}` is named twice: two copies need two buckets")]
    SameBucket(String),
    #[error(
        "bucket `{0}` has a `ca-certificate` and an `endpoint` without TLS: begin it with `https://`"
    )]
    CaWithoutTls(String),
    #[error("`required-buckets` is {required} and there are {buckets} `[[buckets]]`")]
    TooManyRequired { required: usize, buckets: usize },
    #[error("`postgres` needs exactly one of `socket-directory` and `host`")]
    WhereIsPostgres,
    #[error("`{setting}` is {found}, and must be from {least} to {most}")]
    OutOfRange {
        setting: &'static str,
        found: i64,
        least: i64,
        most: i64,
    },
}
