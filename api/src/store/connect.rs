//! Where a server is, and how a connection to it is opened: TLS, timeouts, and what it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::postgres::{Tls, TlsError};
use causeway_runtime::retry::{RetryBackoff, RetryPolicy};
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::chain;
use tokio::time::{self, Instant};
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::{Answer, Connection, ROLE, talk};
use super::lock::lock;
use super::query_error::{self, QueryError};
use crate::config::{Database, Server};

/// A lock is waited for no longer than a client would wait for the statement behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for reads, which others wait behind: they are tried again.
const READ_LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// Nothing here holds a transaction open on purpose.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A host that vanished is noticed in 5 + 3 * 2 = 11 s on an idle connection, instead of in hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// The same while something is unacknowledged, instead of about 15 minutes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to say goodbye when the program ends.
const GOODBYE: Duration = Duration::from_millis(500);
/// A cancel request is worth this much waiting, and no more.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The pauses between logins at a server that refuses them.
const REFUSED: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(50),
    max_backoff: Duration::from_secs(1),
};
/// What lasts for so long is worth a line of the log, and another every so often.
const COMPLAIN_AFTER: Duration = Duration::from_secs(1);
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// When the log is told of what does not end.
#[derive(Debug)]
pub(super) struct WarnThrottle(Instant);

/// What a server answered that would answer the next login the same.
#[derive(Debug)]
struct Refusal {
    why: String,
    backoff: RetryBackoff,
    until: Instant,
    warn_throttle: WarnThrottle,
}

/// Opens connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    config: Config,
    tls: Tls,
    connect_timeout: Duration,
    statement_timeout: Duration,
    lock_timeout: Duration,
    refusals: Arc<Mutex<BTreeMap<String, Refusal>>>,
    pub(super) tasks: Tasks,
}

/// Where a server was found: its name, for TLS, and what the name meant just then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) server: Server,
    ip: Option<IpAddr>,
}

impl Address {
    /// Returns whether both lead to one place, whatever it is called.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        let is_same_ip = self.ip.is_some() && self.ip == other.ip;
        self == other || is_same_ip && self.server.port == other.server.port
    }
}

impl Default for WarnThrottle {
    fn default() -> Self {
        Self(Instant::now() + COMPLAIN_AFTER)
    }
}

impl WarnThrottle {
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.0 <= Instant::now();
        if is_due {
            self.0 = Instant::now() + COMPLAIN_EVERY;
        }
        is_due
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.server.port).fmt(f),
            None => self.server.fmt(f),
        }
    }
}

impl Connector {
    pub(super) fn new(database: &Database, tasks: Tasks) -> Result<Self, TlsError> {
        let mut config = Config::new();
        config
            .user(&database.user)
            .dbname(&database.name)
            .ssl_mode(database.tls.on_the_wire())
            .connect_timeout(database.connect_timeout)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        if let Some(password) = &database.password {
            config.password(password.reveal());
        }
        Ok(Self {
            config,
            tls: causeway_runtime::postgres::tls(database.tls, database.root_cert.as_ref())?,
            connect_timeout: database.connect_timeout,
            statement_timeout: database.statement_timeout,
            lock_timeout: LOCK_TIMEOUT,
            refusals: Arc::default(),
            tasks,
        })
    }

    /// Returns one for connections of reads.
    pub(super) fn for_reads(&self) -> Self {
        Self {
            lock_timeout: READ_LOCK_TIMEOUT,
            ..self.clone()
        }
    }

    fn session(&self) -> String {
        let millis = |time: Duration| time.as_millis().to_string();
        include_str!("queries/session.sql")
            .replace("{role}", ROLE)
            .replace("{statement}", &millis(self.statement_timeout))
            .replace("{lock}", &millis(self.lock_timeout))
            .replace("{idle}", &millis(IDLE_IN_TRANSACTION_TIMEOUT))
    }

    /// Returns what the server's name means now.
    pub(super) async fn resolve(&self, server: &Server) -> Result<Vec<Address>, QueryError> {
        let found = |ip| Address {
            server: server.clone(),
            ip,
        };
        if server.host.starts_with('/') {
            return Ok(vec![found(None)]);
        }
        let name = (server.host.as_str(), server.port);
        let looked_up = time::timeout(self.connect_timeout, tokio::net::lookup_host(name));
        let unresolved = |source| QueryError::Unresolved(server.host.clone(), source);
        let out_of_time = |_elapsed| QueryError::Silent(self.connect_timeout);
        let addresses = looked_up.await.map_err(out_of_time)?.map_err(unresolved)?;
        Ok(addresses.map(|it| found(Some(it.ip()))).collect())
    }

    /// Opens a connection, which lasts until it is dropped or `ends` is cancelled.
    pub(super) async fn connect(
        &self,
        address: &Address,
        ends: &CancellationToken,
    ) -> Result<(Connection, Answer), QueryError> {
        let place = address.to_string();
        if let Some(refusal) = lock(&self.refusals).get(&place)
            && Instant::now() < refusal.until
        {
            return Err(QueryError::RefusedLately(refusal.why.clone()));
        }
        let connecting = self.connect_patiently(address, ends);
        let out_of_time = |_elapsed| QueryError::Silent(self.connect_timeout);
        let connected = time::timeout(self.connect_timeout, connecting).await;
        let connected = connected.map_err(out_of_time)?;
        match &connected {
            Ok(_) => drop(lock(&self.refusals).remove(&place)),
            Err(QueryError::Refused(error)) if query_error::is_permanent(error) => {
                self.refused(&place, chain(error));
            }
            Err(_) => {}
        }
        connected
    }

    /// Leaves a server alone for a while that would refuse the next login like this one.
    fn refused(&self, place: &str, why: String) {
        let mut refusals = lock(&self.refusals);
        let refusal = refusals.entry(place.to_owned()).or_insert_with(|| Refusal {
            why: String::new(),
            backoff: REFUSED.backoff(),
            until: Instant::now(),
            warn_throttle: WarnThrottle::default(),
        });
        refusal.until = Instant::now() + refusal.backoff.next_pause();
        if refusal.warn_throttle.is_due() {
            warn!(address = place, error = why, "connections are refused");
        }
        refusal.why = why;
    }

    async fn connect_patiently(
        &self,
        address: &Address,
        ends: &CancellationToken,
    ) -> Result<(Connection, Answer), QueryError> {
        let mut config = self.config.clone();
        config.host(&address.server.host).port(address.server.port);
        if let Some(ip) = address.ip {
            config.hostaddr(ip);
        }
        let number: u64 = rand::random();
        let session_name = format!("api/{} {number:016x}", env!("CARGO_PKG_VERSION"));
        config.application_name(&session_name);
        let (client, connection) = config.connect(self.tls.clone()).await?;
        let ends = ends.child_token();
        let ordered = ends.clone();
        let warned = Arc::new(AtomicBool::new(false));
        let connection = talk(connection, Arc::clone(&warned));
        self.tasks.start("postgres connection", |stop| async move {
            let mut connection = pin!(connection);
            // Dropping the connection fails whatever still waits on it, at once.
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = ordered.cancelled() => return,
                () = stop.cancelled() => {
                    time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = ended {
                debug!(%error, "connection to PostgreSQL ended");
            }
        });
        let answer = Answer::read(&client.simple_query(&self.session()).await?);
        // What a server warns of at the door, such as an older collation, is no commit's.
        warned.store(false, Ordering::Relaxed);
        let connection = Connection {
            client,
            backend: answer.backend.clone(),
            session_name,
            statements: Mutex::default(),
            opened_at: Instant::now(),
            ends,
            warned,
            settled: AtomicBool::new(false),
        };
        Ok((connection, answer))
    }

    /// Ends a connection whose read nobody waits for any more, and asks the server to stop working on
    /// it.
    ///
    /// A write is never cancelled: one that waits for a synchronous standby would be committed
    /// without it, and the next try would find its row and call it stored.
    pub(super) fn abandon(&self, connection: &Connection) {
        connection.end();
        let cancel = connection.client.cancel_token();
        let tls = self.tls.clone();
        self.tasks.start("postgres cancel", |_stop| async move {
            match time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a statement could not be cancelled"),
                Err(_elapsed) => debug!("a statement could not be cancelled in time"),
            }
        });
    }
}
