//! Addresses of the database, and connections to it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::NodeId;
use causeway_runtime::secret::Secret;
use causeway_runtime::shutdown::Tasks;
use futures_util::future::select_ok;
use tokio::time;
use tokio_postgres::{Client, NoTls};
use tracing::debug;

/// Addresses of all database hosts, and the application's password.
#[derive(Clone, Debug)]
pub struct DatabaseEndpoints {
    /// Addresses of PostgreSQL by node.
    pub hosts: Vec<(NodeId, SocketAddr)>,
    /// Password of the role `app`.
    pub password: Secret,
}

impl DatabaseEndpoints {
    /// Connects to one node. The connection is a task of `tasks`.
    ///
    /// # Errors
    ///
    /// When the node rejects the connection, or does not accept it within `timeout`.
    pub async fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
        tasks: &Tasks,
    ) -> anyhow::Result<Client> {
        let mut settings = tokio_postgres::Config::new();
        settings
            .hostaddr(address.ip())
            .host(address.ip().to_string())
            .port(address.port())
            .user("app")
            .password(self.password.reveal())
            .dbname("app")
            .application_name("lab");
        let connecting = time::timeout(timeout, settings.connect(NoTls));
        let (client, connection) = connecting.await.context("no answer in time")??;
        tasks.start("client connection", |stop| async move {
            if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
                debug!(%error, "connection ended");
            }
        });
        Ok(client)
    }

    /// Connects to the node that is not in recovery.
    ///
    /// # Errors
    ///
    /// When there is none, within `timeout`.
    pub async fn connect_to_primary(
        &self,
        timeout: Duration,
        tasks: &Tasks,
    ) -> anyhow::Result<(NodeId, Client)> {
        let tries = self.hosts.iter().map(|(node, address)| {
            Box::pin(async move {
                let client = self.connect(*address, timeout, tasks).await?;
                let row = client.query_one("select pg_is_in_recovery()", &[]).await?;
                if row.get(0) {
                    bail!("`{node}` is a standby");
                }
                Ok((node.clone(), client))
            })
        });
        let first = time::timeout(timeout, select_ok(tries)).await;
        Ok(first.context("no node answered in time")??.0)
    }
}
