//! The task that asks the servers who of them is the primary.

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
use super::connection::{Answer, Connection};
use super::lock::lock;
use super::primary::{KnownServer, Primary, PrimaryState};
use super::query_error::QueryError;
use crate::config::{Database, Server};
use crate::metrics::Metrics;

/// How often a primary that is known is asked whether it still is one.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long its answer may take before others are asked too. A frozen server is suspected after at
/// most `ASK_EVERY` and this.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the other servers are asked whether one of them takes writes as well.
const SECOND_PRIMARY_POLL: Duration = Duration::from_secs(5);

/// The task that asks.
pub(super) struct PrimaryMonitor {
    servers: Vec<Server>,
    reads_from_standby: Option<Duration>,
    connector: Connector,
    metrics: Metrics,
    primary: Primary,
    /// The primary before the one that is looked for.
    before: Option<Arc<KnownServer>>,
    generations: AtomicU64,
    /// The runs of servers that were told of because they accept writes beside the primary.
    other_primaries: Mutex<BTreeSet<String>>,
}

impl PrimaryMonitor {
    pub(super) fn new(settings: &Database, connector: Connector, metrics: Metrics) -> Self {
        Self {
            servers: settings.servers.clone(),
            reads_from_standby: settings.reads_from_standby,
            connector,
            metrics,
            primary: Primary::new(settings.ready_grace),
            before: None,
            generations: AtomicU64::new(1),
            other_primaries: Mutex::default(),
        }
    }

    /// Starts looking for the primary, and never stops.
    pub(super) fn start(self, tasks: &Tasks) -> Primary {
        let primary = self.primary.clone();
        tasks.start("primary", |stop| async move {
            let _stopped: Option<Infallible> = stop.run_until_cancelled(self.run()).await;
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
                // It has a place for one connection, which is the next one's.
                found.monitor.end();
                self.search().await
            };
        }
    }

    /// Returns what a server said, under a generation of its own.
    fn known(
        &self,
        address: &Address,
        answer: Answer,
        monitor: &Arc<Connection>,
        ends: CancellationToken,
    ) -> Arc<KnownServer> {
        Arc::new(KnownServer {
            generation: self.generations.fetch_add(1, Ordering::Relaxed),
            address: address.clone(),
            answer,
            answered_at: Instant::now(),
            ends,
            monitor: Arc::clone(monitor),
        })
    }

    /// Makes what was found the primary.
    fn publish(&mut self, found: &Arc<KnownServer>) {
        let answer = &found.answer;
        let before = self.before.replace(Arc::clone(found));
        if let Some(before) = &before
            && let (Some(old), Some(new)) = (&before.answer.system, &answer.system)
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
            timeline = answer.timeline, moved, "primary found");
        lock(&self.primary.server_errors).clear();
        *lock(&self.primary.last_writable) = Instant::now();
        *lock(&self.primary.available_since) = Instant::now();
        let silent = matches!(self.primary.view(), PrimaryState::Suspected(_));
        let era = format!("{:?} {}", answer.history(), answer.started_at);
        if *self.primary.era.borrow() != era {
            // From here on no row of the server before is an answer.
            self.primary.era.send_replace(String::new());
        }
        self.primary
            .view
            .send_replace(PrimaryState::Available(Arc::clone(found)));
        // Afterwards, so that no row of the server before is cached as one of this server.
        self.primary.era.send_replace(era);
        // What waits on a server that answers may still be answered; what waits on one that does
        // not, or that has been replaced, is better repeated.
        if let Some(before) = before {
            let same_run = !moved && before.answer.started_at == answer.started_at;
            if silent || !same_run {
                before.ends.cancel();
            }
        }
    }

    /// Asks the primary until it has to be left. Returns another if one was found on the way.
    async fn watch(&self, known: &KnownServer) -> Option<Arc<KnownServer>> {
        let mut view = self.primary.view.subscribe();
        let mut other_primaries = pin!(self.watch_second_primaries(known));
        loop {
            let now = view.borrow_and_update().clone();
            match now {
                PrimaryState::Available(_) => {
                    tokio::select! {
                        () = time::sleep(ASK_EVERY) => {}
                        _ = view.changed() => continue,
                        newer = &mut other_primaries => return Some(newer),
                    }
                    let asked = time::timeout(ASK_TIMEOUT, known.monitor.ask()).await;
                    self.judge(known, asked.unwrap_or(Err(QueryError::Silent(ASK_TIMEOUT))));
                }
                PrimaryState::Suspected(_) => {
                    tokio::select! {
                        answer = known.monitor.ask() => self.judge(known, answer),
                        other = self.search() => return Some(other),
                        _ = view.changed() => {}
                    }
                }
                PrimaryState::Reading(_) | PrimaryState::Searching { .. } => return None,
            }
        }
    }

    fn judge(&self, known: &KnownServer, answer: Result<Answer, QueryError>) {
        match answer.and_then(|it| known.check(&it)) {
            Ok(()) => self.primary.answered(known.generation),
            Err(error) => self.primary.record_error(known.generation, &error),
        }
    }

    /// Asks the other servers now and then, until one is found that is newer than the primary.
    async fn watch_second_primaries(&self, known: &KnownServer) -> Arc<KnownServer> {
        // A name may have several addresses of one server, which need no second connection.
        let mut own = vec![known.address.clone()];
        loop {
            time::sleep(SECOND_PRIMARY_POLL).await;
            for server in &self.servers {
                let Ok(addresses) = self.connector.resolve(server).await else {
                    continue;
                };
                for address in addresses {
                    if own.iter().any(|it| it.is_at(&address)) {
                        continue;
                    }
                    let ends = CancellationToken::new();
                    let Ok((connection, answer)) = self.connector.connect(&address, &ends).await
                    else {
                        continue;
                    };
                    let other = self.known(&address, answer, &Arc::new(connection), ends);
                    if !self.is_second_primary(known, &other) {
                        if other.answer.writable {
                            own.push(address);
                        }
                    } else if other.answer.system == known.answer.system
                        && other.answer.timeline > known.answer.timeline
                    {
                        return other;
                    }
                }
            }
        }
    }

    /// Returns whether a server accepts writes beside the primary, and tells of each that does.
    fn is_second_primary(&self, primary: &KnownServer, other: &KnownServer) -> bool {
        let is_same = primary.answer.started_at == other.answer.started_at
            && primary.answer.history() == other.answer.history();
        let is_second_primary = other.answer.writable && !is_same;
        let name = format!("{} {}", other.address, other.answer.started_at);
        if is_second_primary && lock(&self.other_primaries).insert(name) {
            self.metrics.db_split_brain.inc();
            warn!(
                primary = %primary.address,
                other = %other.address,
                timelines = ?(primary.answer.timeline, other.answer.timeline),
                systems = ?(&primary.answer.system, &other.answer.system),
                "two servers accept writes"
            );
        }
        is_second_primary
    }
}
