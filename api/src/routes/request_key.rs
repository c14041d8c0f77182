//! The key under which a request is carried out once.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::domain::Invalid;
use crate::problem::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_CHARACTERS: usize = 255;
/// What keys that are not UUIDs are hashed with; it must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x8c1f_52d4_0a6e_4c39_9b7d_3e51_f0a8_6d24);

/// Returns the client's key, or a new one, which serves our own tries. Those are made in the order of
/// time, so that they lie together in the index. A key that is no UUID is hashed into one.
///
/// # Errors
///
/// A [`Problem`] when the client's is empty, too long, twice there, or the UUID of nothing.
pub(super) fn request_key(headers: &HeaderMap) -> Result<Uuid, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else {
        return Ok(Uuid::now_v7());
    };
    let broken = |code, message: &str| {
        let broken = Invalid::new("Idempotency-Key", code, message);
        Err(Problem::invalid(StatusCode::BAD_REQUEST, &[broken]))
    };
    let key = unquoted(text(first).trim());
    if given.next().is_some() {
        return broken("repeated", "Idempotency-Key must be sent once");
    }
    if !(1..=MAX_KEY_CHARACTERS).contains(&key.chars().count()) {
        let message = "Idempotency-Key must have 1 to 255 characters";
        return broken("length", message);
    }
    match Uuid::try_parse(&key) {
        Ok(key) if key.is_nil() => broken(
            "nil",
            "Idempotency-Key must not be the nil UUID, which many clients send by mistake",
        ),
        Ok(key) => Ok(key),
        Err(_other) => Ok(Uuid::new_v5(&NAMESPACE, key.as_bytes())),
    }
}

/// Returns the text of a value, which is UTF-8, or Latin-1 as HTTP had it: two keys stay two.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    let bytes = value.as_bytes();
    let latin_1 = || bytes.iter().copied().map(char::from).collect::<String>();
    std::str::from_utf8(bytes).map_or_else(|_| latin_1().into(), Cow::from)
}

/// Takes the quotation marks away that the draft of the header has.
fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inner.map_or_else(
        || text.to_owned(),
        |it| it.replace("\\\"", "\"").replace("\\\\", "\\"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(given: &[&str]) -> Option<Uuid> {
        let given: Vec<_> = given.iter().map(|text| text.as_bytes()).collect();
        key_of_bytes(&given)
    }

    fn key_of_bytes(given: &[&[u8]]) -> Option<Uuid> {
        let mut headers = HeaderMap::new();
        for bytes in given {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(bytes).unwrap());
        }
        request_key(&headers).ok()
    }

    #[test]
    fn keys_in_latin_1_then_each_its_own() {
        let [acute, grave] = [b"cl\xe9", b"cl\xe8"].map(|it| key_of_bytes(&[it]).unwrap());
        assert_ne!(acute, grave);
        assert_eq!(key(&["cl\u{e9}"]), Some(acute));
    }

    #[test]
    fn uuid_then_itself_and_any_other_text_then_hashed() {
        let uuid = Uuid::from_u128(0x7d3c_1a52_0f5e_4c8e_9d2b_5a4f_0e6b_1c3d);
        let quoted = format!("\"{uuid}\"");
        for given in [
            &quoted,
            &uuid.to_string().to_uppercase(),
            &uuid.simple().to_string(),
        ] {
            assert_eq!(key(&[given]), Some(uuid), "{given}");
        }
        // What was stored under a key has to be found again by later versions.
        let stored = key(&["order-123"]).unwrap().to_string();
        assert_eq!(stored, "093fbeae-e098-5a3f-bfb9-f9d6b06ac667");
        assert_eq!(key(&["\"order-123\""]), key(&["order-123"]));
        assert_ne!(key(&[]), key(&[]));
    }
}
