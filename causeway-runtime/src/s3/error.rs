//! Failed call to a bucket.

use std::error::Error;
use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::error_kind::S3ErrorKind;
use crate::telemetry::chain;

/// Failed call to a bucket: its meaning, and a text without the headers of the request, which hold the signature
/// and the session token. The SDK's error, whose `Debug` prints whole requests and responses, is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    kind: S3ErrorKind,
    text: String,
    is_response: bool,
}

impl S3Error {
    /// Returns the meaning of the error.
    pub fn kind(&self) -> S3ErrorKind {
        self.kind
    }

    /// Returns whether the service has responded, if only with this error.
    pub fn is_response(&self) -> bool {
        self.is_response
    }

    /// Returns the error of a failed call.
    pub(super) fn of_sdk<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let kind = S3ErrorKind::of_sdk(&error);
        let is_response = error.raw_response().is_some();
        let text = if let SdkError::ServiceError(answer) = &error {
            let status = || format!("HTTP status {}", answer.raw().status().as_u16());
            let code = error.code().map_or_else(status, str::to_owned);
            with_cause(&code, error.message())
        } else {
            with_cause(text_of(kind), sdk_cause(error).as_deref())
        };
        Self {
            kind,
            text,
            is_response,
        }
    }

    /// Returns the error of a body that ended early.
    pub(super) fn of_body(error: &(dyn Error + 'static)) -> Self {
        let kind = S3ErrorKind::CutOff;
        Self::of_response(kind, with_cause(text_of(kind), Some(&chain(error))))
    }

    /// Returns the error of a response that lacks a part.
    pub(super) fn of_response(kind: S3ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            is_response: true,
        }
    }

    /// Returns the error of a response without an `ETag`.
    pub(super) fn missing_etag() -> Self {
        Self::of_response(S3ErrorKind::MissingETag, "the response has no ETag")
    }

    /// Returns the error with another meaning.
    pub(super) fn with_kind(self, kind: S3ErrorKind) -> Self {
        Self { kind, ..self }
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for S3Error {}

/// Returns the text of an error that is no response of the service.
fn text_of(kind: S3ErrorKind) -> &'static str {
    if kind == S3ErrorKind::TimedOut {
        "no response in time"
    } else if kind == S3ErrorKind::CutOff {
        "the response was cut off"
    } else {
        "no request or response got through"
    }
}

/// Returns the causes that the SDK names, by their `Display`.
fn sdk_cause<E>(error: SdkError<E, HttpResponse>) -> Option<String>
where
    E: Error + Send + Sync + 'static,
{
    let cause = error.into_source().ok()?;
    Some(chain(cause.as_ref()))
}

fn with_cause(text: &str, cause: Option<&str>) -> String {
    match cause {
        Some(cause) => format!("{text}: {cause}"),
        None => text.to_owned(),
    }
}
