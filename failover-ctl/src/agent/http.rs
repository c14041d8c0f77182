//! HTTP routes of the agent: status, health checks, metrics and signed commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use causeway_runtime::clock;
use causeway_runtime::health::{self, Readiness};
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use crate::agent::event_loop::CommandRequest;
use crate::agent::http_server::HttpConnection;
use crate::agent::status_snapshot::StatusSnapshot;
use crate::config::NodeSettings;
use crate::protocol::signed_command::{CommandSigningKey, SIGNATURE_HEADER};

/// Maximum body of a command, in bytes.
const MAX_COMMAND_BYTES: usize = 16 << 10;

/// Time to receive the body of a command.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// State of the handlers.
pub(crate) struct HttpState {
    pub(crate) status: watch::Receiver<StatusSnapshot>,
    pub(crate) commands: mpsc::Sender<CommandRequest>,
    pub(crate) key: CommandSigningKey,
}

/// Returns a registry whose metrics have the labels of `node`.
///
/// # Errors
///
/// When a label name is invalid, which the settings exclude.
pub(crate) fn registry(cluster: &str, node: &NodeSettings) -> prometheus::Result<Registry> {
    let labels = BTreeMap::from([
        ("cluster".to_owned(), cluster.to_owned()),
        ("node".to_owned(), node.name.to_string()),
        ("zone".to_owned(), node.zone.clone()),
        ("region".to_owned(), node.region.to_string()),
    ]);
    Registry::new_custom(None, Some(labels.into_iter().collect()))
}

/// Returns the routes of the agent.
pub(crate) fn routes(state: HttpState, registry: Registry) -> Router {
    let state = Arc::new(state);
    let snapshot = state.status.clone();
    let readiness = move || {
        let snapshot = snapshot.borrow();
        let is_ready = snapshot
            .status
            .as_ref()
            .is_some_and(|status| status.lease.is_some() && status.guard.responding);
        if is_ready {
            return Readiness::Ready;
        }
        Readiness::NotReady("no lease has been read, or the guard does not respond".to_owned())
    };
    Router::new()
        .route("/status", get(status))
        .route("/primary", get(primary))
        .route("/standby", get(standby))
        .route("/commands", post(accept_command))
        .with_state(state)
        .merge(health::routes(registry, readiness))
}

async fn status(State(state): State<Arc<HttpState>>) -> Response {
    let status = state.status.borrow().status.clone();
    match status {
        Some(status) => Json(&*status).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no observation yet\n").into_response(),
    }
}

/// Returns 200 only before the stop deadline, compared with the clock at each request: an agent that was frozen
/// may hold an outdated snapshot.
async fn primary(State(state): State<Arc<HttpState>>) -> (StatusCode, &'static str) {
    let deadline = state.status.borrow().primary_until;
    if deadline.is_some_and(|deadline| !clock::now().has_passed_on_any_clock(deadline)) {
        return (StatusCode::OK, "primary\n");
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not the primary\n")
}

async fn standby(State(state): State<Arc<HttpState>>) -> (StatusCode, &'static str) {
    if state.status.borrow().is_standby {
        return (StatusCode::OK, "standby\n");
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not a streaming standby\n")
}

async fn accept_command(
    State(state): State<Arc<HttpState>>,
    connection: Option<Extension<HttpConnection>>,
    headers: HeaderMap,
    body: Body,
) -> (StatusCode, String) {
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_COMMAND_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let why = format!("a command has at most {MAX_COMMAND_BYTES} bytes\n");
            return (StatusCode::PAYLOAD_TOO_LARGE, why);
        }
        Err(_elapsed) => {
            let why = "the command was not received within 5 s\n".to_owned();
            return (StatusCode::REQUEST_TIMEOUT, why);
        }
    };
    let signature = headers
        .get(SIGNATURE_HEADER)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let Some(command) = state.key.verify(&body, signature) else {
        warn!("command with wrong signature rejected");
        return (
            StatusCode::FORBIDDEN,
            "the signature does not match: check `command-signing-key-file`\n".to_owned(),
        );
    };
    if let Some(Extension(connection)) = connection {
        connection.protect_from_eviction();
    }
    let (result_sender, result) = oneshot::channel();
    let stopping = (
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent is stopping\n".to_owned(),
    );
    if state.commands.send((command, result_sender)).await.is_err() {
        return stopping;
    }
    match result.await {
        Ok(Ok(())) => (StatusCode::ACCEPTED, "accepted\n".to_owned()),
        Ok(Err(reason)) => (StatusCode::CONFLICT, format!("{reason}\n")),
        Err(_) => stopping,
    }
}
