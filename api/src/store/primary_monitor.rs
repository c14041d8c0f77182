//! The task that asks the servers who of them is the primary.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::chain;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connect::{Address, Connector, WarnThrottle};
use super::connection::{Answer, Connection};
use super::lock::lock;
use super::primary::{KNOWN_ABSENCE, KnownServer, Primary, PrimaryState};
use super::query_error::QueryError;
use crate::config::{Database, Server};
use crate::metrics::Metrics;

/// How long no server of the database may have accepted writes before another one is taken for what it
/// was upgraded to or restored as: longer than any failover, and shorter than either takes.
const REPLACED_AFTER: Duration = Duration::from_secs(30);
/// How often a primary that is known is asked whether it still is one.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long its answer may take before others are asked too. A frozen server is suspected after at
/// most `ASK_EVERY` and this.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the other servers are asked whether one of them takes writes as well.
const RIVALS_EVERY: Duration = Duration::from_secs(5);
/// How often a standby is asked whether it has been promoted: a promotion is seen after at most this.
const STANDBY_POLL: Duration = Duration::from_millis(25);
/// How long one standby's connection is asked before its name is resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);
/// The pause before a server that refused is tried again, and how much chance adds to it.
const REFUSED_PAUSE: Duration = Duration::from_millis(40);
/// How long the first server that takes writes waits for what the others say of themselves.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(200);
/// How often that is looked at, and how often the time without a primary is added to its metric.
const OTHERS_POLL: Duration = Duration::from_millis(5);
const COUNT_EVERY: Duration = Duration::from_millis(500);
const FOREVER: Duration = Duration::from_hours(24);

/// The task that asks.
pub(super) struct PrimaryMonitor {
    servers: Vec<Server>,
    reads_from_standby: Option<Duration>,
    connector: Connector,
    metrics: Metrics,
    primary: Primary,
    /// The primary before the one that is looked for.
    before: Option<Arc<KnownServer>>,
    seen: Mutex<Seen>,
    /// The runs of servers that were told of because they accept writes beside the primary.
    other_primaries: Mutex<BTreeSet<String>>,
}

/// What is never gone back behind.
#[derive(Debug, Default)]
struct Seen {
    generation: u64,
    system: Option<String>,
    timeline: Option<u32>,
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
            seen: Mutex::default(),
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
        let mut seen = lock(&self.seen);
        seen.generation += 1;
        Arc::new(KnownServer {
            generation: seen.generation,
            address: address.clone(),
            answer,
            answered_at: Instant::now(),
            ends,
            monitor: Arc::clone(monitor),
        })
    }

    /// Makes what was found the primary.
    fn publish(&mut self, known: &Arc<KnownServer>) {
        let answer = &known.answer;
        {
            let mut seen = lock(&self.seen);
            if seen.system.is_some() && answer.system.is_some() && seen.system != answer.system {
                warn!(before = ?seen.system, now = ?answer.system, "the database was replaced by another");
                seen.timeline = None;
            }
            seen.system.clone_from(&answer.system);
            seen.timeline = seen.timeline.max(answer.timeline);
        }
        let before = self.before.replace(Arc::clone(known));
        let moved = before
            .as_ref()
            .is_some_and(|it| it.address != known.address);
        if moved {
            self.metrics.db_failovers.inc();
        }
        info!(address = %known.address, generation = known.generation,
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
            .send_replace(PrimaryState::Available(Arc::clone(known)));
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
        let mut other_primaries = std::pin::pin!(self.watch_second_primaries(known));
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
            time::sleep(RIVALS_EVERY).await;
            for server in &self.servers {
                let addresses = self.connector.resolve(server).await.unwrap_or_default();
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
        let is_second_primary = other.answer.writable && primary.run() != other.run();
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

    /// Asks every server at once until one accepts writes, and chooses among those that do.
    async fn search(&self) -> Arc<KnownServer> {
        let mut servers: FuturesUnordered<_> =
            self.servers.iter().map(|it| self.ask_server(it)).collect();
        let mut warn_throttle = WarnThrottle::default();
        let mut found = Vec::new();
        let mut choose_at = None;
        loop {
            let began = Instant::now();
            let patience = choose_at.map_or(COUNT_EVERY, |_| OTHERS_POLL);
            if let Ok(Some(others)) = time::timeout(patience, servers.next()).await {
                choose_at.get_or_insert(Instant::now() + OTHERS_TIMEOUT);
                found.extend(others);
            }
            if choose_at.is_some_and(|it| it <= Instant::now() || self.is_settled(&found)) {
                return self.choose(found);
            }
            let view = self.primary.view();
            if matches!(
                view,
                PrimaryState::Searching { read_only: true } | PrimaryState::Reading(_)
            ) {
                let seconds = began.elapsed().as_secs_f64();
                self.metrics.db_read_only_seconds.inc_by(seconds);
            }
            if warn_throttle.is_due() {
                warn!(
                    servers = self.primary.server_errors(),
                    "no server accepts writes"
                );
            }
        }
    }

    /// Returns whether a server has been promoted since there was a primary: no other will outdo it.
    fn is_promoted(&self, found: &KnownServer) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|it| found.answer.timeline > it.answer.timeline)
    }

    /// Returns whether nothing that a server may still say would change the choice.
    fn is_settled(&self, found: &[Arc<KnownServer>]) -> bool {
        let server_errors = lock(&self.primary.server_errors);
        let has_answered = |server: &Server| {
            server_errors.contains_key(&server.to_string())
                || found.iter().any(|it| it.address.server == *server)
        };
        found.iter().any(|it| self.is_promoted(it)) || self.servers.iter().all(has_answered)
    }

    /// Returns the server on the highest timeline, and of several the one that is named first.
    fn choose(&self, mut found: Vec<Arc<KnownServer>>) -> Arc<KnownServer> {
        let place = |it: &KnownServer| self.servers.iter().position(|at| *at == it.address.server);
        let first = found.iter().min_by_key(|it| place(it));
        let seen = lock(&self.seen).system.clone();
        let system = seen.or_else(|| first.and_then(|it| it.answer.system.clone()));
        let rank = |it: &Arc<KnownServer>| {
            (
                it.answer.system != system,
                Reverse(it.answer.timeline),
                place(it),
            )
        };
        found.sort_by_key(rank);
        let chosen = found.remove(0);
        for other in &found {
            self.is_second_primary(&chosen, other);
        }
        chosen
    }

    /// Asks one server, under every address that its name has, until it accepts writes.
    async fn ask_server(&self, server: &Server) -> Vec<Arc<KnownServer>> {
        loop {
            let addresses = match self.connector.resolve(server).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    self.note(server, &error);
                    Vec::new()
                }
            };
            let mut asked: FuturesUnordered<_> =
                addresses.iter().map(|it| self.ask_address(it)).collect();
            let mut all = Vec::new();
            let mut answered_at = None;
            loop {
                let until = answered_at.map_or(Instant::now() + FOREVER, |it| it + OTHERS_TIMEOUT);
                match time::timeout_at(until, asked.next()).await {
                    Ok(Some(Ok(found))) => {
                        answered_at.get_or_insert(Instant::now());
                        let is_promoted = self.is_promoted(&found);
                        all.push(found);
                        if is_promoted {
                            return all;
                        }
                    }
                    Ok(Some(Err(why))) => self.note(server, &why),
                    Ok(None) if all.is_empty() => break,
                    Ok(None) | Err(_) => return all,
                }
            }
            time::sleep(REFUSED_PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }

    /// Asks the server at one address until it accepts writes, ends the connection, or has been
    /// asked for as long as its name is believed.
    async fn ask_address(&self, address: &Address) -> Result<Arc<KnownServer>, QueryError> {
        let ends = CancellationToken::new();
        let (connection, mut answer) = self.connector.connect(address, &ends).await?;
        let connection = Arc::new(connection);
        let until = Instant::now() + RESOLVE_EVERY;
        self.check_lineage(&answer)?;
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
            self.check_lineage(&answer)?;
        }
        Ok(self.known(address, answer, &connection, ends))
    }

    /// Refuses a server of another database, or of a history that has been left. At the start it only
    /// loses the choice.
    fn check_lineage(&self, answer: &Answer) -> Result<(), QueryError> {
        let mut seen = lock(&self.seen);
        if let (Some(seen), Some(system)) = (&seen.system, &answer.system)
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
        if let (Some(seen), Some(timeline)) = (seen.timeline, answer.timeline)
            && timeline < seen
            && self.before.is_some()
        {
            return Err(QueryError::OtherServer(format!(
                "it is on timeline {timeline}, and timeline {seen} has been seen: it was replaced; \
                 after a restore, restart this service"
            )));
        }
        // Before the first choice, it may be of another database.
        if answer.writable && self.before.is_some() {
            seen.timeline = seen.timeline.max(answer.timeline);
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
