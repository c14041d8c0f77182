//! The context of one request: what its answer, its metrics and its log line need.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use ipnet::IpNet;
use tracing::{Level, debug, info, warn};

use super::client::Client;
use super::request_id;
use super::trace::{Span, TRACEPARENT};
use crate::problem::{Kind, Problem};

/// Routes that are never rejected: load balancers and monitoring decide by them.
const PROBES: [&str; 6] = [
    "/livez",
    "/healthz",
    "/-/health",
    "/readyz",
    "/health",
    "/metrics",
];
/// The route label of paths that have no route.
const UNKNOWN_ROUTE: &str = "unknown";

/// The connection of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerInfo {
    /// The address of the other end.
    pub(crate) address: IpAddr,
    /// Whether the connection has a reserved slot, which is for probes.
    pub(crate) is_reserved: bool,
}

pub(super) struct RequestContext {
    pub(super) began: Instant,
    /// The route's template, as in metrics.
    pub(super) route: &'static str,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) peer: PeerInfo,
    pub(super) client: Client,
    pub(super) request_id: HeaderValue,
    /// Whether the caller sent an id of the request or of its trace, and so can search for it.
    is_named: bool,
    pub(super) span: Option<Span>,
}

impl RequestContext {
    pub(super) fn new(
        route: Option<&'static str>,
        peer: PeerInfo,
        trusted_proxies: &[IpNet],
        request: &Request,
    ) -> Self {
        let headers = request.headers();
        let sent_id = request_id::from_headers(headers);
        Self {
            began: Instant::now(),
            route: route.unwrap_or(UNKNOWN_ROUTE),
            method: request.method().clone(),
            uri: request.uri().clone(),
            peer,
            client: Client::behind(trusted_proxies, peer.address, headers),
            is_named: sent_id.is_some() || headers.contains_key(TRACEPARENT),
            request_id: sent_id.unwrap_or_else(request_id::new),
            span: Span::continued(headers),
        }
    }

    pub(super) fn id(&self) -> &str {
        // Ids that are not ASCII are not accepted.
        self.request_id.to_str().unwrap_or("")
    }

    pub(super) fn trace_id(&self) -> Option<&str> {
        self.span.as_ref().map(|span| span.trace_id.as_str())
    }

    pub(super) fn is_probe(&self) -> bool {
        PROBES.contains(&self.route)
    }

    pub(super) fn log(&self, status: StatusCode, elapsed: Duration, problem: Option<&Problem>) {
        let level = self.level(status, problem);
        if level == Level::DEBUG && !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let method = self.method.as_str();
        let (path, status, ms) = (self.uri.path(), status.as_u16(), elapsed.as_millis());
        let client = self.client.address;
        let problem = problem.map(|problem| problem.kind.describe().0);
        let (id, trace_id) = (self.id(), self.trace_id());
        let span_id = self.span.as_ref().map(|span| span.span_id.as_str());
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
        // Load shedding is counted: a line for each rejected request would cost more than its answer.
        let was_shed = problem
            .is_some_and(|problem| matches!(problem.kind, Kind::Overloaded | Kind::RateLimited));
        match () {
            () if was_shed => Level::DEBUG,
            // A probe that reports an unready service has not failed.
            () if status.is_server_error() && !self.is_probe() => Level::WARN,
            () if status.is_client_error() || self.is_named => Level::INFO,
            () => Level::DEBUG,
        }
    }
}
