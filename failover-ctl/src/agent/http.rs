//! What the agent answers over HTTP: how it is, whether it is primary, and orders.

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

/// The longest order that is read, in bytes.
const ORDER_BYTES: usize = 16 << 10;

/// How long the body of an order may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// What the handlers share.
pub(crate) struct HttpState {
    pub(crate) shown: watch::Receiver<StatusSnapshot>,
    pub(crate) commands: mpsc::Sender<CommandRequest>,
    pub(crate) key: CommandSigningKey,
}

/// Returns a registry whose series carry the labels of `node`.
///
/// # Errors
///
/// When a label is no label, which the settings do not allow.
pub(crate) fn registry(cluster: &str, node: &NodeSettings) -> prometheus::Result<Registry> {
    let labels = BTreeMap::from([
        ("cluster".to_owned(), cluster.to_owned()),
        ("node".to_owned(), node.name.to_string()),
        ("zone".to_owned(), node.zone.clone()),
        ("region".to_owned(), node.region.to_string()),
    ]);
    Registry::new_custom(None, Some(labels.into_iter().collect()))
}

/// Returns every route of the agent.
pub(crate) fn routes(front: HttpState, registry: Registry) -> Router {
    let front = Arc::new(front);
    let shown = front.shown.clone();
    let readiness = move || {
        let shown = shown.borrow();
        let reached = shown
            .status
            .as_ref()
            .is_some_and(|status| status.lease.is_some() && status.guard.responding);
        if reached {
            return Readiness::Ready;
        }
        Readiness::NotReady("no lease has been read, or the guard does not respond".to_owned())
    };
    Router::new()
        .route("/status", get(status))
        .route("/primary", get(primary))
        .route("/standby", get(standby))
        .route("/commands", post(accept_command))
        .with_state(front)
        .merge(health::routes(registry, readiness))
}

async fn status(State(front): State<Arc<HttpState>>) -> Response {
    let status = front.shown.borrow().status.clone();
    match status {
        Some(status) => Json(&*status).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no observation yet\n").into_response(),
    }
}

/// 200 only while the lease lasts. An agent that was frozen and goes on asks the clock before it
/// says so, and not its memory.
async fn primary(State(front): State<Arc<HttpState>>) -> (StatusCode, &'static str) {
    let until = front.shown.borrow().primary_until;
    if until.is_some_and(|until| !clock::now().has_passed_on_any_clock(until)) {
        return (StatusCode::OK, "primary\n");
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not the primary\n")
}

async fn standby(State(front): State<Arc<HttpState>>) -> (StatusCode, &'static str) {
    if front.shown.borrow().is_standby {
        return (StatusCode::OK, "standby\n");
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not a streaming standby\n")
}

async fn accept_command(
    State(front): State<Arc<HttpState>>,
    connection: Option<Extension<HttpConnection>>,
    headers: HeaderMap,
    body: Body,
) -> (StatusCode, String) {
    let body = match tokio::time::timeout(BODY_WITHIN, to_bytes(body, ORDER_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let why = format!("a command has at most {ORDER_BYTES} bytes\n");
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
    let Some(order) = front.key.verify(&body, signature) else {
        warn!("command with wrong signature rejected");
        return (
            StatusCode::FORBIDDEN,
            "the signature does not match: check `command-signing-key-file`\n".to_owned(),
        );
    };
    if let Some(Extension(connection)) = connection {
        connection.protect();
    }
    let (answer, answered) = oneshot::channel();
    let gone = (
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent is stopping\n".to_owned(),
    );
    if front.commands.send((order, answer)).await.is_err() {
        return gone;
    }
    match answered.await {
        Ok(Ok(())) => (StatusCode::ACCEPTED, "accepted\n".to_owned()),
        Ok(Err(why)) => (StatusCode::CONFLICT, format!("{why}\n")),
        Err(_) => gone,
    }
}
