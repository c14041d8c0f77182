//! The id by which a request is found again, in the answer, in problems and in the log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over.
const LONGEST: usize = 128;

/// Returns the caller's id where it is harmless.
pub(super) fn given(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_harmless = |it: &&HeaderValue| {
        let plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
        (1..=LONGEST).contains(&it.len()) && it.as_bytes().iter().all(plain)
    };
    headers.get(REQUEST_ID).filter(is_harmless).cloned()
}

/// Returns an id that sorts by time.
pub(super) fn new() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("unknown"))
}
