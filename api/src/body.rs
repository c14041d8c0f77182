//! Reading a body as JSON, within a length, a depth and a time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::sync::SemaphorePermit;
use tokio::time;

use crate::App;
use crate::domain::Invalid;
use crate::edge;
use crate::problem::{Kind, Problem};

const MAX_BODY_BYTES: usize = 64 * 1024;
/// What is longer is read of as many requests at once as may be worked on. The bodies of all of them
/// are a few hundred bytes.
const SHORT_BODY_BYTES: usize = 4 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body as one JSON object, and what `read` makes of it. Nesting is limited by `serde_json`,
/// to 128 levels. The object itself, which may take thirty times the memory of its text, is gone when
/// this returns. The request counts as one that is worked on once its body is there.
///
/// # Errors
///
/// A [`Problem`] for a body in another format, too long, too slow, or not JSON; and with the status
/// `invalid` for JSON that is not an object, or that breaks a rule of `read`.
pub(crate) async fn read_object<T>(
    app: &App,
    request: Request,
    invalid: StatusCode,
    read: impl FnOnce(&Map<String, Value>) -> Result<T, Vec<Invalid>>,
) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|it| it > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let receiving = time::timeout(BODY_TIMEOUT, receive(app, body));
    let (bytes, _long) = edge::wait_for_body(app, receiving)
        .await?
        .map_err(|_elapsed| too_slow())??;
    let read = match serde_json::from_slice(&bytes).map_err(|it| malformed(&it))? {
        Value::Object(object) => read(&object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let message = "the body must be a JSON object";
            Err(vec![Invalid::new("body", "not-an-object", message)])
        }
    };
    read.map_err(|broken| Problem::invalid(invalid, &broken))
}

/// Copies each frame: a body of many small ones would keep the buffers of all of them.
async fn receive(
    app: &App,
    mut body: Body,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), Problem> {
    let (mut bytes, mut long) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let cut_off = |_error| Problem::new(Kind::MalformedJson, "the body ended too early");
        let data = frame.map_err(cut_off)?.into_data().unwrap_or_default();
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        if bytes.len() + data.len() > SHORT_BODY_BYTES && long.is_none() {
            let taken = |_error| edge::overloaded("too many long bodies are on their way");
            long = Some(app.edge.long_bodies.try_acquire().map_err(taken)?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, long))
}

/// Says what cannot be read where JSON itself allows it; `serde_json` tells these apart in words only.
fn malformed(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let says = |words: &str| text.contains(words);
    let detail = if says("number out of range") {
        "the body has a number that is too large: numbers go up to about 1.8e308"
    } else if says("surrogate") || says("hex escape") {
        "the body has one half of a surrogate pair, such as \\ud83d alone, which is no character"
    } else if says("recursion limit") {
        "the body is nested too deep: 127 levels are read"
    } else {
        "the body must be JSON"
    };
    Problem::new(Kind::MalformedJson, detail)
}

fn too_slow() -> Problem {
    let detail = format!(
        "the body did not arrive within {} s",
        BODY_TIMEOUT.as_secs()
    );
    Problem::new(Kind::RequestTimeout, detail)
}

fn too_large() -> Problem {
    let detail = format!("the body must not be longer than {MAX_BODY_BYTES} bytes");
    Problem::new(Kind::PayloadTooLarge, detail)
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
