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
    let now = ha_runtime::clock::wall().as_millis();
    let now = u64::try_from(now).unwrap_or_default();
    let id = uuid::Builder::from_unix_timestamp_millis(now, &rand::random()).into_uuid();
    let mut buffer = Uuid::encode_buffer();
    let id = id.hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(id).unwrap_or_else(|_never| HeaderValue::from_static("unknown"))
}
