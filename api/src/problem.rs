//! Errors as clients see them (RFC 9457).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::Invalid;

/// Makes the kinds from their table: kind, name, status and title. Each has a page under `/problems/`.
macro_rules! kinds {
    ($($kind:ident, $name:literal, $status:ident, $title:literal;)*) => {
        /// A kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// Every kind, for their pages.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// Returns the kind's name, which metrics and logs use, its status and its title.
            pub(crate) fn describe(self) -> (&'static str, StatusCode, &'static str) {
                match self {
                    $(Self::$kind => ($name, StatusCode::$status, $title),)*
                }
            }
        }
    };
}

kinds! {
    BadRequest, "bad-request", BAD_REQUEST, "The request is malformed";
    MalformedJson, "malformed-json", BAD_REQUEST, "The body is not JSON";
    Validation, "validation", BAD_REQUEST, "A value breaks a rule";
    CrossSite, "cross-site", FORBIDDEN, "The request comes from another site's page";
    NotFound, "not-found", NOT_FOUND, "The path does not exist";
    MethodNotAllowed, "method-not-allowed", METHOD_NOT_ALLOWED,
        "The path does not support this method";
    RequestTimeout, "request-timeout", REQUEST_TIMEOUT, "The request did not arrive in time";
    EmailTaken, "email-taken", CONFLICT, "Another user has this email address";
    KeyReused, "idempotency-key-reused", CONFLICT, "The Idempotency-Key belongs to another request";
    Constraint, "constraint", CONFLICT, "A constraint of the table rejects these values";
    PayloadTooLarge, "payload-too-large", PAYLOAD_TOO_LARGE, "The body is too long";
    UriTooLong, "uri-too-long", URI_TOO_LONG, "The path is too long";
    UnsupportedMediaType, "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "The format of the body is not supported";
    HeaderFieldsTooLarge, "header-fields-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The headers are too many or too long";
    RateLimited, "rate-limited", TOO_MANY_REQUESTS, "The client exceeds the rate limit";
    DatabaseUnavailable, "database-unavailable", SERVICE_UNAVAILABLE,
        "The database is unavailable";
    ReadOnly, "read-only", SERVICE_UNAVAILABLE, "The database is read-only at the moment";
    Overloaded, "overloaded", SERVICE_UNAVAILABLE, "Too many requests are in progress";
    Internal, "internal", INTERNAL_SERVER_ERROR, "The service has a bug";
}

impl Kind {
    /// Returns the path of the page that describes it, which is its `type`.
    pub(crate) fn path(self) -> String {
        format!("/problems/{}", self.describe().0)
    }
}

/// One problem. The middleware adds the request that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    status: StatusCode,
    detail: String,
    errors: Vec<Invalid>,
    /// Seconds after which to retry.
    retry_after: Option<u64>,
}

/// The document of RFC 9457, with extensions.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Invalid],
}

impl Problem {
    /// Returns a problem of this kind. `detail` describes this occurrence, and nothing of the inside of the
    /// service.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (_name, status, _title) = kind.describe();
        Self {
            kind,
            status,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// Returns the problem of values that break rules.
    pub(crate) fn invalid(status: StatusCode, broken: &[Invalid]) -> Self {
        let messages: Vec<&str> = broken
            .iter()
            .map(|invalid| invalid.message.as_str())
            .collect();
        Self {
            status,
            errors: broken.to_vec(),
            ..Self::new(Kind::Validation, messages.join("; "))
        }
    }

    /// Returns the problem of a bug, which the log describes.
    pub(crate) fn internal() -> Self {
        Self::new(Kind::Internal, "the service failed; its log has the reason")
    }

    /// Tells the caller to retry after `wait`.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            retry_after: Some(seconds.max(1)),
            ..self
        }
    }

    /// Returns the document for the request `request_id` to `instance`, a part of `trace_id`.
    pub(crate) fn document(
        &self,
        instance: &str,
        request_id: &str,
        trace_id: Option<&str>,
    ) -> Vec<u8> {
        let (_name, _status, title) = self.kind.describe();
        let document = Document {
            r#type: self.kind.path(),
            title,
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            request_id,
            trace_id,
            errors: &self.errors,
        };
        // Strings and numbers always become JSON.
        serde_json::to_vec(&document).unwrap_or(b"{}".to_vec())
    }
}

impl IntoResponse for Problem {
    /// Returns an answer without a body: the middleware, which has the request, adds it.
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
