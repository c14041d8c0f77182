//! `/`, which several of the earlier services had a meaning for, and which people find first.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::accept::prefers_html;
use super::members;
use crate::App;
use crate::config::Surface;

/// Returns a page to a browser, and to a program the members, or where they are not served, that the
/// service runs.
pub(super) async fn get(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    let answer = if prefers_html(&headers) {
        app.about.home().into_response()
    } else if app.surfaces.contains(&Surface::Members) {
        members::list(State(app), uri).await.into_response()
    } else {
        let company = &app.company.name;
        Json(json!({ "company": company, "status": "running" })).into_response()
    };
    ([(header::VARY, "accept")], answer).into_response()
}
