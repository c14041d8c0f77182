//! The key under which a request is carried out once.

use axum::http::{HeaderMap, HeaderName, StatusCode};
use uuid::Uuid;

use crate::domain::Invalid;
use crate::problem::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Returns the client's key, or a new one, which serves our own tries. Those are made in the order of
/// time, so that they lie together in the index.
///
/// # Errors
///
/// A [`Problem`] when the client's is not one UUID. It may stand between quotation marks, as the
/// draft of the header has it.
pub(super) fn request_key(headers: &HeaderMap) -> Result<Uuid, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else {
        return Ok(Uuid::now_v7());
    };
    let text = first.to_str().unwrap_or_default().trim();
    let text = text
        .strip_prefix('"')
        .and_then(|it| it.strip_suffix('"'))
        .unwrap_or(text);
    match Uuid::try_parse(text) {
        Ok(key) if given.next().is_none() => Ok(key),
        _ => {
            let message = "Idempotency-Key must be one UUID, such as \
                           7d3c1a52-0f5e-4c8e-9d2b-5a4f0e6b1c3d";
            let broken = Invalid::new("Idempotency-Key", "not-a-uuid", message);
            Err(Problem::invalid(StatusCode::BAD_REQUEST, &[broken]))
        }
    }
}
