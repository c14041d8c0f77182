//! The id of a request, in the answer, in problems and in the log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_ID_BYTES: usize = 128;

/// Returns the caller's id, if it is short and has no special characters.
pub(super) fn from_headers(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_accepted = (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(is_plain);
    is_accepted.then(|| id.clone())
}

/// Returns a new id. Ids sort by time.
pub(super) fn new() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("unknown"))
}
