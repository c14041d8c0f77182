//! Request bodies: JSON of a limited size and depth, received within a timeout.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::sync::SemaphorePermit;
use tokio::time;

use crate::domain::Invalid;
use crate::load_limit::LoadLimit;
use crate::problem::{Kind, Problem};

const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longer bodies are received for as many requests at once as may be in progress. Those of this service
/// have a few hundred bytes.
const SHORT_BODY_BYTES: usize = 4 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const SLOW_BODY: &str = "the body did not arrive within 10 s";

/// Reads the body as one JSON object, and what `read` makes of it. Nesting is limited by `serde_json`,
/// to 128 levels. The object, which may take thirty times the memory of its text, is dropped before this
/// returns. The request counts as in progress once its body has arrived.
/// JSON that is no object, or that breaks a rule of `read`, is rejected with the status `invalid`.
pub(crate) async fn read_object<T>(
    load_limit: &LoadLimit,
    request: Request,
    invalid: StatusCode,
    read: impl FnOnce(&Map<String, Value>) -> Result<T, Vec<Invalid>>,
) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let receiving = time::timeout(BODY_TIMEOUT, receive(load_limit, body));
    let (bytes, _long) = load_limit
        .wait_for_body(receiving)
        .await?
        .map_err(|_elapsed| Problem::new(Kind::RequestTimeout, SLOW_BODY))??;
    let read = match serde_json::from_slice(&bytes).map_err(|error| malformed(&error))? {
        Value::Object(object) => read(&object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let message = "the body must be a JSON object";
            Err(vec![Invalid::new("body", "not-an-object", message)])
        }
    };
    read.map_err(|broken| Problem::invalid(invalid, &broken))
}

/// Receives a body. Each frame is copied: many small ones would keep their whole buffers.
async fn receive(
    load_limit: &LoadLimit,
    mut body: Body,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), Problem> {
    let (mut bytes, mut long) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let cut_off = |_error| Problem::new(Kind::MalformedJson, "the body ended too early");
        let data = frame.map_err(cut_off)?.into_data().unwrap_or(Bytes::new());
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        if bytes.len() + data.len() > SHORT_BODY_BYTES && long.is_none() {
            long = Some(load_limit.begin_long_body()?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, long))
}

/// Names the limit that valid JSON exceeds; `serde_json` distinguishes them only by their text.
fn malformed(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let has = |words: &str| text.contains(words);
    let detail = if has("number out of range") {
        "the body has a number that is too large: numbers go up to about 1.8e308"
    } else if has("surrogate") || has("hex escape") {
        "the body has one half of a surrogate pair, such as \\ud83d alone, which is no character"
    } else if has("recursion limit") {
        "the body is nested too deep: more than 127 levels"
    } else {
        "the body must be JSON"
    };
    Problem::new(Kind::MalformedJson, detail)
}

fn too_large() -> Problem {
    let detail = format!("the body must not be longer than {MAX_BODY_BYTES} bytes");
    Problem::new(Kind::PayloadTooLarge, detail)
}

/// Accepts the types that clients of the earlier services send: JSON, and the default types of `curl -d`
/// and others.
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
    let essence = parts.next().unwrap_or("").trim().to_ascii_lowercase();
    let is_json = matches!(
        essence.as_str(),
        "" | "application/json" | "text/plain" | "application/x-www-form-urlencoded"
    ) || essence.ends_with("+json");
    let is_utf8 = parts.all(|parameter| match parameter.trim().split_once('=') {
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
