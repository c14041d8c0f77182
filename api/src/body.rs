//! Reading a body as JSON, within a length, a depth and a time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::time::{self, Instant};

use crate::domain::Invalid;
use crate::problem::{Kind, Problem};

/// The longest body.
const LONGEST_BYTES: usize = 64 * 1024;
/// Of a body that is too long this much is read and thrown away, as long as the client sends without
/// a pause, so that one that sends before it listens still hears why. One that sends more is cut off.
const LONGEST_DISCARDED_BYTES: usize = 1024 * 1024;
const PAUSE: Duration = Duration::from_millis(300);
/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body as one JSON object. Nesting is limited by `serde_json`, to 128 levels.
///
/// # Errors
///
/// A [`Problem`] for a body in another format, too long, too slow, or not JSON; and with the status
/// `invalid` for JSON that is not an object.
pub(crate) async fn json_object(
    request: Request,
    invalid: StatusCode,
) -> Result<Map<String, Value>, Problem> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
    let is_too_long = announced.is_some_and(|it| it > LONGEST_BYTES);
    let is_asking = parts.headers.contains_key(header::EXPECT);
    if is_asking && is_too_long {
        return Err(too_large());
    }
    let bytes = read(body, is_too_long).await?;
    let malformed = |_error| Problem::new(Kind::MalformedJson, "the body must be JSON");
    let value: Value = serde_json::from_slice(&bytes).map_err(malformed)?;
    if let Value::Object(object) = value {
        return Ok(object);
    }
    let message = "the body must be a JSON object";
    let broken = Invalid::new("body", "not-an-object", message);
    Err(Problem::invalid(invalid, &[broken]))
}

async fn read(mut body: Body, mut is_too_long: bool) -> Result<Vec<u8>, Problem> {
    let deadline = Instant::now() + TIMEOUT;
    let mut bytes = Vec::new();
    let mut length = 0;
    while length <= LONGEST_DISCARDED_BYTES {
        let until = if is_too_long {
            deadline.min(Instant::now() + PAUSE)
        } else {
            deadline
        };
        let data = match time::timeout_at(until, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(_))) | Err(_) if is_too_long => break,
            Ok(Some(Err(_cut_off))) => {
                let detail = "the body ended too early";
                return Err(Problem::new(Kind::MalformedJson, detail));
            }
            Err(_elapsed) => return Err(too_slow()),
        };
        length += data.len();
        is_too_long |= length > LONGEST_BYTES;
        if !is_too_long {
            bytes.extend_from_slice(&data);
        }
    }
    if is_too_long {
        return Err(too_large());
    }
    Ok(bytes)
}

fn too_slow() -> Problem {
    Problem::new(
        Kind::RequestTimeout,
        format!("the body did not arrive within {} s", TIMEOUT.as_secs()),
    )
}

fn too_large() -> Problem {
    Problem::new(
        Kind::PayloadTooLarge,
        format!("the body must not be longer than {LONGEST_BYTES} bytes"),
    )
}

/// Accepts what clients of the earlier services send: JSON by name, and what `curl -d` and others
/// say when nobody named a type.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail: &str| Problem::new(Kind::UnsupportedMediaType, detail);
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(unsupported("the body must not be compressed"));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let expected = "the body must be JSON in UTF-8; say `Content-Type: application/json`";
    let value = value.to_str().map_err(|_not_ascii| unsupported(expected))?;
    let mut parts = value.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = matches!(
        essence.as_str(),
        "" | "application/json" | "text/plain" | "application/x-www-form-urlencoded"
    ) || essence.ends_with("+json");
    let is_utf8 = parts.all(|it| match it.trim().split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8")
                || value.eq_ignore_ascii_case("utf8")
                || value.eq_ignore_ascii_case("us-ascii")
        }
        _ => true,
    });
    if is_json && is_utf8 {
        return Ok(());
    }
    Err(unsupported(expected))
}
