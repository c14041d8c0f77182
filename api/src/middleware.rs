//! The steps that all requests and answers share: an id, limits, headers, metrics, a log line, and the
//! body of a problem.

mod client;
mod cross_site;
mod rate_limit;
mod request_id;
mod trace;

pub(crate) mod head_check;
pub(crate) mod request_context;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Collected};
use tokio_util::sync::CancellationToken;

use self::rate_limit::RateLimit;
use self::request_context::{PeerInfo, RequestContext};
use self::request_id::REQUEST_ID;
use self::trace::TRACEPARENT;
use crate::app::router::AppRouter;
use crate::app::state::AppState;
use crate::config::Config;
use crate::load_limit::{LoadLimit, overloaded};
use crate::metrics::Metrics;
use crate::problem::{Kind, Problem};

const COMPANY_NAME: HeaderName = HeaderName::from_static("x-company-name");

const fn fixed(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

/// Headers of every answer that does not set them itself.
const RESPONSE_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
    (header::REFERRER_POLICY, fixed("no-referrer")),
    (header::X_FRAME_OPTIONS, fixed("DENY")),
    (
        header::CONTENT_SECURITY_POLICY,
        fixed("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::CACHE_CONTROL, fixed("no-store")),
];
/// A year, as is usual; the owners of subdomains decide about those.
const HSTS: HeaderValue = fixed("max-age=31536000");
/// `Retry-After` of a 503 that does not set it itself, in seconds.
const RETRY_AFTER: HeaderValue = fixed("1");

/// The probe of an earlier service. It is exempt from load shedding as the others are, but may ask the
/// database, so the rate limit applies.
const HELLO_PROBE: &str = "/hello/health";
/// The method labels of metrics; clients may invent others.
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];

/// Handles requests around the router. The layers of the router cost several allocations each.
#[derive(Debug)]
pub(crate) struct Middleware {
    config: Arc<Config>,
    rate_limit: Option<RateLimit>,
    load_limit: Arc<LoadLimit>,
    metrics: Metrics,
    draining: CancellationToken,
}

impl Middleware {
    pub(crate) fn new(state: &AppState, metrics: Metrics) -> Self {
        Self {
            config: Arc::clone(&state.config),
            rate_limit: RateLimit::new(state.config.http.rate_limit),
            load_limit: Arc::clone(&state.load_limit),
            metrics,
            draining: state.draining.clone(),
        }
    }

    /// Handles one request from its head to the head of its answer.
    pub(crate) async fn handle(
        &self,
        router: &AppRouter,
        peer: PeerInfo,
        request: Request,
    ) -> Response {
        let route = router.template(request.uri().path());
        let context = RequestContext::new(route, peer, &self.config.http.trusted_proxies, &request);
        let _in_progress = (!context.is_probe()).then(|| self.load_limit.begin_request());
        let has_body = !request.body().is_end_stream();
        let response = match self.check(&context, &request) {
            Err(problem) => problem.into_response(),
            Ok(()) => router.answer(request).await,
        };
        self.finish(context, has_body, response)
    }

    /// Returns the whole answer to a head that could not be read, with metrics and log as for a request.
    pub(crate) async fn early_response(&self, peer: PeerInfo, problem: Problem) -> Vec<u8> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static("*");
        *request.method_mut() = Method::from_bytes(b"-").unwrap_or(Method::GET);
        let context = RequestContext::new(None, peer, &self.config.http.trusted_proxies, &request);
        // The rest of the head is still unread.
        let has_body = true;
        let response = self.finish(context, has_body, problem.into_response());
        let (head, body) = response.into_parts();
        let body = body.collect().await;
        let body = body.map_or(Bytes::new(), Collected::to_bytes);
        let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
        for (name, value) in &head.headers {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        [&bytes[..], b"\r\n", &body].concat()
    }

    /// Rejects a request that is malformed, or above a limit.
    fn check(&self, context: &RequestContext, request: &Request) -> Result<(), Problem> {
        head_check::check(request)?;
        if context.is_probe() {
            return Ok(());
        }
        if let Some(limit) = &self.rate_limit {
            let detail = "this client exceeds the rate limit; retry later";
            let limited = |wait| Problem::new(Kind::RateLimited, detail).retry_after(wait);
            limit.take(context.client.address).map_err(limited)?;
        }
        if context.uri.path() == HELLO_PROBE && context.method.is_safe() {
            return Ok(());
        }
        if context.peer.is_reserved {
            return Err(overloaded("there are too many connections"));
        }
        self.load_limit.check()?;
        cross_site::check(&context.method, request.headers())
    }

    /// Counts and logs the answer, and adds its headers and the body of a problem.
    fn finish(&self, context: RequestContext, has_body: bool, mut response: Response) -> Response {
        let problem = response.extensions_mut().remove::<Problem>();
        if let Some(problem) = &problem {
            let document = problem.document(context.uri.path(), context.id(), context.trace_id());
            let headers = response.headers_mut();
            // The router has set the length of an empty body; and hyper sets none in an answer to HEAD.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
            let json = fixed("application/problem+json");
            headers.insert(header::CONTENT_TYPE, json);
            *response.body_mut() = Body::from(document);
        }
        let (status, elapsed) = (response.status(), context.began.elapsed());
        self.count(&context, status, elapsed);
        context.log(status, elapsed, problem.as_ref());
        // The rest of the body would have to be read before another request.
        let is_body_left = has_body && problem.is_some();
        self.write_headers(context, is_body_left, &mut response);
        response
    }

    fn count(&self, context: &RequestContext, status: StatusCode, elapsed: Duration) {
        let method = context.method.as_str();
        let known = METHODS.into_iter().find(|known| *known == method);
        let (method, route) = (known.unwrap_or("other"), context.route);
        self.metrics
            .http_requests
            .with_label_values(&[method, route, status.as_str()])
            .inc();
        self.metrics
            .http_request_duration
            .with_label_values(&[method, route])
            .observe(elapsed.as_secs_f64());
    }

    fn write_headers(&self, context: RequestContext, is_body_left: bool, response: &mut Response) {
        let closes = self.draining.is_cancelled() || context.peer.is_reserved || is_body_left;
        let is_unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        headers.reserve(RESPONSE_HEADERS.len() + 4);
        for (name, value) in RESPONSE_HEADERS {
            headers.entry(name).or_insert(value);
        }
        let company = &self.config.services.company;
        headers.insert(COMPANY_NAME, company.header.clone());
        headers.insert(REQUEST_ID, context.request_id);
        if is_unavailable {
            headers.entry(header::RETRY_AFTER).or_insert(RETRY_AFTER);
        }
        if let Some(span) = context.span
            && let Ok(traceparent) = HeaderValue::try_from(span.traceparent())
        {
            headers.insert(TRACEPARENT, traceparent);
        }
        if context.client.is_https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        if closes {
            headers.insert(header::CONNECTION, fixed("close"));
        }
    }
}
