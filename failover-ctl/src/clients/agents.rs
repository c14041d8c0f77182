//! Other nodes' agents, over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::config::{NodeSettings, Settings};
use crate::protocol::node_status::{NodeStatus, StatusMismatch};
use crate::protocol::signed_command::{CommandSigningKey, SIGNATURE_HEADER, SignedCommand};

/// How long an agent may take to answer: it answers from memory, across regions.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest answer that is read.
const LONGEST: usize = 256 << 10;

/// An agent that has read an order and does not carry it out.
#[derive(Debug, thiserror::Error)]
#[error("`{node}` refused: {why}")]
pub(crate) struct AgentRejection {
    node: String,
    why: String,
}

/// A way to every agent of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct AgentClient {
    client: Client<HttpConnector, Full<Bytes>>,
    cluster: String,
}

/// Why a node's status is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    /// It did not answer.
    #[error(transparent)]
    Silent(anyhow::Error),
    /// Somebody else did.
    #[error(transparent)]
    StatusMismatch(#[from] StatusMismatch),
}

impl AgentClient {
    /// Returns the way; nothing is asked yet.
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            cluster: settings.cluster.clone(),
        }
    }

    /// Asks every node at once how it is.
    pub(crate) async fn statuses(
        &self,
        settings: &Settings,
    ) -> Vec<Result<NodeStatus, StatusError>> {
        join_all(settings.nodes.iter().map(|node| self.ask(node))).await
    }

    /// Asks one node how it is.
    ///
    /// # Errors
    ///
    /// When it does not answer within a second, or another node or cluster does.
    pub(crate) async fn status(&self, node: &NodeSettings) -> anyhow::Result<NodeStatus> {
        Ok(self.ask(node).await?)
    }

    /// Asks one node how it is, and tells a silent one from another's answer.
    ///
    /// # Errors
    ///
    /// Why its status is not known.
    pub(crate) async fn ask(&self, node: &NodeSettings) -> Result<NodeStatus, StatusError> {
        let status = self.fetch(node).await.map_err(StatusError::Silent)?;
        status.check_source(&self.cluster, &node.name)?;
        Ok(status)
    }

    async fn fetch(&self, node: &NodeSettings) -> anyhow::Result<NodeStatus> {
        let request = Request::get(url(node.agent, "/status")).body(Full::default())?;
        let (status, body) = self.send(request, PATIENCE).await?;
        if status != StatusCode::OK {
            bail!("the agent of `{}` answered {status}", node.name);
        }
        serde_json::from_slice(&body).with_context(|| {
            format!(
                "the agent of `{}` answered what this release cannot read",
                node.name
            )
        })
    }

    /// Gives a node an order, and waits until it is accepted.
    ///
    /// # Errors
    ///
    /// When it does not answer, or refuses; the text says why it refuses.
    pub(crate) async fn send_command(
        &self,
        node: &NodeSettings,
        order: &SignedCommand,
        key: &CommandSigningKey,
    ) -> anyhow::Result<()> {
        let (body, signature) = key.sign(order)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(url(node.agent, "/commands"))
            .header(SIGNATURE_HEADER, signature)
            .body(Full::from(body))?;
        let (status, body) = self.send(request, 5 * PATIENCE).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(AgentRejection {
            node: node.name.to_string(),
            why: String::from_utf8_lossy(&body).trim().to_owned(),
        }
        .into())
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let asking = async {
            let answer = self
                .client
                .request(request)
                .await
                .context("the agent could not be reached")?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            match body {
                Ok(body) => Ok((status, body.to_bytes())),
                Err(error) => bail!("the agent's answer could not be read: {error}"),
            }
        };
        tokio::time::timeout(patience, asking)
            .await
            .context("the agent did not answer in time")?
    }
}

fn url(agent: SocketAddr, path: &str) -> String {
    format!("http://{agent}{path}")
}
