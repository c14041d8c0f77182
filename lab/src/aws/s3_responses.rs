//! Responses of a failing S3: errors, slow or truncated bodies, and stale lists.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use s3s::{Body, HttpResponse};
use tokio::time;

/// Interval between two chunks of a slow body.
const SLOW_BODY_STEP: Duration = Duration::from_millis(100);

/// Timeout for sending the part before the truncation.
const SEND_TIMEOUT: Duration = Duration::from_millis(50);

/// Error that closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here")]
pub(super) struct ConnectionClosed;

/// Returns an S3 error response.
pub(super) fn error_answer(status: StatusCode, code: &str) -> HttpResponse {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>injected: {code}</Message></Error>"
    );
    let mut response = Response::new(whole(Bytes::from(text)));
    *response.status_mut() = status;
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, xml);
    response
}

/// Returns the 503 Slow Down response.
pub(super) fn slow_down() -> HttpResponse {
    error_answer(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")
}

/// Returns the response with its body truncated at a percentage.
pub(super) async fn cut_body(answer: HttpResponse, percent: u8) -> HttpResponse {
    with_body(answer, |bytes| {
        let length = bytes.len() * usize::from(percent) / 100;
        let part = bytes.slice(..length.min(bytes.len()));
        let begin = stream::iter([Ok(Frame::data(part))]);
        // The part before the truncation is sent only after a pause.
        let end = stream::once(async {
            time::sleep(SEND_TIMEOUT).await;
            Err(ConnectionClosed)
        });
        Body::http_body_unsync(StreamBody::new(stream::StreamExt::chain(begin, end)))
    })
    .await
}

/// Returns the response with its body limited to a rate in bytes per second.
pub(super) async fn slow(answer: HttpResponse, bytes_per_second: u64) -> HttpResponse {
    let step = u64::try_from(SLOW_BODY_STEP.as_millis()).unwrap_or(u64::MAX);
    let at_once = usize::try_from(bytes_per_second * step / 1_000).unwrap_or(usize::MAX);
    with_body(answer, move |bytes| {
        let frames = stream::unfold(bytes, move |mut left| async move {
            if left.is_empty() {
                return None;
            }
            time::sleep(SLOW_BODY_STEP).await;
            let part = left.split_to(at_once.clamp(1, left.len()));
            Some((Ok::<_, Infallible>(Frame::data(part)), left))
        });
        Body::http_body_unsync(StreamBody::new(frames))
    })
    .await
}

/// Returns the time that a body of `bytes` takes at a rate in bytes per second.
pub(super) fn transfer(bytes: usize, bytes_per_second: u64) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    Duration::from_millis(bytes.saturating_mul(1_000) / bytes_per_second.max(1))
}

/// Returns the list without the objects that are `new`, and without prefixes that contain only
/// those. Both paths start with the bucket name.
pub(super) async fn stale(
    answer: HttpResponse,
    bucket: &str,
    new: &[String],
    old: &[String],
) -> HttpResponse {
    let (mut parts, body) = answer.into_parts();
    let Ok(body) = body.collect().await else {
        return error_answer(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    };
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let path = |name: &str| format!("/{bucket}/{name}");
    let text = without(&text, "Contents", "Key", |key| new.contains(&path(key)));
    let text = without(&text, "CommonPrefixes", "Prefix", |prefix| {
        let below = |text: &&String| text.starts_with(&path(prefix));
        new.iter().any(|new| below(&new)) && !old.iter().any(|old| below(&old))
    });
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, whole(Bytes::from(text)))
}

/// Returns the text without the elements `name` whose first `inner` element is hidden.
fn without(text: &str, name: &str, inner: &str, hidden: impl Fn(&str) -> bool) -> String {
    let open = format!("<{name}>");
    let close = format!("</{name}>");
    let mut kept = String::new();
    let mut left = text;
    while let Some((before, rest)) = left.split_once(&open) {
        let Some((element, after)) = rest.split_once(&close) else {
            break;
        };
        kept.push_str(before);
        let value = element
            .split_once(&format!("<{inner}>"))
            .and_then(|(_before, value)| value.split_once(&format!("</{inner}>")))
            .map_or("", |(value, _after)| value);
        if !hidden(value) {
            kept.extend([&open, element, &close]);
        }
        left = after;
    }
    kept + left
}

async fn with_body(answer: HttpResponse, change: impl FnOnce(Bytes) -> Body) -> HttpResponse {
    let (mut parts, body) = answer.into_parts();
    let Ok(body) = body.collect().await else {
        return error_answer(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    };
    let bytes = body.to_bytes();
    parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
    Response::from_parts(parts, change(bytes))
}

fn whole(bytes: Bytes) -> Body {
    Body::http_body(Full::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_list_then_without_new_objects_and_prefixes() {
        let list = "<R><Contents><Key>a/1</Key></Contents><Contents><Key>a/2</Key></Contents>\
                    <CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>\
                    <CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes></R>";
        let answer = Response::new(whole(Bytes::from(list)));
        let new = ["/bucket/a/2".to_owned(), "/bucket/b/1".to_owned()];
        let old = ["/bucket/a/1".to_owned()];

        let seen = stale(answer, "bucket", &new, &old).await;
        let seen = seen.into_body().collect().await.unwrap().to_bytes();
        let expected = "<R><Contents><Key>a/1</Key></Contents>\
                        <CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes></R>";
        assert_eq!(String::from_utf8_lossy(&seen), expected);
    }
}
