//! The task that monitors the primary.

mod search;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connect::{Address, Connector};
use super::connection::{Connection, ServerStatus};
use super::lock::lock;
use super::primary::{KnownServer, Primary, PrimaryState};
use super::query_error::QueryError;
use crate::config::{Database, Endpoint};
use crate::metrics::Metrics;

/// The interval at which a known primary is queried.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The time for its answer, after which others are queried too. A frozen server is suspected after at most
/// `POLL_INTERVAL` and this.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval at which the other servers are queried for a second primary.
const SECOND_PRIMARY_INTERVAL: Duration = Duration::from_secs(5);

/// Finds the primary, and queries it.
pub(super) struct PrimaryMonitor {
    servers: Vec<Endpoint>,
    connector: Connector,
    metrics: Metrics,
    primary: Primary,
    /// The last primary.
    before: Option<Arc<KnownServer>>,
    generations: AtomicU64,
    /// The runs of servers that were reported as a second primary.
    other_primaries: Mutex<BTreeSet<String>>,
}

impl PrimaryMonitor {
    /// Starts the task, and returns the state that it keeps.
    pub(super) fn start(
        settings: &Database,
        connector: Connector,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Primary {
        let primary = Primary::new(settings.ready_grace);
        let monitor = Self {
            servers: settings.servers.clone(),
            connector,
            metrics,
            primary: primary.clone(),
            before: None,
            generations: AtomicU64::new(1),
            other_primaries: Mutex::default(),
        };
        tasks.start("primary", |stop| async move {
            let _stopped: Option<Infallible> = stop.run_until_cancelled(monitor.run()).await;
        });
        primary
    }

    async fn run(mut self) -> Infallible {
        let mut found = self.search().await;
        loop {
            self.publish(&found);
            found = if let Some(newer) = self.watch(&found).await {
                newer
            } else {
                // One monitoring connection is allowed, which the next server needs.
                found.monitor.end();
                self.search().await
            };
        }
    }

    /// Returns a server under a generation of its own.
    fn new_known_server(
        &self,
        address: &Address,
        status: ServerStatus,
        monitor: &Arc<Connection>,
        ends: CancellationToken,
    ) -> Arc<KnownServer> {
        Arc::new(KnownServer {
            generation: self.generations.fetch_add(1, Ordering::Relaxed),
            address: address.clone(),
            status,
            ends,
            monitor: Arc::clone(monitor),
        })
    }

    /// Makes a server the primary.
    fn publish(&mut self, found: &Arc<KnownServer>) {
        let status = &found.status;
        let before = self.before.replace(Arc::clone(found));
        if let Some(before) = &before
            && let (Some(old), Some(new)) = (&before.status.system, &status.system)
            && old != new
        {
            warn!(old, new, "database replaced by another");
        }
        let is_before = |known: &Arc<KnownServer>| known.address == found.address;
        let moved = !before.as_ref().is_none_or(is_before);
        if moved {
            self.metrics.db_failovers.inc();
        }
        info!(address = %found.address, generation = found.generation,
            timeline = status.timeline, moved, "primary found");
        lock(&self.primary.server_errors).clear();
        *lock(&self.primary.last_writable) = Instant::now();
        *lock(&self.primary.available_since) = Instant::now();
        let silent = matches!(self.primary.view(), PrimaryState::Suspected(_));
        let era = format!("{:?} {}", status.history(), status.started_at);
        if *self.primary.era.borrow() != era {
            // From here on no cached row of the server before is valid.
            self.primary.era.send_replace(String::new());
        }
        self.primary
            .view
            .send_replace(PrimaryState::Available(Arc::clone(found)));
        // Afterwards, so that no row of the server before is cached as one of this server.
        self.primary.era.send_replace(era);
        // Statements on a server that still runs may be answered; those on one that is silent, or was
        // replaced, are repeated.
        if let Some(before) = before {
            let same_run = !moved && before.status.started_at == status.started_at;
            if silent || !same_run {
                before.ends.cancel();
            }
        }
    }

    /// Queries the primary until it is lost. Returns another if one was found meanwhile.
    async fn watch(&self, known: &KnownServer) -> Option<Arc<KnownServer>> {
        let mut view = self.primary.view.subscribe();
        let mut other_primaries = pin!(self.watch_second_primaries(known));
        loop {
            let now = view.borrow_and_update().clone();
            match now {
                PrimaryState::Available(_) => {
                    tokio::select! {
                        () = time::sleep(POLL_INTERVAL) => {}
                        _ = view.changed() => continue,
                        newer = &mut other_primaries => return Some(newer),
                    }
                    let asked = time::timeout(STATUS_TIMEOUT, known.monitor.query_status()).await;
                    self.record(
                        known,
                        asked.unwrap_or(Err(QueryError::NoResponse(STATUS_TIMEOUT))),
                    );
                }
                PrimaryState::Suspected(_) => {
                    tokio::select! {
                        status = known.monitor.query_status() => self.record(known, status),
                        other = self.search() => return Some(other),
                        _ = view.changed() => {}
                    }
                }
                PrimaryState::Reading(_) | PrimaryState::Searching { .. } => return None,
            }
        }
    }

    fn record(&self, known: &KnownServer, status: Result<ServerStatus, QueryError>) {
        match status.and_then(|status| known.check(&status)) {
            Ok(()) => self.primary.answered(known.generation),
            Err(error) => self.primary.record_error(known.generation, &error),
        }
    }

    /// Queries the other servers from time to time, until one is on a higher timeline than the primary.
    async fn watch_second_primaries(&self, known: &KnownServer) -> Arc<KnownServer> {
        // A name may resolve to several addresses of the primary, which need no second connection.
        let mut own = vec![known.address.resolved];
        loop {
            time::sleep(SECOND_PRIMARY_INTERVAL).await;
            for server in &self.servers {
                let Ok(addresses) = self.connector.resolve(server).await else {
                    continue;
                };
                for address in addresses {
                    if own.contains(&address.resolved) {
                        continue;
                    }
                    let ends = CancellationToken::new();
                    let Ok((connection, status)) = self.connector.connect(&address, &ends).await
                    else {
                        continue;
                    };
                    let other =
                        self.new_known_server(&address, status, &Arc::new(connection), ends);
                    if !self.is_second_primary(known, &other) {
                        if other.status.writable {
                            own.push(address.resolved);
                        }
                    } else if other.status.system == known.status.system
                        && other.status.timeline > known.status.timeline
                    {
                        return other;
                    }
                }
            }
        }
    }

    /// Returns whether a server is a second primary, and reports each once.
    fn is_second_primary(&self, primary: &KnownServer, other: &KnownServer) -> bool {
        let is_same = primary.status.started_at == other.status.started_at
            && primary.status.history() == other.status.history();
        let is_second_primary = other.status.writable && !is_same;
        let name = format!("{} {}", other.address, other.status.started_at);
        if is_second_primary && lock(&self.other_primaries).insert(name) {
            self.metrics.db_split_brain.inc();
            warn!(
                primary = %primary.address,
                other = %other.address,
                timelines = ?(primary.status.timeline, other.status.timeline),
                systems = ?(&primary.status.system, &other.status.system),
                "split-brain detected"
            );
        }
        is_second_primary
    }
}
