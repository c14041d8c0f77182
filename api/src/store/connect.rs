//! The address of a server, and opening a connection to it: TLS, timeouts, and its status.

use std::collections::BTreeMap;
use std::net::SocketAddr;
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

use super::connection::{Connection, ROLE, ServerStatus, drive_connection};
use super::lock::lock;
use super::query_error::{self, QueryError};
use crate::config::{Database, Endpoint};

/// The `lock_timeout` of writes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for reads, which others wait behind on a shared connection; they are repeated.
const READ_LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// No transaction here is idle on purpose.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A host that vanished is noticed in 5 + 3 * 2 = 11 s on an idle connection, instead of in hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// The same while something is unacknowledged, instead of about 15 minutes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a connection to close when the program ends.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The pauses between logins at a server that refuses them.
const REFUSED: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(50),
    max_backoff: Duration::from_secs(1),
};
/// A condition that lasts is logged first after this, and then every [`WARN_INTERVAL`].
const WARN_AFTER: Duration = Duration::from_secs(1);
const WARN_INTERVAL: Duration = Duration::from_secs(30);

/// When a lasting condition is logged next.
#[derive(Debug)]
pub(super) struct WarnThrottle(Instant);

/// The answer of a server that would refuse the next login the same.
#[derive(Debug)]
struct Refusal {
    why: String,
    backoff: RetryBackoff,
    until: Instant,
    warn_throttle: WarnThrottle,
}

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

/// The address of a server: its name, for TLS, and the socket address that the name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) server: Endpoint,
    pub(super) resolved: SocketAddr,
}

impl Default for WarnThrottle {
    fn default() -> Self {
        Self(Instant::now() + WARN_AFTER)
    }
}

impl WarnThrottle {
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.0 <= Instant::now();
        if is_due {
            self.0 = Instant::now() + WARN_INTERVAL;
        }
        is_due
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.resolved.fmt(f)
    }
}

impl Connector {
    pub(super) fn new(database: &Database, tasks: Tasks) -> Result<Self, TlsError> {
        let mut config = Config::new();
        config
            .user(&database.user)
            .dbname(database.name())
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

    /// Returns a connector for reads.
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

    pub(super) async fn resolve(&self, server: &Endpoint) -> Result<Vec<Address>, QueryError> {
        let name = (server.host.as_str(), server.port);
        let looked_up = time::timeout(self.connect_timeout, tokio::net::lookup_host(name));
        let unresolved = |source| QueryError::Unresolved(server.host.clone(), source);
        let out_of_time = |_elapsed| QueryError::NoResponse(self.connect_timeout);
        let addresses = looked_up.await.map_err(out_of_time)?.map_err(unresolved)?;
        let found = addresses.map(|resolved| Address {
            server: server.clone(),
            resolved,
        });
        Ok(found.collect())
    }

    /// Opens a connection, which ends when it is dropped or `ends` is cancelled.
    pub(super) async fn connect(
        &self,
        address: &Address,
        ends: &CancellationToken,
    ) -> Result<(Connection, ServerStatus), QueryError> {
        let name = address.to_string();
        if let Some(refusal) = lock(&self.refusals).get(&name)
            && Instant::now() < refusal.until
        {
            return Err(QueryError::RefusedLately(refusal.why.clone()));
        }
        let connecting = self.open(address, ends);
        let out_of_time = |_elapsed| QueryError::NoResponse(self.connect_timeout);
        let connected = time::timeout(self.connect_timeout, connecting).await;
        let connected = connected.map_err(out_of_time)?;
        match &connected {
            Ok(_) => drop(lock(&self.refusals).remove(&name)),
            Err(QueryError::Refused(error)) if query_error::is_permanent(error) => {
                self.record_refusal(&name, chain(error));
            }
            Err(_) => {}
        }
        connected
    }

    /// Prevents logins for a while at a server that would refuse them like this one.
    fn record_refusal(&self, name: &str, why: String) {
        let mut refusals = lock(&self.refusals);
        let refusal = refusals.entry(name.to_owned()).or_insert_with(|| Refusal {
            why: String::new(),
            backoff: REFUSED.backoff(),
            until: Instant::now(),
            warn_throttle: WarnThrottle::default(),
        });
        refusal.until = Instant::now() + refusal.backoff.next_pause();
        if refusal.warn_throttle.is_due() {
            warn!(address = name, error = why, "login refused");
        }
        refusal.why = why;
    }

    async fn open(
        &self,
        address: &Address,
        ends: &CancellationToken,
    ) -> Result<(Connection, ServerStatus), QueryError> {
        let mut config = self.config.clone();
        config
            .host(&address.server.host)
            .hostaddr(address.resolved.ip())
            .port(address.server.port);
        let number: u64 = rand::random();
        let session_name = format!("api/{} {number:016x}", env!("CARGO_PKG_VERSION"));
        config.application_name(&session_name);
        let (client, connection) = config.connect(self.tls.clone()).await?;
        let ends = ends.child_token();
        let ended_here = ends.clone();
        let warned = Arc::new(AtomicBool::new(false));
        let connection = drive_connection(connection, Arc::clone(&warned));
        self.tasks.start("postgres connection", |stop| async move {
            let mut connection = pin!(connection);
            // Dropping the connection fails at once the statements that wait on it.
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = ended_here.cancelled() => return,
                () = stop.cancelled() => {
                    time::timeout(CLOSE_TIMEOUT, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = ended {
                debug!(%error, "connection to PostgreSQL ended");
            }
        });
        let status = ServerStatus::read(&client.simple_query(&self.session()).await?)?;
        // A warning at login, such as of an older collation, does not concern a commit.
        warned.store(false, Ordering::Relaxed);
        let connection = Connection {
            client,
            backend: status.backend.clone(),
            session_name,
            statements: Mutex::default(),
            ends,
            warned,
            settled: AtomicBool::new(false),
        };
        Ok((connection, status))
    }

    /// Ends a connection whose read was given up, and sends a cancel request.
    ///
    /// A write is never cancelled: one that waits for a synchronous standby would be committed without it,
    /// and the next attempt would find its row and report it as stored.
    pub(super) fn abandon(&self, connection: &Connection) {
        connection.end();
        let cancel = connection.client.cancel_token();
        let tls = self.tls.clone();
        self.tasks.start("postgres cancel", |_stop| async move {
            match time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "cancel request failed"),
                Err(_elapsed) => debug!("cancel request timed out"),
            }
        });
    }
}
