//! Search for the primary: every server is queried until one accepts writes.

use std::cmp::Reverse;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use causeway_runtime::retry::RetryPolicy;
use causeway_runtime::telemetry::chain;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{PrimaryMonitor, STATUS_TIMEOUT};
use crate::config::Endpoint;
use crate::store::connect::{Address, WarnThrottle};
use crate::store::connection::{Connection, ServerStatus};
use crate::store::lock::lock;
use crate::store::primary::{KNOWN_ABSENCE, KnownServer};
use crate::store::query_error::QueryError;

/// The time without a primary after which another database is taken for its successor, as after an
/// upgrade or a restore: longer than any failover, and shorter than either takes.
const REPLACED_AFTER: Duration = Duration::from_secs(30);
/// The interval at which a standby is queried for its promotion.
const STANDBY_INTERVAL: Duration = Duration::from_millis(25);
/// The time after which the name of a standby is resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(1);
/// The pauses between two attempts at a server.
const RETRY: RetryPolicy = RetryPolicy::constant(Duration::from_millis(40));
/// Timeout of the first server that accepts writes for the status of the others.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(200);
/// The interval at which their answers are counted.
const OTHERS_POLL: Duration = Duration::from_millis(5);
/// The interval at which the time without a primary is added to its metric.
const COUNT_INTERVAL: Duration = Duration::from_millis(100);
const FOREVER: Duration = Duration::from_hours(24);

impl PrimaryMonitor {
    /// Queries all servers at once until one accepts writes, and chooses among those that do.
    pub(super) async fn search(&self) -> Arc<KnownServer> {
        tokio::select! {
            found = self.find() => self.choose(found),
            never = self.report_absence() => match never {},
        }
    }

    async fn report_absence(&self) -> Infallible {
        let mut throttle = WarnThrottle::default();
        loop {
            time::sleep(COUNT_INTERVAL).await;
            if let Some(QueryError::NoPrimary { read_only: true }) = self.primary.absence() {
                let seconds = COUNT_INTERVAL.as_secs_f64();
                self.metrics.db_read_only_seconds.inc_by(seconds);
            }
            if throttle.is_due() {
                let servers = self.primary.server_errors();
                warn!(servers, "no server accepts writes");
            }
        }
    }

    /// Returns the servers that accept writes, once there is one and the others had time to answer.
    async fn find(&self) -> Vec<Arc<KnownServer>> {
        let asked = self.servers.iter().map(|server| self.ask_server(server));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let Some(mut found) = asked.next().await else {
            return std::future::pending().await;
        };
        let choose_at = Instant::now() + OTHERS_TIMEOUT;
        while Instant::now() < choose_at && !self.is_settled(&found) {
            if let Ok(Some(others)) = time::timeout(OTHERS_POLL, asked.next()).await {
                found.extend(others);
            }
        }
        found
    }

    /// Returns whether a server has been promoted since the last primary: then it is the choice.
    fn is_promoted(&self, found: &KnownServer) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| found.status.timeline > before.status.timeline)
    }

    /// Returns whether no answer that is still awaited would change the choice.
    fn is_settled(&self, found: &[Arc<KnownServer>]) -> bool {
        let errors = lock(&self.primary.server_errors);
        let has_answered = |server: &Endpoint| {
            errors.contains_key(&server.to_string())
                || found.iter().any(|known| known.address.server == *server)
        };
        found.iter().any(|known| self.is_promoted(known)) || self.servers.iter().all(has_answered)
    }

    /// Returns the server on the highest timeline, and of several the one that is configured first.
    fn choose(&self, mut found: Vec<Arc<KnownServer>>) -> Arc<KnownServer> {
        let place = |known: &KnownServer| {
            let server = &known.address.server;
            self.servers.iter().position(|named| named == server)
        };
        found.sort_by_key(|known| place(known));
        let system_of = |known: Option<&Arc<KnownServer>>| known?.status.system.clone();
        let system = system_of(self.before.as_ref()).or_else(|| system_of(found.first()));
        found.sort_by_key(|known| {
            let status = &known.status;
            (status.system != system, Reverse(status.timeline))
        });
        let chosen = found.remove(0);
        for other in &found {
            self.is_second_primary(&chosen, other);
        }
        chosen
    }

    /// Queries one server, under every address of its name, until it accepts writes.
    async fn ask_server(&self, server: &Endpoint) -> Vec<Arc<KnownServer>> {
        let mut backoff = RETRY.backoff();
        loop {
            match self.connector.resolve(server).await {
                Ok(addresses) => {
                    let found = self.ask_addresses(server, &addresses).await;
                    if !found.is_empty() {
                        return found;
                    }
                }
                Err(error) => self.log_unusable(server, &error),
            }
            backoff.pause().await;
        }
    }

    async fn ask_addresses(&self, server: &Endpoint, at: &[Address]) -> Vec<Arc<KnownServer>> {
        let asked = at.iter().map(|address| self.ask_address(address));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut all = Vec::new();
        let mut until = Instant::now() + FOREVER;
        while let Ok(Some(status)) = time::timeout_at(until, asked.next()).await {
            match status {
                Ok(found) => {
                    until = until.min(Instant::now() + OTHERS_TIMEOUT);
                    let is_promoted = self.is_promoted(&found);
                    all.push(found);
                    if is_promoted {
                        break;
                    }
                }
                Err(error) => self.log_unusable(server, &error),
            }
        }
        all
    }

    /// Queries the server at one address until it accepts writes, the connection ends, or its name has to be
    /// resolved again.
    async fn ask_address(&self, address: &Address) -> Result<Arc<KnownServer>, QueryError> {
        let ends = CancellationToken::new();
        let (connection, mut status) = self.connector.connect(address, &ends).await?;
        let connection = Arc::new(connection);
        let until = Instant::now() + RESOLVE_INTERVAL;
        self.check_history(&status)?;
        if !status.writable {
            self.log_unusable(&address.server, &QueryError::ReadOnly);
        }
        while !status.writable {
            self.primary
                .record_read_only(|| self.readable(address, &status, &connection));
            if Instant::now() >= until {
                return Err(QueryError::ReadOnly);
            }
            time::sleep(STANDBY_INTERVAL).await;
            let asked = time::timeout(STATUS_TIMEOUT, connection.query_status()).await;
            status = asked.map_err(|_elapsed| QueryError::NoResponse(STATUS_TIMEOUT))??;
            self.check_history(&status)?;
        }
        Ok(self.new_known_server(address, status, &connection, ends))
    }

    /// Rejects a server of another database, or of a timeline that has been left.
    fn check_history(&self, status: &ServerStatus) -> Result<(), QueryError> {
        let Some(before) = &self.before else {
            return Ok(());
        };
        if let (Some(seen), Some(system)) = (&before.status.system, &status.system)
            && seen != system
        {
            if self.primary.absent_for() >= REPLACED_AFTER {
                return Ok(());
            }
            return Err(QueryError::OtherServer(format!(
                "its system identifier is {system}, and the primary's {seen}: it serves another database, \
                 which is accepted as the successor after {} s without a primary",
                REPLACED_AFTER.as_secs()
            )));
        }
        if let (Some(seen), Some(timeline)) = (before.status.timeline, status.timeline)
            && timeline < seen
        {
            return Err(QueryError::OtherServer(format!(
                "it is on timeline {timeline}, and the last primary was on timeline {seen}; after a \
                 restore, restart this service"
            )));
        }
        Ok(())
    }

    /// Returns a read-only server, if it may be read now: a primary that only rejects writes has every row.
    fn readable(
        &self,
        address: &Address,
        status: &ServerStatus,
        monitor: &Arc<Connection>,
    ) -> Option<Arc<KnownServer>> {
        let is_readable = status.timeline.is_some() && self.primary.absent_for() >= KNOWN_ABSENCE;
        let known =
            || self.new_known_server(address, status.clone(), monitor, CancellationToken::new());
        is_readable.then(known)
    }

    fn log_unusable(&self, server: &Endpoint, why: &QueryError) {
        let text = chain(why);
        debug!(%server, why = text, "server is not the primary");
        lock(&self.primary.server_errors).insert(server.to_string(), text);
    }
}
