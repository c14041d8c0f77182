//! Failed call to a bucket: what it did not do, for which object, and why.

use std::error::Error;
use std::fmt;

use causeway_runtime::retry::RetryClass;
use causeway_runtime::s3::S3ErrorKind;

/// Failed call to a bucket.
#[derive(Debug)]
pub(crate) struct StoreError {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) doing: &'static str,
    pub(super) kind: S3ErrorKind,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// Returns the meaning of the error.
    pub(crate) fn kind(&self) -> S3ErrorKind {
        self.kind
    }

    /// Returns the name of the bucket.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns whether the call is worth repeating. Every call of the archive is safe to repeat.
    pub(crate) fn retry_class(&self) -> RetryClass {
        self.kind.retry_class()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bucket, key, doing, ..
        } = self;
        write!(f, "bucket `{bucket}` did not {doing} `{key}`")
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}
