//! Whether the program lives, and whether requests should be sent to it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::App;

#[derive(Serialize)]
pub(super) struct Live {
    status: &'static str,
}

#[derive(Serialize)]
pub(super) struct Ready {
    status: &'static str,
    database: Database,
    cache: &'static str,
    draining: bool,
}

#[derive(Serialize)]
struct Database {
    role: &'static str,
    writable: bool,
    schema: &'static str,
}

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    database: &'static str,
}

/// Says that the process answers. It asks nobody: a program is not restarted because of its
/// database.
pub(super) async fn live() -> Json<Live> {
    Json(Live { status: "ok" })
}

/// Says whether requests should be sent here. A failover that is short enough changes nothing, since
/// it would take every replica out of service at once.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Ready>) {
    let state = app.store.state();
    let is_ready = is_ready(&app);
    let answer = Ready {
        status: if is_ready { "ready" } else { "not-ready" },
        database: Database {
            role: state.role,
            writable: state.writable,
            schema: if state.has_schema {
                "up-to-date"
            } else {
                "missing"
            },
        },
        cache: app.cache.status(),
        draining: app.draining.is_cancelled(),
    };
    (status(is_ready), Json(answer))
}

/// Says the same in the words of an earlier service.
pub(super) async fn health(State(app): State<App>) -> (StatusCode, Json<Health>) {
    let is_ready = is_ready(&app);
    let writable = app.store.state().writable;
    let answer = Health {
        status: if is_ready { "healthy" } else { "unhealthy" },
        database: if writable { "ok" } else { "unavailable" },
    };
    (status(is_ready), Json(answer))
}

/// Returns every series.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    app.store.report();
    app.cache.report();
    ha_runtime::health::metrics(&app.metrics.registry)
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
