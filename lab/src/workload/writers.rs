//! Clients that write all the time, and record what is acknowledged.
//!
//! A row is written once. When its outcome is unknown it is forgotten and the next one is tried, so
//! that the history contains exactly the acknowledged rows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use causeway_core::NodeId;
use causeway_runtime::shutdown::Tasks;
use http_body_util::Full;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
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

/// How many connections each of the two writers has: a client with one connection would show a
/// primary that serves only some as one that serves all, or none.
const CONNECTIONS: u64 = 4;

/// How often each connection writes: 4 connections × 2 writers × 25 a second = 200 rows a second,
/// which two cores carry beside three servers and everything else.
const PACE: Duration = Duration::from_millis(40);

/// How long a client waits for PostgreSQL before it tries elsewhere.
const SQL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a client waits for the API: longer than the API itself tries (8 s), so that the API's
/// answer is heard.
const API_PATIENCE: Duration = Duration::from_secs(10);

/// The clients. They write until they are stopped.
#[derive(Debug)]
pub struct Writers {
    database: DatabaseEndpoints,
    history: History,
    tasks: Tasks,
}

impl Writers {
    /// Starts one writer through the API, whose name `resolver` knows, one by SQL, and for each node
    /// a write probe.
    pub fn start(database: &DatabaseEndpoints, resolver: SocketAddr, history: &History) -> Self {
        Self::start_with(CONNECTIONS, database, resolver, history)
    }

    /// Starts them, as [`Writers::start`] does, with so many connections each.
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
                http: HttpClient::builder(TokioExecutor::new()).build_http(),
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

    /// Probes one more server, and records its acknowledgements as `node`.
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

    /// Writes to one primary for as long as that works.
    async fn serve(&self, pace: &mut time::Interval) -> anyhow::Result<()> {
        let (node, client) = self
            .database
            .connect_to_primary(SQL_PATIENCE, &self.tasks)
            .await?;
        let insert = "insert into ledger (n) values ($1)";
        let insert = time::timeout(SQL_PATIENCE, client.prepare(insert)).await??;
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
    time::timeout(SQL_PATIENCE, client.execute(insert, &[&row])).await??;
    Ok(())
}

struct ApiWriter {
    name: DnsName,
    history: History,
    next_row: Arc<AtomicU64>,
    http: HttpClient<HttpConnector, Full<Bytes>>,
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
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("http://{address}/hello/{}", username(row)))
            .header("content-type", "application/json")
            .body(Full::from(format!(r#"{{"dateOfBirth":"{born}"}}"#)))?;
        let answer = time::timeout(API_PATIENCE, self.http.request(request)).await??;
        if !answer.status().is_success() {
            bail!("the API answered {}", answer.status());
        }
        Ok(())
    }
}

/// Returns a number from which clients may count that no earlier ones of this lab have reached: the
/// second in which they start, times more rows than they write in one.
fn first_row() -> u64 {
    causeway_runtime::clock::wall().as_secs() << 20
}
