//! Liveness, readiness and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use http_body_util::BodyExt as _;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::answer_memory::AnswerMemory;
use crate::cache::Cache;
use crate::config::Config;
use crate::problem::Problem;
use crate::store::{State as StoreState, Store};

/// Reports that the process responds, without a query: a restart would not repair the database.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Reports whether the service can answer requests. A short failover changes nothing, since it would take
/// every replica out of the load balancer at once.
pub(crate) async fn ready(
    State(config): State<Arc<Config>>,
    State(store): State<Arc<Store>>,
    State(cache): State<Arc<Cache>>,
    State(draining): State<CancellationToken>,
) -> (StatusCode, Json<Value>) {
    let state = store.state();
    let (status, is_ready) = readiness(&config, state, &draining);
    let answer = json!({
        "status": if is_ready { "ready" } else { "not-ready" },
        "database": {
            "role": state.role,
            "writable": state.writable,
            "schema": if state.has_schema { "up-to-date" } else { "missing" },
        },
        "cache": cache.status(),
        "draining": draining.is_cancelled(),
    });
    (status, Json(answer))
}

/// Reports readiness as the earlier beers service did.
pub(crate) async fn health(
    State(config): State<Arc<Config>>,
    State(store): State<Arc<Store>>,
    State(draining): State<CancellationToken>,
) -> (StatusCode, Json<Value>) {
    let state = store.state();
    let (status, is_ready) = readiness(&config, state, &draining);
    let answer = json!({
        "status": if is_ready { "healthy" } else { "unhealthy" },
        "database": if state.writable { "ok" } else { "unavailable" },
    });
    (status, Json(answer))
}

pub(crate) async fn metrics(
    State(registry): State<Registry>,
    State(answer_memory): State<Arc<AnswerMemory>>,
    State(store): State<Arc<Store>>,
    State(cache): State<Arc<Cache>>,
) -> Result<Response, Problem> {
    let room = answer_memory.room_for_metrics()?;
    store.report();
    cache.report();
    let (head, body) = causeway_runtime::health::metrics(&registry).into_parts();
    let text = body.collect().await.map_err(|_error| Problem::internal())?;
    let text = answer_memory.count_bytes(text.to_bytes().into(), Some(room))?;
    Ok(Response::from_parts(head, text.into()))
}

fn readiness(
    config: &Config,
    state: StoreState,
    draining: &CancellationToken,
) -> (StatusCode, bool) {
    let is_reachable = state.writable || state.away_for <= config.database.ready_grace;
    if !draining.is_cancelled() && state.has_schema && is_reachable {
        (StatusCode::OK, true)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, false)
    }
}
