//! Whether the program lives, and whether requests should be sent to it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use http_body_util::{BodyExt as _, Collected};
use serde_json::{Value, json};

use crate::App;
use crate::problem::Problem;

/// Says that the process answers. It asks nobody: a program is not restarted because of its
/// database.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Says whether requests should be sent here. A failover that is short enough changes nothing, since
/// it would take every replica out of service at once.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let state = app.store.state();
    let is_ready = is_ready(&app);
    let answer = json!({
        "status": if is_ready { "ready" } else { "not-ready" },
        "database": {
            "role": state.role,
            "writable": state.writable,
            "schema": if state.has_schema { "up-to-date" } else { "missing" },
        },
        "cache": app.cache.status(),
        "draining": app.draining.is_cancelled(),
    });
    (status(is_ready), Json(answer))
}

/// Says the same in the words of an earlier service.
pub(super) async fn health(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let is_ready = is_ready(&app);
    let answer = json!({
        "status": if is_ready { "healthy" } else { "unhealthy" },
        "database": if app.store.state().writable { "ok" } else { "unavailable" },
    });
    (status(is_ready), Json(answer))
}

/// Returns every series.
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let room = app.answer_memory.room_for_metrics()?;
    app.store.report();
    app.cache.report();
    let (head, body) = causeway_runtime::health::metrics(&app.metrics.registry).into_parts();
    let text = body
        .collect()
        .await
        .map(Collected::to_bytes)
        .unwrap_or_default();
    let text = app.answer_memory.hold(text.into(), Some(room))?;
    Ok(Response::from_parts(head, text.into()))
}

fn is_ready(app: &App) -> bool {
    let state = app.store.state();
    let is_reachable = state.writable || state.away_for <= app.ready_grace;
    !app.draining.is_cancelled() && state.has_schema && is_reachable
}

fn status(is_ready: bool) -> StatusCode {
    if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
