//! Clients that write continuously and record acknowledged rows.
//!
//! A row is written once. If its outcome is unknown, the client goes on with the next row, so that
//! the history contains exactly the acknowledged rows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use causeway_core::NodeId;
use causeway_runtime::http_client::HttpClient;
use causeway_runtime::shutdown::Tasks;
use hyper::Request;
use tokio::time;
use tokio_postgres::{Client, Statement};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::cluster::topology::{API_NAME, API_PORT};
use crate::network::dns_name::DnsName;
use crate::workload::database_endpoints::DatabaseEndpoints;
use crate::workload::history::{History, WritePath};
use crate::workload::rows::{date_of_birth, username};
use crate::workload::write_probe::{WriteProbe, interval};

/// Connections of each of the two clients that write: a single one would show a primary that serves only some
/// clients as serving all, or none.
const CONNECTIONS: u64 = 4;

/// Write interval of a connection: 4 connections × 2 writers × 25 a second = 200 rows a second,
/// which two cores carry beside three servers and the rest of the lab.
const PACE: Duration = Duration::from_millis(40);

/// Timeout of a client on PostgreSQL, after which it tries another host.
const SQL_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a client on the API: longer than the API's own (8 s), so that its error is received.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Running clients.
#[derive(Debug)]
pub struct Writers {
    database: DatabaseEndpoints,
    history: History,
    tasks: Tasks,
}

impl Writers {
    /// Starts a writer through the API, whose name `resolver` resolves, one by SQL, and a write
    /// probe for each node.
    pub fn start(database: &DatabaseEndpoints, resolver: SocketAddr, history: &History) -> Self {
        Self::start_with(CONNECTIONS, database, resolver, history)
    }

    /// Starts the clients like [`Writers::start`], with this number of connections each.
    pub fn start_with(
        connections: u64,
        database: &DatabaseEndpoints,
        resolver: SocketAddr,
        history: &History,
    ) -> Self {
        let tasks = Tasks::new();
        let next_row = Arc::new(AtomicU64::new(first_row()));
        for _ in 0..connections {
            let sql = SqlWriter {
                database: database.clone(),
                history: history.clone(),
                next_row: Arc::clone(&next_row),
                tasks: tasks.clone(),
            };
            tasks.start("sql writer", |stop| sql.run(stop));
            let api = ApiWriter {
                name: DnsName::new(resolver, API_NAME),
                history: history.clone(),
                next_row: Arc::clone(&next_row),
                http: HttpClient::new(API_TIMEOUT),
            };
            tasks.start("api writer", |stop| api.run(stop));
        }
        let writers = Self {
            database: database.clone(),
            history: history.clone(),
            tasks,
        };
        for (node, address) in &database.hosts {
            writers.probe(node.clone(), *address);
        }
        writers
    }

    /// Starts a write probe of another server, whose acknowledgements are recorded as `node`.
    pub fn probe(&self, node: NodeId, address: SocketAddr) {
        let probe = WriteProbe {
            node,
            address,
            database: self.database.clone(),
            history: self.history.clone(),
            tasks: self.tasks.clone(),
        };
        self.tasks.start("write probe", |stop| probe.run(stop));
    }

    /// Returns the clients' history.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Stops the clients.
    pub async fn stop(&self) {
        self.tasks.stop(Duration::from_secs(2)).await;
    }
}

struct SqlWriter {
    database: DatabaseEndpoints,
    history: History,
    next_row: Arc<AtomicU64>,
    tasks: Tasks,
}

impl SqlWriter {
    async fn run(self, stop: CancellationToken) {
        let mut pace = interval(PACE);
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            let served = stop.run_until_cancelled(self.serve(&mut pace)).await;
            if let Some(Err(error)) = served {
                debug!(
                    error = format!("{error:#}"),
                    "sql writer looks for the primary"
                );
            }
        }
    }

    /// Writes to one primary while that works.
    async fn serve(&self, pace: &mut time::Interval) -> anyhow::Result<()> {
        let (node, client) = self
            .database
            .connect_to_primary(SQL_TIMEOUT, &self.tasks)
            .await?;
        let insert = "insert into ledger (n) values ($1)";
        let insert = time::timeout(SQL_TIMEOUT, client.prepare(insert)).await??;
        loop {
            let row = self.next_row.fetch_add(1, Ordering::Relaxed);
            write_row(&client, &insert, row).await?;
            self.history.record_write(&node);
            self.history.record_row(WritePath::Sql, row);
            pace.tick().await;
        }
    }
}

async fn write_row(client: &Client, insert: &Statement, row: u64) -> anyhow::Result<()> {
    let row = row.cast_signed();
    time::timeout(SQL_TIMEOUT, client.execute(insert, &[&row])).await??;
    Ok(())
}

struct ApiWriter {
    name: DnsName,
    history: History,
    next_row: Arc<AtomicU64>,
    http: HttpClient,
}

impl ApiWriter {
    async fn run(self, stop: CancellationToken) {
        let mut pace = interval(PACE);
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            let row = self.next_row.fetch_add(1, Ordering::Relaxed);
            match stop.run_until_cancelled(self.put(row)).await {
                Some(Ok(())) => self.history.record_row(WritePath::Api, row),
                Some(Err(error)) => {
                    debug!(
                        error = format!("{error:#}"),
                        "api writer tries the next row"
                    );
                }
                None => return,
            }
        }
    }

    async fn put(&self, row: u64) -> anyhow::Result<()> {
        let address = SocketAddr::new(self.name.address().await?, API_PORT);
        let born = date_of_birth(row);
        let request = Request::put(format!("http://{address}/hello/{}", username(row)))
            .header("content-type", "application/json")
            .body(format!(r#"{{"dateOfBirth":"{born}"}}"#))?;
        let answer = self.http.send(request, API_TIMEOUT).await?;
        if !answer.status().is_success() {
            bail!("the API answered {}", answer.status());
        }
        Ok(())
    }
}

/// Returns the first row number of a run, above those of all earlier runs of the lab: the start
/// time in seconds, times more rows than a second can have.
fn first_row() -> u64 {
    causeway_runtime::clock::wall().as_secs() << 20
}
