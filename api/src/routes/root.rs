//! `/`, which several of the earlier services had a meaning for.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::members;
use crate::App;
use crate::config::Surface;

#[derive(Serialize)]
struct Running<'a> {
    company: &'a str,
    status: &'static str,
}

/// Returns the members, or where they are not served, that the service runs.
pub(super) async fn get(State(app): State<App>, uri: Uri) -> Response {
    if app.surfaces.contains(&Surface::Members) {
        return members::list(State(app), uri).await.into_response();
    }
    let company = &app.company.name;
    let status = "running";
    Json(Running { company, status }).into_response()
}
