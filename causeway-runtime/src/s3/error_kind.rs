//! Meaning of an S3 response, or of its absence, from the status and the error code in its body.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::retry::RetryClass;

/// Error codes that ask for the same call again, under any status: 400, 403, 503, or 200, where S3 detects the
/// error after its response has begun (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
///
/// `RequestTimeTooSkewed` is among them because correcting the clock resolves it.
const TRANSIENT_CODES: &[&str] = &[
    "BadDigest",
    "BandwidthLimitExceeded",
    "Busy",
    "IncompleteBody",
    "InternalError",
    "InternalFailure",
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
const EXPIRED_CREDENTIALS: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "RequestExpired",
    "TokenRefreshRequired",
];

/// Meaning of an error to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3ErrorKind {
    /// S3 responded that the bucket has no such object.
    NoSuchKey,
    /// The bucket does not exist. This does not pass for a missing object.
    NoSuchBucket,
    /// No such upload: it was completed or aborted.
    NoSuchUpload,
    /// The precondition of the call does not hold: nothing was written.
    PreconditionFailed,
    /// Another conditional write of this key is in progress: nothing was written.
    ConcurrentWrite,
    /// The object exists and has none of the requested bytes.
    OutOfRange,
    /// The credentials are valid and lack the permission, or are unknown.
    AccessDenied,
    /// The credentials have expired. The client has fetched new ones for the next call.
    ExpiredCredentials,
    /// The response asks for a retry: throttling, or an error of the service.
    Unavailable,
    /// No request was sent, or no response arrived.
    Unreachable,
    /// No response, or no rest of it, arrived in time.
    TimedOut,
    /// The response ended early or cannot be parsed: its meaning is unknown.
    CutOff,
    /// The response to a write or a read lacks the `ETag`. A stored object has one: this can be an error inside of
    /// a 200.
    MissingETag,
    /// Any other response: a retry would fail in the same way.
    Rejected,
}

impl S3ErrorKind {
    /// Returns whether the bucket has answered and allowed the call, which failed for its object or its condition.
    pub fn is_usable_bucket(self) -> bool {
        match self {
            Self::NoSuchKey
            | Self::NoSuchUpload
            | Self::PreconditionFailed
            | Self::ConcurrentWrite
            | Self::OutOfRange => true,
            Self::NoSuchBucket
            | Self::AccessDenied
            | Self::ExpiredCredentials
            | Self::Unavailable
            | Self::Unreachable
            | Self::TimedOut
            | Self::CutOff
            | Self::MissingETag
            | Self::Rejected => false,
        }
    }

    /// Returns whether the same call may succeed later.
    pub fn retry_class(self) -> RetryClass {
        match self {
            Self::ConcurrentWrite
            | Self::ExpiredCredentials
            | Self::Unavailable
            | Self::Unreachable
            | Self::TimedOut
            | Self::CutOff
            | Self::MissingETag => RetryClass::Transient,
            Self::NoSuchKey
            | Self::NoSuchBucket
            | Self::NoSuchUpload
            | Self::PreconditionFailed
            | Self::OutOfRange
            | Self::AccessDenied
            | Self::Rejected => RetryClass::Permanent,
        }
    }

    /// Returns whether the service refuses the call itself, whatever the object.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::NoSuchBucket | Self::AccessDenied | Self::Rejected
        )
    }

    /// Classifies an error of the SDK.
    pub(super) fn of_sdk<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata,
    {
        match error {
            SdkError::TimeoutError(_) => Self::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::TimedOut,
            SdkError::ServiceError(answer) => {
                Self::of(answer.raw().status().as_u16(), error.code())
            }
            // It has a status and no code: its meaning is unknown.
            SdkError::ResponseError(_) => Self::CutOff,
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) | _ => {
                Self::Unreachable
            }
        }
    }

    /// Classifies a status and error code.
    pub(super) fn of(status: u16, code: Option<&str>) -> Self {
        match (status, code) {
            (_, Some(code)) if TRANSIENT_CODES.contains(&code) => Self::Unavailable,
            (_, Some(code)) if EXPIRED_CREDENTIALS.contains(&code) => Self::ExpiredCredentials,
            (_, Some("ConditionalRequestConflict" | "OperationAborted")) => Self::ConcurrentWrite,
            // 404 without this code is not S3's: a missing bucket, or another service, must not pass for a missing
            // object.
            (_, Some("NoSuchKey")) => Self::NoSuchKey,
            (_, Some("NoSuchBucket")) => Self::NoSuchBucket,
            (_, Some("NoSuchUpload")) => Self::NoSuchUpload,
            (_, Some("PreconditionFailed")) | (412, _) => Self::PreconditionFailed,
            (_, Some("InvalidRange")) | (416, _) => Self::OutOfRange,
            (_, Some("NotImplemented")) => Self::Rejected,
            (409, _) => Self::ConcurrentWrite,
            (401 | 403, _) => Self::AccessDenied,
            // 200 is a response that could not be parsed.
            (200 | 408 | 429 | 500.., _) => Self::Unavailable,
            _ => Self::Rejected,
        }
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
            let kind = S3ErrorKind::of_sdk(&error);
            assert_eq!(kind, S3ErrorKind::CutOff, "{status}");
            assert_eq!(kind.retry_class(), RetryClass::Transient);
        }
    }

    #[test]
    fn error_code_and_status_then_code_decides() {
        use S3ErrorKind as Kind;
        for (status, code, kind) in [
            (400, Some("RequestTimeout"), Kind::Unavailable),
            (400, Some("ExpiredToken"), Kind::ExpiredCredentials),
            (403, Some("RequestTimeTooSkewed"), Kind::Unavailable),
            (200, Some("InternalError"), Kind::Unavailable),
            (200, None, Kind::Unavailable),
            (503, Some("SlowDown"), Kind::Unavailable),
            (429, None, Kind::Unavailable),
            (502, None, Kind::Unavailable),
            (404, Some("NoSuchKey"), Kind::NoSuchKey),
            (404, Some("NoSuchBucket"), Kind::NoSuchBucket),
            (404, Some("NoSuchUpload"), Kind::NoSuchUpload),
            (404, Some("AnotherService"), Kind::Rejected),
            (404, None, Kind::Rejected),
            (412, None, Kind::PreconditionFailed),
            (412, Some("NoSuchBucket"), Kind::NoSuchBucket),
            (
                409,
                Some("ConditionalRequestConflict"),
                Kind::ConcurrentWrite,
            ),
            (409, Some("OperationAborted"), Kind::ConcurrentWrite),
            (409, None, Kind::ConcurrentWrite),
            (409, Some("SlowDown"), Kind::Unavailable),
            (416, Some("InvalidRange"), Kind::OutOfRange),
            (403, Some("AccessDenied"), Kind::AccessDenied),
            (403, Some("InvalidAccessKeyId"), Kind::AccessDenied),
            (401, None, Kind::AccessDenied),
            (301, Some("PermanentRedirect"), Kind::Rejected),
            (501, Some("NotImplemented"), Kind::Rejected),
        ] {
            assert_eq!(S3ErrorKind::of(status, code), kind, "{status} {code:?}");
        }
    }
}
