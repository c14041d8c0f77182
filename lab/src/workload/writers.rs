//! Clients that write all the time, and remember what was acknowledged to them.
//!
//! A row is written once. When its outcome is unknown it is forgotten and the next one is tried, so
//! that everything remembered was acknowledged, and everything acknowledged is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use causeway_core::NodeId;
use causeway_runtime::secret::Secret;
use causeway_runtime::shutdown::Tasks;
use futures_util::future::select_ok;
use http_body_util::Full;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use tokio::time::{self, MissedTickBehavior};
use tokio_postgres::{Client, NoTls, Statement};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::cluster::topology::{API_NAME, API_PORT};
use crate::network::dns_name::DnsName;
use crate::workload::checker;
use crate::workload::history::{History, WritePath};

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

/// How often each node is asked to accept a write.
const SAMPLE_EVERY: Duration = Duration::from_millis(75);

/// How long a node may take to acknowledge a sample. A node that is frozen or cut off is not
/// writable, however it would have answered.
const SAMPLE_PATIENCE: Duration = Duration::from_millis(500);

/// The days from which the dates of birth are counted: every day from here to yesterday is a valid
/// one, some 740,000 of them.
const FIRST_DAY: Date = date(1, 1, 2);

/// How many different dates are used before they repeat.
const DAYS: u64 = 700_000;

/// How the database is reached: every host, and the application's password.
#[derive(Clone, Debug)]
pub struct DatabaseEndpoints {
    /// The nodes and where their PostgreSQL listens.
    pub hosts: Vec<(NodeId, SocketAddr)>,
    /// The password of the role `app`.
    pub password: Secret,
}

impl DatabaseEndpoints {
    /// Connects to one node. The connection is a task of `tasks`.
    ///
    /// # Errors
    ///
    /// When the node does not let the application in within `timeout`.
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

    /// Connects to whichever node is out of recovery.
    ///
    /// # Errors
    ///
    /// When none is, within `timeout`.
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

/// The clients. They write until they are stopped.
#[derive(Debug)]
pub struct Writers {
    database: DatabaseEndpoints,
    history: History,
    tasks: Tasks,
}

impl Writers {
    /// Starts one writer through the API, whose name `resolver` knows, one by SQL, and for each node
    /// the sampler that asks it to accept a write.
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
            writers.sample(node.clone(), *address);
        }
        writers
    }

    /// Asks one more server again and again to accept a write, and remembers it as `node`.
    pub fn sample(&self, node: NodeId, address: SocketAddr) {
        let sampler = WriteProbe {
            node,
            address,
            database: self.database.clone(),
            history: self.history.clone(),
            tasks: self.tasks.clone(),
        };
        self.tasks.start("sampler", |stop| sampler.run(stop));
    }

    /// Returns what the clients remember.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Ends the clients.
    pub async fn stop(&self) {
        self.tasks.stop(Duration::from_secs(2)).await;
    }
}

/// Returns the acknowledged rows that the primary does not have, by the door they came through.
///
/// # Errors
///
/// When the primary cannot be read.
pub async fn missing_rows(
    primary: &Client,
    history: &History,
) -> anyhow::Result<BTreeMap<WritePath, BTreeSet<u64>>> {
    let snapshot = history.snapshot();
    let acknowledged = |path| {
        let rows = snapshot.acknowledged.iter().filter(|it| it.path == path);
        rows.map(|it| it.row).collect::<BTreeSet<_>>()
    };
    let by_sql = primary.query("select n from ledger", &[]).await?;
    let by_sql = by_sql.iter().map(|it| it.get::<_, i64>(0).cast_unsigned());
    let by_sql = checker::lost(&acknowledged(WritePath::Sql), &by_sql.collect());

    let by_api = acknowledged(WritePath::Api);
    if by_api.is_empty() {
        return Ok(BTreeMap::from([(WritePath::Sql, by_sql)]));
    }
    let people = "select username, date_of_birth::text from hello_users";
    let people = primary.query(people, &[]).await?;
    let people: BTreeMap<String, String> = people.iter().map(|it| (it.get(0), it.get(1))).collect();
    let is_there = |row: &u64| {
        let born = people.get(&username(*row));
        born.is_some_and(|it| *it == date_of_birth(*row).to_string())
    };
    let present = by_api.iter().copied().filter(is_there).collect();
    let by_api = checker::lost(&by_api, &present);
    Ok(BTreeMap::from([
        (WritePath::Sql, by_sql),
        (WritePath::Api, by_api),
    ]))
}

struct SqlWriter {
    database: DatabaseEndpoints,
    history: History,
    next_row: Arc<AtomicU64>,
    tasks: Tasks,
}

impl SqlWriter {
    async fn run(self, stop: CancellationToken) {
        let mut pace = pace(PACE);
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
        let mut pace = pace(PACE);
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

/// Asks one node, again and again, to accept a write.
struct WriteProbe {
    node: NodeId,
    address: SocketAddr,
    database: DatabaseEndpoints,
    history: History,
    tasks: Tasks,
}

impl WriteProbe {
    async fn run(self, stop: CancellationToken) {
        let mut pace = pace(SAMPLE_EVERY);
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            let sampled = stop.run_until_cancelled(self.sample(&mut pace)).await;
            if let Some(Err(error)) = sampled {
                debug!(node = %self.node, error = format!("{error:#}"), "not reached");
            }
        }
    }

    /// Samples over one connection for as long as it lives. A refusal to write leaves it alive.
    async fn sample(&self, pace: &mut time::Interval) -> anyhow::Result<()> {
        let client = self
            .database
            .connect(self.address, SAMPLE_PATIENCE, &self.tasks)
            .await?;
        let node = self.node.as_str();
        let probe = "insert into lab_probe (node, n) values ($1, 1)
                     on conflict (node) do update set n = lab_probe.n + 1";
        let probe = time::timeout(SAMPLE_PATIENCE, client.prepare(probe)).await??;
        loop {
            match time::timeout(SAMPLE_PATIENCE, client.execute(&probe, &[&node])).await? {
                Ok(_) => self.history.record_write(&self.node),
                Err(error) if client.is_closed() => return Err(error.into()),
                Err(_refused) => {}
            }
            pace.tick().await;
        }
    }
}

/// Returns a number from which clients may count that no earlier ones of this lab have reached: the
/// second in which they start, times more rows than they write in one.
fn first_row() -> u64 {
    causeway_runtime::clock::wall().as_secs() << 20
}

fn pace(every: Duration) -> time::Interval {
    let mut pace = time::interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Returns the name of the person that stands for a row: letters only, as the API wants it.
pub(crate) fn username(row: u64) -> String {
    let mut rest = row;
    let mut letters = Vec::new();
    while rest > 0 {
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or(0)));
        rest /= 26;
    }
    format!("Row{}", letters.iter().rev().collect::<String>())
}

/// Returns the date that stands for a row, so that a row which holds another row's date shows.
pub(crate) fn date_of_birth(row: u64) -> Date {
    let days = i64::try_from(row % DAYS).unwrap_or(0);
    FIRST_DAY.saturating_add(days.days())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_name_and_a_day_that_the_api_takes() {
        let names: BTreeSet<_> = (1..20_000).map(username).collect();
        assert_eq!(names.len(), 19_999);
        let letters = |it: &String| it.bytes().all(|it| it.is_ascii_alphabetic());
        assert!(names.iter().all(letters));

        assert_eq!(date_of_birth(0).to_string(), "0001-01-02");
        assert_eq!(date_of_birth(DAYS - 1).to_string(), "1917-07-16");
    }
}
