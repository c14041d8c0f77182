//! The search for the primary: every server is asked until one accepts writes.

use std::cmp::Reverse;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use causeway_runtime::telemetry::chain;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{ASK_TIMEOUT, PrimaryMonitor};
use crate::config::Server;
use crate::store::connect::{Address, WarnThrottle};
use crate::store::connection::{Answer, Connection};
use crate::store::lock::lock;
use crate::store::primary::{KNOWN_ABSENCE, KnownServer, PrimaryState};
use crate::store::query_error::QueryError;

/// How long no server of the database may have accepted writes before another one is taken for what it
/// was upgraded to or restored as: longer than any failover, and shorter than either takes.
const REPLACED_AFTER: Duration = Duration::from_secs(30);
/// How often a standby is asked whether it has been promoted: a promotion is seen after at most this.
const STANDBY_POLL: Duration = Duration::from_millis(25);
/// How long one standby's connection is asked before its name is resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);
/// The pause before a server that refused is tried again, and how much chance adds to it.
const REFUSED_PAUSE: Duration = Duration::from_millis(40);
/// How long the first server that takes writes waits for what the others say of themselves.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(200);
/// How often that is looked at.
const OTHERS_POLL: Duration = Duration::from_millis(5);
/// How often the time without a primary is added to its metric.
const COUNT_EVERY: Duration = Duration::from_millis(100);
const FOREVER: Duration = Duration::from_hours(24);

impl PrimaryMonitor {
    /// Asks every server at once until one accepts writes, and chooses among those that do.
    pub(super) async fn search(&self) -> Arc<KnownServer> {
        tokio::select! {
            found = self.find() => self.choose(found),
            never = self.report_absence() => match never {},
        }
    }

    async fn report_absence(&self) -> Infallible {
        let mut throttle = WarnThrottle::default();
        loop {
            time::sleep(COUNT_EVERY).await;
            let state = self.primary.view();
            if matches!(
                state,
                PrimaryState::Searching { read_only: true } | PrimaryState::Reading(_)
            ) {
                let seconds = COUNT_EVERY.as_secs_f64();
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

    /// Returns whether a server has been promoted since there was a primary: no other will outdo it.
    fn is_promoted(&self, found: &KnownServer) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| found.answer.timeline > before.answer.timeline)
    }

    /// Returns whether no answer that is still awaited would change the choice.
    fn is_settled(&self, found: &[Arc<KnownServer>]) -> bool {
        let errors = lock(&self.primary.server_errors);
        let has_answered = |server: &Server| {
            errors.contains_key(&server.to_string())
                || found.iter().any(|known| known.address.server == *server)
        };
        found.iter().any(|known| self.is_promoted(known)) || self.servers.iter().all(has_answered)
    }

    /// Returns the server on the highest timeline, and of several the one that is named first.
    fn choose(&self, mut found: Vec<Arc<KnownServer>>) -> Arc<KnownServer> {
        let place = |known: &KnownServer| {
            let server = &known.address.server;
            self.servers.iter().position(|named| named == server)
        };
        found.sort_by_key(|known| place(known));
        let system_of = |known: Option<&Arc<KnownServer>>| known?.answer.system.clone();
        let system = system_of(self.before.as_ref()).or_else(|| system_of(found.first()));
        found.sort_by_key(|known| {
            let answer = &known.answer;
            (answer.system != system, Reverse(answer.timeline))
        });
        let chosen = found.remove(0);
        for other in &found {
            self.is_second_primary(&chosen, other);
        }
        chosen
    }

    /// Asks one server, under every address that its name has, until it accepts writes.
    async fn ask_server(&self, server: &Server) -> Vec<Arc<KnownServer>> {
        loop {
            match self.connector.resolve(server).await {
                Ok(addresses) => {
                    let found = self.ask_addresses(server, &addresses).await;
                    if !found.is_empty() {
                        return found;
                    }
                }
                Err(error) => self.note(server, &error),
            }
            time::sleep(REFUSED_PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }

    async fn ask_addresses(&self, server: &Server, addresses: &[Address]) -> Vec<Arc<KnownServer>> {
        let asked = addresses.iter().map(|address| self.ask_address(address));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut all = Vec::new();
        let mut until = Instant::now() + FOREVER;
        while let Ok(Some(answer)) = time::timeout_at(until, asked.next()).await {
            match answer {
                Ok(found) => {
                    until = until.min(Instant::now() + OTHERS_TIMEOUT);
                    let is_promoted = self.is_promoted(&found);
                    all.push(found);
                    if is_promoted {
                        break;
                    }
                }
                Err(error) => self.note(server, &error),
            }
        }
        all
    }

    /// Asks the server at one address until it accepts writes, ends the connection, or its name has to
    /// be resolved again.
    async fn ask_address(&self, address: &Address) -> Result<Arc<KnownServer>, QueryError> {
        let ends = CancellationToken::new();
        let (connection, mut answer) = self.connector.connect(address, &ends).await?;
        let connection = Arc::new(connection);
        let until = Instant::now() + RESOLVE_EVERY;
        self.check_history(&answer)?;
        if !answer.writable {
            self.note(&address.server, &QueryError::ReadOnly);
        }
        while !answer.writable {
            self.primary
                .some_server_answers(|| self.readable(address, &answer, &connection));
            if Instant::now() >= until {
                return Err(QueryError::ReadOnly);
            }
            time::sleep(STANDBY_POLL).await;
            let asked = time::timeout(ASK_TIMEOUT, connection.ask()).await;
            answer = asked.map_err(|_elapsed| QueryError::Silent(ASK_TIMEOUT))??;
            self.check_history(&answer)?;
        }
        Ok(self.known(address, answer, &connection, ends))
    }

    /// Rejects a server of another database, or of a timeline that has been left.
    fn check_history(&self, answer: &Answer) -> Result<(), QueryError> {
        let Some(before) = &self.before else {
            return Ok(());
        };
        if let (Some(seen), Some(system)) = (&before.answer.system, &answer.system)
            && seen != system
        {
            if self.primary.away_for() >= REPLACED_AFTER {
                return Ok(());
            }
            return Err(QueryError::OtherServer(format!(
                "its system identifier is {system}, and the primary's {seen}: it is of another database, \
                 and taken for its successor after {} s without a primary",
                REPLACED_AFTER.as_secs()
            )));
        }
        if let (Some(seen), Some(timeline)) = (before.answer.timeline, answer.timeline)
            && timeline < seen
        {
            return Err(QueryError::OtherServer(format!(
                "it is on timeline {timeline}, and timeline {seen} has been seen: it was replaced; \
                 after a restore, restart this service"
            )));
        }
        Ok(())
    }

    /// Returns a server that accepts no writes, if it may be read now: a primary that only refuses
    /// writes has every row, and a standby is read where the operator wants it.
    fn readable(
        &self,
        address: &Address,
        answer: &Answer,
        monitor: &Arc<Connection>,
    ) -> Option<Arc<KnownServer>> {
        let is_primary = answer.timeline.is_some();
        let after = if is_primary {
            KNOWN_ABSENCE
        } else {
            self.reads_from_standby?
        };
        let away_for = self.primary.away_for();
        // What a standby does not say of its rows is as long ago as the primary, at least.
        let behind = answer.behind.or(Some(away_for));
        let answer = Answer {
            behind,
            ..answer.clone()
        };
        (away_for >= after).then(|| self.known(address, answer, monitor, CancellationToken::new()))
    }

    fn note(&self, server: &Server, why: &QueryError) {
        let text = chain(why);
        debug!(%server, why = text, "not the primary");
        lock(&self.primary.server_errors).insert(server.to_string(), text);
    }
}
