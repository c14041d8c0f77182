//! `/`: the members, or a page for browsers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::accept::prefers_html;
use super::list::ListReader;
use super::members;
use crate::about::About;
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
