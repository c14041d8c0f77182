//! `/livez`, `/readyz` and `/metrics`, the same for every program.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder as _, Registry, TextEncoder};

/// Readiness of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The program can do its work.
    Ready,
    /// The program cannot do its work, for this reason.
    NotReady(String),
}

/// Returns the three routes. `/livez` responds while the process runs, and depends on no other component.
pub fn routes<F>(registry: Registry, readiness: F) -> Router
where
    F: Fn() -> Readiness + Send + Sync + 'static,
{
    let readiness = Arc::new(readiness);
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || std::future::ready(ready(&readiness()))),
        )
        .route(
            "/metrics",
            get(move || std::future::ready(metrics(&registry))),
        )
}

fn ready(readiness: &Readiness) -> (StatusCode, String) {
    match readiness {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Returns every series of `registry` in Prometheus's text format.
pub fn metrics(registry: &Registry) -> axum::response::Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
