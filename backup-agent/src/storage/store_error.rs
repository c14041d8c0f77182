//! Meaning of an S3 response, or of its absence, from the status and the error code in its body.

use std::error::Error;
use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use causeway_runtime::retry::RetryClass;

/// Error codes that ask for the same call again, under any status: 400, 403, 409, 503, or 200,
/// where S3 detects the error after its response has begun
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
///
/// `RequestTimeTooSkewed` is among them because correcting the clock resolves it.
const TRANSIENT_CODES: &[&str] = &[
    "BadDigest",
    "BandwidthLimitExceeded",
    "Busy",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "InternalFailure",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
];

/// Error codes of expired credentials: new ones have to be fetched before the next attempt.
const STALE_CREDENTIALS: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "RequestExpired",
    "TokenRefreshRequired",
];

/// Failed call to a bucket.
#[derive(Debug)]
pub(crate) struct StoreError {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) doing: &'static str,
    pub(super) kind: StoreErrorKind,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

/// Meaning of an error to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreErrorKind {
    /// The bucket responded that it has no such object.
    NotFound,
    /// The key exists, or the condition on it is not met.
    AlreadyThere,
    /// No response, or one that asks for a retry: the same call may succeed later.
    Unavailable,
    /// As `Unavailable`, after new credentials have been fetched.
    StaleCredentials,
    /// No such upload: it was completed or aborted.
    NoSuchUpload,
    /// The object exists and has none of the requested bytes.
    OutOfRange,
    /// A retry would fail in the same way.
    Refused,
}

impl StoreErrorKind {
    /// Classifies a status and error code; both are missing without a response.
    pub(super) fn of(status: Option<u16>, code: Option<&str>) -> Self {
        match (status, code) {
            (_, Some(code)) if TRANSIENT_CODES.contains(&code) => Self::Unavailable,
            (_, Some(code)) if STALE_CREDENTIALS.contains(&code) => Self::StaleCredentials,
            (_, Some("NoSuchKey")) => Self::NotFound,
            (_, Some("NoSuchUpload")) => Self::NoSuchUpload,
            (_, Some("PreconditionFailed")) | (Some(412), _) => Self::AlreadyThere,
            (_, Some("InvalidRange")) | (Some(416), _) => Self::OutOfRange,
            (_, Some("NotImplemented")) => Self::Refused,
            // 200 is a response that could not be parsed; 409 means that another conditional write
            // of this key is in progress. 404 without a code is not S3's: a missing bucket, or
            // another service, must not pass for a missing object.
            (None | Some(200 | 408 | 409 | 429 | 500..), _) => Self::Unavailable,
            (Some(_), _) => Self::Refused,
        }
    }

    /// Returns whether the call is worth repeating. Every call of the archive is safe to repeat.
    pub(crate) fn retry_class(self) -> RetryClass {
        match self {
            Self::Unavailable | Self::StaleCredentials => RetryClass::Transient,
            Self::NotFound
            | Self::AlreadyThere
            | Self::NoSuchUpload
            | Self::OutOfRange
            | Self::Refused => RetryClass::Permanent,
        }
    }
}

impl StoreError {
    pub(crate) fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns the name of the bucket.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns whether the call is worth repeating.
    pub(crate) fn retry_class(&self) -> RetryClass {
        self.kind.retry_class()
    }

    /// Classifies an error of the SDK.
    pub(super) fn kind_of<E>(error: &SdkError<E, HttpResponse>) -> StoreErrorKind
    where
        E: ProvideErrorMetadata,
    {
        // A response whose body ended early has a status and no code: its meaning is unknown.
        if matches!(error, SdkError::ResponseError(_)) {
            return StoreErrorKind::Unavailable;
        }
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        StoreErrorKind::of(status, error.code())
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

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::get_object::GetObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    #[test]
    fn response_cut_off_then_retried_whatever_its_status() {
        for status in [400, 403, 404, 412] {
            let answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
            let error: SdkError<GetObjectError, HttpResponse> =
                SdkError::response_error("end of file before message length reached", answer);
            assert_eq!(
                StoreError::kind_of(&error),
                StoreErrorKind::Unavailable,
                "{status}"
            );
        }
    }

    #[test]
    fn error_code_and_status_then_code_decides() {
        for (status, code, kind) in [
            (
                Some(400),
                Some("RequestTimeout"),
                StoreErrorKind::Unavailable,
            ),
            (
                Some(400),
                Some("ExpiredToken"),
                StoreErrorKind::StaleCredentials,
            ),
            (
                Some(403),
                Some("RequestTimeTooSkewed"),
                StoreErrorKind::Unavailable,
            ),
            (
                Some(200),
                Some("InternalError"),
                StoreErrorKind::Unavailable,
            ),
            (Some(200), None, StoreErrorKind::Unavailable),
            (Some(503), Some("SlowDown"), StoreErrorKind::Unavailable),
            (Some(502), None, StoreErrorKind::Unavailable),
            (None, None, StoreErrorKind::Unavailable),
            (Some(404), Some("NoSuchKey"), StoreErrorKind::NotFound),
            (Some(404), Some("NoSuchBucket"), StoreErrorKind::Refused),
            (Some(404), None, StoreErrorKind::Refused),
            (
                Some(404),
                Some("NoSuchUpload"),
                StoreErrorKind::NoSuchUpload,
            ),
            (Some(412), None, StoreErrorKind::AlreadyThere),
            (Some(416), Some("InvalidRange"), StoreErrorKind::OutOfRange),
            (Some(403), Some("AccessDenied"), StoreErrorKind::Refused),
            (
                Some(301),
                Some("PermanentRedirect"),
                StoreErrorKind::Refused,
            ),
            (Some(501), Some("NotImplemented"), StoreErrorKind::Refused),
        ] {
            assert_eq!(
                StoreErrorKind::of(status, code),
                kind,
                "{status:?} {code:?}"
            );
        }
    }
}
