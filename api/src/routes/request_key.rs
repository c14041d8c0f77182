//! The idempotency key, under which a request is executed once.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::domain::Invalid;
use crate::problem::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_CHARACTERS: usize = 255;
/// The namespace of keys that are not UUIDs; it must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x8c1f_52d4_0a6e_4c39_9b7d_3e51_f0a8_6d24);

/// Returns the client's key, or a new one for the service's own retries. New keys sort by time, so that they
/// are close together in the index. A key that is no UUID is hashed into one.
/// One that is empty, too long, sent twice, or the nil UUID is rejected.
pub(super) fn request_key(headers: &HeaderMap) -> Result<Uuid, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else {
        return Ok(Uuid::now_v7());
    };
    let broken = |code, message: &str| {
        let broken = Invalid::new("Idempotency-Key", code, message);
        Err(Problem::invalid(StatusCode::BAD_REQUEST, &[broken]))
    };
    let text = text(first);
    // The draft of the header requires quotation marks.
    let quoted = text.trim().strip_prefix('"');
    let unquoted = quoted.and_then(|rest| rest.strip_suffix('"'));
    let key = unquoted.unwrap_or(text.trim());
    if given.next().is_some() {
        return broken("repeated", "Idempotency-Key must be sent once");
    }
    if !(1..=MAX_KEY_CHARACTERS).contains(&key.chars().count()) {
        let message = "Idempotency-Key must have 1 to 255 characters";
        return broken("length", message);
    }
    match Uuid::try_parse(key) {
        Ok(key) if key.is_nil() => broken(
            "nil",
            "Idempotency-Key must not be the nil UUID, which many clients send by mistake",
        ),
        Ok(key) => Ok(key),
        Err(_other) => Ok(Uuid::new_v5(&NAMESPACE, key.as_bytes())),
    }
}

/// Decodes a value as UTF-8, or else as Latin-1, as HTTP had it: different keys stay different.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    let bytes = value.as_bytes();
    let latin_1 = || bytes.iter().copied().map(char::from).collect::<String>();
    std::str::from_utf8(bytes).map_or_else(|_| latin_1().into(), Cow::from)
}
