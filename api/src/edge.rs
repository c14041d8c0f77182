//! What happens to every request on its way in and to every answer on its way out: an id, limits,
//! headers, metrics, a log line, and the body of a problem.

mod client;
mod cross_site;
mod rate_limit;
mod request_id;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Collected};
use ipnet::IpNet;
use prometheus::IntGauge;
use tokio::sync::Semaphore;
use tracing::{Level, debug, info, warn};

use self::client::Client;
use self::rate_limit::RateLimit;
use self::request_id::REQUEST_ID;
use crate::App;
use crate::config;
use crate::problem::{Kind, Problem};
use crate::routes::Routes;
use crate::trace::{Span, TRACEPARENT};

const COMPANY_NAME: HeaderName = HeaderName::from_static("x-company-name");

const fn fixed(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

/// The headers of every answer, unless it has its own.
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
/// A year, as is usual; subdomains are their owners' to decide about.
const HSTS: HeaderValue = fixed("max-age=31536000");

/// When to ask again after a 503 that names no time itself.
const RETRY_SOON: HeaderValue = fixed("1");

/// The most headers of a request, and their length together.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The longest path and query. The longest that means anything here is about 300 bytes.
const MAX_URI_BYTES: usize = 8 * 1024;

/// Paths that are answered however many requests there are: a balancer decides by them whether there
/// should be fewer.
const NEVER_REFUSED: [&str; 6] = [
    "/livez",
    "/healthz",
    "/-/health",
    "/readyz",
    "/health",
    "/metrics",
];

/// The probe of an earlier service. It is answered as they are, but may ask the database, so a client
/// cannot have more than its share of it.
const HELLO_PROBE: &str = "/hello/health";

/// The label of paths and methods that anybody may invent.
const UNKNOWN_ROUTE: &str = "unknown";
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];

/// What the edge keeps between requests.
#[derive(Debug)]
pub(crate) struct Edge {
    trusted_proxies: Vec<IpNet>,
    rate_limit: Option<RateLimit>,
    max_inflight: i64,
    /// The places of requests whose bodies take memory while they arrive.
    pub(crate) long_bodies: Semaphore,
}

impl Edge {
    pub(crate) fn new(settings: config::Edge) -> Self {
        Self {
            trusted_proxies: settings.trusted_proxies,
            rate_limit: settings.rate_limit.and_then(RateLimit::new),
            max_inflight: i64::try_from(settings.max_inflight).unwrap_or(i64::MAX),
            long_bodies: Semaphore::new(settings.max_inflight),
        }
    }
}

/// Waits for the body of a request, which meanwhile is not one that is worked on.
///
/// # Errors
///
/// [`Kind::Overloaded`] when there are too many requests by then.
pub(crate) async fn wait_for_body<T>(
    app: &App,
    body: impl Future<Output = T>,
) -> Result<T, Problem> {
    let waiting = Counted::new(&app.metrics.http_requests_in_flight, -1);
    let body = body.await;
    drop(waiting);
    check_load(app).map(|()| body)
}

fn check_load(app: &App) -> Result<(), Problem> {
    if app.metrics.http_requests_in_flight.get() > app.edge.max_inflight {
        return Err(overloaded("too many requests are being worked on"));
    }
    Ok(())
}

pub(crate) fn overloaded(what: &str) -> Problem {
    Problem::new(Kind::Overloaded, format!("{what}; try again in a moment"))
}

/// How a request arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// Whether it is on a reserved connection, which is for probes.
    pub(crate) is_spare: bool,
}

/// One request or connection in a gauge, more or less, until it is dropped.
pub(crate) struct Counted<'a>(&'a IntGauge, i64);

impl<'a> Counted<'a> {
    pub(crate) fn new(gauge: &'a IntGauge, by: i64) -> Self {
        gauge.add(by);
        Self(gauge, by)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.sub(self.1);
    }
}

/// Says that a standby answered, which may lack the last writes.
const STALE: HeaderValue = fixed("110 - \"Response is Stale\"");

/// How the routes begin whose answers are rows.
const OF_ROWS: [&str; 4] = ["/hello/", "/users", "/members", "/beers"];

/// Says whether an answer comes from rows: a list, an object, or that there is none.
fn is_of_rows(route: &str, response: &Response) -> bool {
    let status = response.status();
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let is_list_of_members = route == "/" && !is_page;
    (status.is_success() || status == StatusCode::NOT_FOUND)
        && (is_list_of_members || OF_ROWS.iter().any(|it| route.starts_with(it)))
}

/// Handles one request from its head to its answer's head. It is around the router and not one of its
/// layers, which cost several allocations each.
pub(crate) async fn handle(
    app: &App,
    routes: &Routes,
    arrival: Arrival,
    request: Request,
) -> Response {
    let _counted = Counted::new(&app.metrics.http_requests_in_flight, 1);
    let route = routes.template(request.uri().path());
    let exchange = Exchange::begin(app, route, arrival, &request);
    let mut response = match exchange.check(&request) {
        Err(problem) => problem.into_response(),
        Ok(()) => routes.answer(request).await,
    };
    if let Some(age) = app.store.staleness()
        && is_of_rows(exchange.route, &response)
    {
        let headers = response.headers_mut();
        headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        headers.insert(header::WARNING, STALE);
    }
    exchange.end(response)
}

/// Returns the whole answer to what never became a request, counted and logged like any other.
pub(crate) async fn refuse_early(app: &App, arrival: Arrival, problem: Problem) -> Vec<u8> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static("*");
    *request.method_mut() = Method::from_bytes(b"-").unwrap_or_default();
    let exchange = Exchange {
        // Something is left that would have to be read.
        has_body: true,
        ..Exchange::begin(app, None, arrival, &request)
    };
    let (head, body) = exchange.end(problem.into_response()).into_parts();
    let body = body.collect().await.map(Collected::to_bytes);
    let body = body.unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    [&bytes[..], b"\r\n", &body].concat()
}

/// One request, and what its answer needs to know of it.
struct Exchange<'a> {
    app: &'a App,
    began: Instant,
    /// The route's template, as metrics name it.
    route: &'static str,
    method: Method,
    uri: Uri,
    has_body: bool,
    arrival: Arrival,
    client: Client,
    request_id: HeaderValue,
    /// Whether the caller gave an id, of the request or of its trace, and so can look for it.
    is_named: bool,
    span: Option<Span>,
}

impl<'a> Exchange<'a> {
    fn begin(
        app: &'a App,
        route: Option<&'static str>,
        arrival: Arrival,
        request: &Request,
    ) -> Self {
        let headers = request.headers();
        let given = request_id::given(headers);
        Self {
            app,
            began: Instant::now(),
            route: route.unwrap_or(UNKNOWN_ROUTE),
            method: request.method().clone(),
            uri: request.uri().clone(),
            has_body: !request.body().is_end_stream(),
            arrival,
            client: Client::behind(&app.edge.trusted_proxies, arrival.peer, headers),
            is_named: given.is_some() || headers.contains_key(TRACEPARENT),
            request_id: given.unwrap_or_else(request_id::new),
            span: Span::continued(headers),
        }
    }

    /// Checks whether a request is worked on at all.
    fn check(&self, request: &Request) -> Result<(), Problem> {
        check_length(request)?;
        check_host(request)?;
        if NEVER_REFUSED.contains(&self.route) {
            return Ok(());
        }
        if let Some(limit) = &self.app.edge.rate_limit {
            let detail = "this client asks more than it may; ask again a little later";
            let limited = |wait| Problem::new(Kind::RateLimited, detail).retry_after(wait);
            limit.take(self.client.address).map_err(limited)?;
        }
        if self.uri.path() == HELLO_PROBE && self.method.is_safe() {
            return Ok(());
        }
        if self.arrival.is_spare {
            return Err(overloaded("there are too many connections"));
        }
        check_load(self.app)?;
        cross_site::check(&self.method, request.headers())
    }

    /// Counts and logs the answer, and writes what every answer has.
    fn end(self, mut response: Response) -> Response {
        let problem = response.extensions_mut().remove::<Problem>();
        let id = self.request_id.to_str().unwrap_or_default();
        let trace_id = self.span.as_ref().map(|it| it.trace_id.as_str());
        if let Some(problem) = &problem {
            let document = problem.document(self.uri.path(), id, trace_id);
            let headers = response.headers_mut();
            // The router has written the length of nothing; and hyper writes none in an answer to HEAD.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
            let json = fixed("application/problem+json");
            headers.insert(header::CONTENT_TYPE, json);
            *response.body_mut() = Body::from(document);
        }
        let status = response.status();
        let took = self.began.elapsed();
        self.count(status, took);
        self.log(status, took, problem.as_ref(), trace_id);
        self.write_headers(&mut response, problem.is_some());
        response
    }

    fn count(&self, status: StatusCode, took: Duration) {
        let known = METHODS.into_iter().find(|it| *it == self.method.as_str());
        let (method, route) = (known.unwrap_or("other"), self.route);
        let metrics = &self.app.metrics;
        metrics
            .http_requests
            .with_label_values(&[method, route, status.as_str()])
            .inc();
        metrics
            .http_request_duration
            .with_label_values(&[method, route])
            .observe(took.as_secs_f64());
    }

    fn log(
        &self,
        status: StatusCode,
        took: Duration,
        problem: Option<&Problem>,
        trace_id: Option<&str>,
    ) {
        let level = self.level(status, problem);
        if level == Level::DEBUG && !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let method = self.method.as_str();
        let (path, status, ms) = (self.uri.path(), status.as_u16(), took.as_millis());
        let client = self.client.address;
        let problem = problem.map(|it| it.kind().describe().0);
        let id = self.request_id.to_str().unwrap_or_default();
        let span_id = self.span.as_ref().map(|it| it.span_id.as_str());
        macro_rules! line {
            ($log:ident, $message:literal) => {
                $log!(
                    method, path, status, ms, %client, problem, request_id = id, trace_id, span_id,
                    $message
                )
            };
        }
        match level {
            Level::WARN => line!(warn, "request failed"),
            Level::INFO => line!(info, "request"),
            _ => line!(debug, "request"),
        }
    }

    fn level(&self, status: StatusCode, problem: Option<&Problem>) -> Level {
        // That there was no room is counted: a line for each would be more work than the answer.
        let was_shed =
            problem.is_some_and(|it| matches!(it.kind(), Kind::Overloaded | Kind::RateLimited));
        // A probe that hears no has not failed.
        let is_probe = NEVER_REFUSED.contains(&self.route);
        match () {
            () if was_shed => Level::DEBUG,
            () if status.is_server_error() && !is_probe => Level::WARN,
            () if status.is_client_error() || self.is_named => Level::INFO,
            () => Level::DEBUG,
        }
    }

    fn write_headers(self, response: &mut Response, is_problem: bool) {
        // What may be left of a body would have to be read before another request.
        let is_body_left = self.has_body && is_problem;
        let closes = self.app.draining.is_cancelled() || self.arrival.is_spare || is_body_left;
        let is_unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        headers.reserve(RESPONSE_HEADERS.len() + 4);
        for (name, value) in RESPONSE_HEADERS {
            headers.entry(name).or_insert(value);
        }
        headers.insert(COMPANY_NAME, self.app.company.header.clone());
        headers.insert(REQUEST_ID, self.request_id);
        if is_unavailable {
            headers.entry(header::RETRY_AFTER).or_insert(RETRY_SOON);
        }
        if let Some(span) = self.span
            && let Ok(traceparent) = HeaderValue::try_from(span.traceparent())
        {
            headers.insert(TRACEPARENT, traceparent);
        }
        if self.client.is_https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        if closes {
            headers.insert(header::CONNECTION, fixed("close"));
        }
    }
}

fn check_length(request: &Request) -> Result<(), Problem> {
    let (uri, headers) = (request.uri(), request.headers());
    if uri.path().len() + uri.query().map_or(0, str::len) > MAX_URI_BYTES {
        return Err(uri_too_long());
    }
    let lengths = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if headers.len() > MAX_HEADERS || lengths.sum::<usize>() > MAX_HEADER_BYTES {
        return Err(header_fields_too_large());
    }
    Ok(())
}

/// A request that names two hosts, or none that is one, may mean one thing to a proxy and another to us
/// (RFC 9112, 3.2).
fn check_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_right = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) => {
            let is_host = |it: &[u8]| Authority::try_from(it).is_ok() && !it.contains(&b'@');
            host.is_empty() || is_host(host.as_bytes())
        }
        (Some(_), Some(_)) => false,
    };
    let detail = "a request of HTTP/1.1 names its host, once";
    is_right
        .then_some(())
        .ok_or_else(|| Problem::new(Kind::BadRequest, detail))
}

pub(crate) fn slow_head() -> Problem {
    let detail = "the head of the request did not arrive in time";
    Problem::new(Kind::RequestTimeout, detail)
}

pub(crate) fn uri_too_long() -> Problem {
    Problem::new(
        Kind::UriTooLong,
        format!("path and query must not be longer than {MAX_URI_BYTES} bytes"),
    )
}

pub(crate) fn header_fields_too_large() -> Problem {
    Problem::new(
        Kind::HeaderFieldsTooLarge,
        format!(
            "there must not be more than {MAX_HEADERS} headers, nor more than {MAX_HEADER_BYTES} \
             bytes of them"
        ),
    )
}
