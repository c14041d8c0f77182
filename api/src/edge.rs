//! What happens to every request on its way in and to every answer on its way out: an id, limits,
//! headers, metrics, a log line, and the body of a problem.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::App;
use crate::problem::{Kind, Problem};
use crate::routes;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const COMPANY_NAME: HeaderName = HeaderName::from_static("x-company-name");
const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest request id that is taken over.
const LONGEST_REQUEST_ID: usize = 128;
/// The most headers of a request, and their length together.
const MOST_HEADERS: usize = 64;
const LONGEST_HEADERS_BYTES: usize = 16 * 1024;
/// The longest path and query. The longest that means anything here is about 300 bytes.
const LONGEST_URI_BYTES: usize = 8 * 1024;

/// Paths that are answered however many requests there are: whoever asks decides by them whether
/// there should be fewer.
const NEVER_SHED: [&str; 6] = [
    "/livez",
    "/healthz",
    "/-/health",
    "/readyz",
    "/health",
    "/metrics",
];

/// The number of requests that are being worked on.
#[derive(Debug, Default)]
pub(crate) struct InFlight(AtomicUsize);

/// One request that is being worked on, counted until it is dropped.
struct Counted<'a>(&'a App);

impl<'a> Counted<'a> {
    fn new(app: &'a App) -> Self {
        app.in_flight.0.fetch_add(1, Ordering::Relaxed);
        app.metrics.http_requests_in_flight.inc();
        Self(app)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.in_flight.0.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.http_requests_in_flight.dec();
    }
}

/// Handles one request from its head to its answer's head.
pub(crate) async fn handle(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let _counted = Counted::new(&app);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unknown", |it| routes::template(it.as_str()));
    let request_id = request_id(request.headers());
    let trace_id = trace_id(request.headers());

    let mut response = match refuse(&app, route, &request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };

    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let document = problem.document(&path, request_id.to_str().unwrap_or_default());
        *response.body_mut() = Body::from(document);
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    let status = response.status();
    let took = began.elapsed();
    count(&app, &method, route, status, took);
    let problem = problem.as_ref().map(|it| it.kind().name());
    let id = request_id.to_str().unwrap_or_default();
    let (path, status, ms) = (path.as_str(), status.as_u16(), took.as_millis());
    // What a caller did wrong is the caller's to log.
    if status >= 500 {
        warn!(%method, path, status, ms, problem, request_id = id, trace_id, "request failed");
    } else {
        debug!(%method, path, status, ms, problem, request_id = id, trace_id, "request");
    }
    write_headers(&app, &mut response, request_id);
    response
}

/// Returns why a request is not worked on at all.
fn refuse(app: &App, route: &str, request: &Request) -> Option<Problem> {
    let uri = request.uri();
    let uri_length = uri.path().len() + uri.query().map_or(0, str::len);
    if uri_length > LONGEST_URI_BYTES {
        return Some(Problem::new(
            Kind::UriTooLong,
            format!("path and query must not be longer than {LONGEST_URI_BYTES} bytes"),
        ));
    }
    let headers = request.headers();
    let length: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    if headers.len() > MOST_HEADERS || length > LONGEST_HEADERS_BYTES {
        return Some(Problem::new(
            Kind::HeaderFieldsTooLarge,
            format!(
                "there must not be more than {MOST_HEADERS} headers, nor more than \
                 {LONGEST_HEADERS_BYTES} bytes of them"
            ),
        ));
    }
    let in_flight = app.in_flight.0.load(Ordering::Relaxed);
    if in_flight > app.max_inflight && !NEVER_SHED.contains(&route) {
        return Some(Problem::new(
            Kind::Overloaded,
            "too many requests are being worked on; try again in a moment",
        ));
    }
    None
}

fn count(app: &App, method: &Method, route: &str, status: StatusCode, took: Duration) {
    // Anyone may invent a method, but not a series.
    let method = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    };
    let metrics = &app.metrics;
    metrics
        .http_requests
        .with_label_values(&[method, route, status.as_str()])
        .inc();
    metrics
        .http_request_duration
        .with_label_values(&[method, route])
        .observe(took.as_secs_f64());
}

fn write_headers(app: &App, response: &mut Response, request_id: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id);
    headers.insert(COMPANY_NAME, app.company.header.clone());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
    }
    if app.draining.is_cancelled() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Returns the caller's id where it is harmless, and otherwise a new one, which sorts by time.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_harmless = |it: &&HeaderValue| {
        let plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
        (1..=LONGEST_REQUEST_ID).contains(&it.len()) && it.as_bytes().iter().all(plain)
    };
    if let Some(given) = headers.get(REQUEST_ID).filter(is_harmless) {
        return given.clone();
    }
    let mut buffer = Uuid::encode_buffer();
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(id).unwrap_or_else(|_never| HeaderValue::from_static("unknown"))
}

/// Returns the trace that the request is a part of, from a W3C `traceparent`.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, _flags, ..] = parts.as_slice() else {
        return None;
    };
    let is_well_formed = version.len() == 2
        && trace.len() == 32
        && parent.len() == 16
        && trace.bytes().all(|it| it.is_ascii_hexdigit());
    is_well_formed.then(|| (*trace).to_owned())
}
