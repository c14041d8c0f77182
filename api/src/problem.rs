//! Every error as the caller sees it (RFC 9457).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::Invalid;

/// A kind of problem. Each has a page of its own under `/problems/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was sent is not a request of HTTP/1.1 or 1.0.
    BadRequest,
    /// The body is not JSON.
    MalformedJson,
    /// A value breaks a rule.
    Validation,
    /// There is nothing at this path.
    NotFound,
    /// The path does not have this method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// Another user has the email address.
    EmailTaken,
    /// The key of the request belongs to a request that asked for something else.
    KeyReused,
    /// The body is too long.
    PayloadTooLarge,
    /// The path and query are too long.
    UriTooLong,
    /// The body is in a format that is not read here.
    UnsupportedMediaType,
    /// There are too many headers, or they are too long.
    HeaderFieldsTooLarge,
    /// One client asks too much.
    RateLimited,
    /// No database server answers.
    DatabaseUnavailable,
    /// Database servers answer, but none accepts writes.
    ReadOnly,
    /// Too many requests are being worked on.
    Overloaded,
    /// A mistake in this program.
    Internal,
}

impl Kind {
    /// Every kind, for the pages that describe them.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::MalformedJson,
        Self::Validation,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::EmailTaken,
        Self::KeyReused,
        Self::PayloadTooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::HeaderFieldsTooLarge,
        Self::RateLimited,
        Self::DatabaseUnavailable,
        Self::ReadOnly,
        Self::Overloaded,
        Self::Internal,
    ];

    /// Returns the path that names the kind, its status and its title.
    pub fn describe(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BadRequest => (
                "/problems/bad-request",
                StatusCode::BAD_REQUEST,
                "The request cannot be read",
            ),
            Self::MalformedJson => (
                "/problems/malformed-json",
                StatusCode::BAD_REQUEST,
                "The body is not JSON",
            ),
            Self::Validation => (
                "/problems/validation",
                StatusCode::BAD_REQUEST,
                "A value breaks a rule",
            ),
            Self::NotFound => (
                "/problems/not-found",
                StatusCode::NOT_FOUND,
                "There is nothing here",
            ),
            Self::MethodNotAllowed => (
                "/problems/method-not-allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "This path does not have this method",
            ),
            Self::RequestTimeout => (
                "/problems/request-timeout",
                StatusCode::REQUEST_TIMEOUT,
                "The request did not arrive in time",
            ),
            Self::EmailTaken => (
                "/problems/email-taken",
                StatusCode::CONFLICT,
                "Another user has this email address",
            ),
            Self::KeyReused => (
                "/problems/idempotency-key-reused",
                StatusCode::CONFLICT,
                "The Idempotency-Key belongs to another request",
            ),
            Self::PayloadTooLarge => (
                "/problems/payload-too-large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too long",
            ),
            Self::UriTooLong => (
                "/problems/uri-too-long",
                StatusCode::URI_TOO_LONG,
                "The path is too long",
            ),
            Self::UnsupportedMediaType => (
                "/problems/unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is in a format that is not read here",
            ),
            Self::HeaderFieldsTooLarge => (
                "/problems/header-fields-too-large",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The headers are too many or too long",
            ),
            Self::RateLimited => (
                "/problems/rate-limited",
                StatusCode::TOO_MANY_REQUESTS,
                "One client asks too much",
            ),
            Self::DatabaseUnavailable => (
                "/problems/database-unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The database does not answer",
            ),
            Self::ReadOnly => (
                "/problems/read-only",
                StatusCode::SERVICE_UNAVAILABLE,
                "The database accepts no writes at the moment",
            ),
            Self::Overloaded => (
                "/problems/overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many requests are being worked on",
            ),
            Self::Internal => (
                "/problems/internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "The service made a mistake",
            ),
        }
    }

    /// Returns the label that metrics and logs use.
    pub fn name(self) -> &'static str {
        let (path, _status, _title) = self.describe();
        path.trim_start_matches("/problems/")
    }
}

/// One problem, on its way to a caller. Which request it belongs to is added at the edge.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    /// After how many seconds it is worth asking again.
    retry_after: Option<u64>,
}

/// One field that breaks a rule.
#[derive(Clone, Debug, Serialize)]
struct FieldError {
    field: &'static str,
    code: &'static str,
    message: String,
}

/// The document as RFC 9457 has it, with our extensions.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// Returns a problem of this kind. `detail` tells the caller about this occurrence, and nothing
    /// about the inside of the service.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (_path, status, _title) = kind.describe();
        Self {
            kind,
            status,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// Returns the problem of values that break rules, with the status that the service answers
    /// with.
    pub fn invalid(status: StatusCode, broken: &[Invalid]) -> Self {
        let messages: Vec<&str> = broken.iter().map(|it| it.message.as_str()).collect();
        let errors = broken.iter().map(|it| FieldError {
            field: it.field,
            code: it.code,
            message: it.message.clone(),
        });
        Self {
            status,
            errors: errors.collect(),
            ..Self::new(Kind::Validation, messages.join("; "))
        }
    }

    /// Tells the caller to ask again after `wait`.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            retry_after: Some(seconds.max(1)),
            ..self
        }
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the document for the request `request_id` to `instance`, a part of `trace_id`.
    pub(crate) fn document(
        &self,
        instance: &str,
        request_id: &str,
        trace_id: Option<&str>,
    ) -> Vec<u8> {
        let (path, _status, title) = self.kind.describe();
        let document = Document {
            r#type: path,
            title,
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            request_id,
            trace_id,
            errors: &self.errors,
        };
        // Strings and numbers always become JSON.
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    /// Returns an answer without a body: the edge, which knows the request, writes it.
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let mut response = (self.status, headers).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
