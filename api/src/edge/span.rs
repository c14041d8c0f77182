//! The span of a request, under the names of OpenTelemetry's conventions for HTTP servers.

use axum::http::StatusCode;

use super::{Exchange, series};
use crate::trace::{Attribute, Span};

/// Ends the span of a request that was answered with `status`.
pub(super) fn end(span: &Span, exchange: &Exchange<'_>, status: StatusCode) {
    let template = exchange.route.template();
    let (_place, known) = series::known(&exchange.method);
    let is_known = known == exchange.method.as_str();
    let is_error = status.is_server_error();
    let verb = if is_known { known } else { "HTTP" };
    let name = if template == "unknown" {
        verb.to_owned()
    } else {
        format!("{verb} {template}")
    };
    span.end(name, is_error, || {
        let method = if is_known { known } else { "_OTHER" };
        let client = exchange.client;
        let scheme = if client.is_https { "https" } else { "http" };
        let peer = exchange.arrival.peer.to_canonical();
        let id = exchange.request_id.to_str().unwrap_or_default();
        let mut attributes = vec![
            Attribute::text("http.request.method", method),
            Attribute::text("url.path", exchange.uri.path()),
            Attribute::text("url.scheme", scheme),
            Attribute::number("http.response.status_code", status.as_u16().into()),
            Attribute::text("client.address", client.address.to_string()),
            Attribute::text("network.peer.address", peer.to_string()),
            Attribute::text("http.request.header.x-request-id", id),
        ];
        if template != "unknown" {
            attributes.push(Attribute::text("http.route", template));
        }
        if !is_known {
            let original = exchange.method.as_str();
            attributes.push(Attribute::text("http.request.method_original", original));
        }
        if is_error {
            attributes.push(Attribute::text("error.type", status.as_str()));
        }
        attributes
    });
}
