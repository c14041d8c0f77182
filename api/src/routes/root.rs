//! `/`: the members, or a page for browsers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::about::About;
use super::list::ListReader;
use super::members;
use crate::config::Surface;

/// Returns a page to a browser, and the members to a program. Where members are not served, a program
/// gets a status.
pub(crate) async fn get(
    State(about): State<Arc<About>>,
    State(reader): State<ListReader>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let services = &reader.config.services;
    let answer = if prefers_html(&headers) {
        about.home.clone().into_response()
    } else if services.surfaces.contains(&Surface::Members) {
        members::list(State(reader), uri).await.into_response()
    } else {
        let company = &services.company.name;
        Json(json!({ "company": company, "status": "running" })).into_response()
    };
    ([(header::VARY, "accept")], answer).into_response()
}

/// Returns whether a client names `text/html` and prefers it to JSON, as browsers do. A client that accepts
/// anything, such as curl, does not.
fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let text: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let text = text.join(",").to_ascii_lowercase();
    let weight = |named: &str| {
        let of_range = |range: &str| {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = parameters
                .rsplit_once("q=")
                .map_or("1", |(_, weight)| weight);
            (name.trim() == named).then(|| weight.trim().parse().unwrap_or(1.0))
        };
        text.split(',').filter_map(of_range).reduce(f32::max)
    };
    // Naming HTML, and JSON only among everything else, is a preference too.
    let others = || weight("application/*").or_else(|| weight("*/*"));
    match (weight("text/html"), weight("application/json")) {
        (None, _) => false,
        (Some(html), Some(json)) => html > json,
        (Some(html), None) => html > 0.0 && html >= others().unwrap_or(0.0),
    }
}
