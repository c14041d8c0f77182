//! HTTP client of the agents.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use axum::http::header::DATE;
use axum::http::{Request, Response, StatusCode};
use causeway_runtime::http_client::HttpClient;
use futures_util::future::join_all;

use crate::config::{NodeSettings, Settings};
use crate::protocol::node_status::{NodeStatus, StatusMismatch};
use crate::protocol::signed_command::{CommandSigningKey, SIGNATURE_HEADER, SignedCommand};

/// Time for an agent to respond: it responds from memory, across regions.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for an agent to accept a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Rejection of a command by an agent.
#[derive(Debug, thiserror::Error)]
#[error("`{node}` rejected the command: {reason}")]
pub(crate) struct AgentRejection {
    node: String,
    reason: String,
}

/// Client of every agent of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct AgentClient {
    http: HttpClient,
    cluster: String,
}

/// Reason why a node's status is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    /// The agent did not respond.
    #[error(transparent)]
    Unresponsive(anyhow::Error),
    /// Another node, cluster or database responded.
    #[error(transparent)]
    StatusMismatch(#[from] StatusMismatch),
}

impl AgentClient {
    /// Creates the client; sends no request.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            http: HttpClient::new(STATUS_TIMEOUT),
            cluster: settings.cluster.clone(),
        }
    }

    /// Reads the status of every node concurrently.
    pub(crate) async fn statuses(
        &self,
        settings: &Settings,
    ) -> Vec<Result<NodeStatus, StatusError>> {
        join_all(settings.nodes.iter().map(|node| self.query_status(node))).await
    }

    /// Reads the status of a node.
    ///
    /// # Errors
    ///
    /// When it does not respond within a second, or another node or cluster responds.
    pub(crate) async fn status(&self, node: &NodeSettings) -> anyhow::Result<NodeStatus> {
        Ok(self.query_status(node).await?)
    }

    /// Reads the status of a node, and distinguishes an unreachable node from a wrong one.
    ///
    /// # Errors
    ///
    /// [`StatusError`].
    pub(crate) async fn query_status(
        &self,
        node: &NodeSettings,
    ) -> Result<NodeStatus, StatusError> {
        let status = self.fetch(node).await.map_err(StatusError::Unresponsive)?;
        status.check_source(&self.cluster, &node.name)?;
        Ok(status)
    }

    /// Returns the time of a node, as in the header `Date` of its agent's response.
    ///
    /// # Errors
    ///
    /// When it does not respond within a second.
    pub(crate) async fn read_date(&self, node: &NodeSettings) -> anyhow::Result<Option<String>> {
        let response = self.request_status(node).await?;
        let date = response.headers().get(DATE);
        Ok(date.and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    async fn request_status(&self, node: &NodeSettings) -> anyhow::Result<Response<Bytes>> {
        let request = Request::get(url(node.agent, "/status")).body("")?;
        let response = self.http.send(request, STATUS_TIMEOUT).await;
        response.context("could not query the agent")
    }

    async fn fetch(&self, node: &NodeSettings) -> anyhow::Result<NodeStatus> {
        let response = self.request_status(node).await?;
        if response.status() != StatusCode::OK {
            bail!(
                "the agent of `{}` responded {}",
                node.name,
                response.status()
            );
        }
        serde_json::from_slice(response.body()).with_context(|| {
            format!(
                "could not parse the status of `{}`: is its agent of another release?",
                node.name
            )
        })
    }

    /// Sends a signed command to a node, and waits until it is accepted.
    ///
    /// # Errors
    ///
    /// When the node does not respond, or [`AgentRejection`].
    pub(crate) async fn send_command(
        &self,
        node: &NodeSettings,
        command: &SignedCommand,
        key: &CommandSigningKey,
    ) -> anyhow::Result<()> {
        let (body, signature) = key.sign(command)?;
        let request = Request::post(url(node.agent, "/commands"))
            .header(SIGNATURE_HEADER, signature)
            .body(body)?;
        let response = self.http.send(request, COMMAND_TIMEOUT).await;
        let response = response.context("could not send the command to the agent")?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(AgentRejection {
            node: node.name.to_string(),
            reason: String::from_utf8_lossy(response.body()).trim().to_owned(),
        }
        .into())
    }
}

fn url(agent: SocketAddr, path: &str) -> String {
    format!("http://{agent}{path}")
}
