//! One connection to one address: TLS, timeouts, what the server is, and an end that can be ordered.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ha_runtime::postgres::{Tls, TlsError};
use ha_runtime::shutdown::Tasks;
use ha_runtime::telemetry::chain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::time::{self, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row, SimpleQueryMessage, Statement};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::failure;
use super::queries::{Effect, Query};
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
/// A pooler that is busy gives some of so many statements to another session.
const POOLED_ASKS: usize = 10;
/// What a server is asked about itself.
const ROLE: &str = include_str!("queries/role.sql");
/// How long a connection may take to say goodbye when the program ends.
const GOODBYE: Duration = Duration::from_millis(500);
/// A cancel request is worth this much waiting, and no more.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that refuses a connection for good is asked again after this, and twice as long each time.
const FIRST_REFUSED_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// What lasts for so long is worth a line of the log, and another every so often.
const COMPLAIN_AFTER: Duration = Duration::from_secs(1);
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// When the log is told of what does not end.
#[derive(Debug)]
pub(super) struct Complaint(Instant);

/// What a server answered that would answer the next login the same.
#[derive(Debug)]
struct Refusal {
    why: String,
    pause: Duration,
    until: Instant,
    complaint: Complaint,
}

/// Opens connections.
#[derive(Clone)]
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

impl Default for Complaint {
    fn default() -> Self {
        Self(Instant::now() + COMPLAIN_AFTER)
    }
}

impl Complaint {
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

/// What a server said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether it accepts writes.
    pub(super) writable: bool,
    /// When its postmaster was started: another value is another run of the server.
    pub(super) started_at: String,
    /// The process that answered.
    pub(super) backend: String,
    /// Its timeline, unless it is in recovery.
    pub(super) timeline: Option<u32>,
    /// Its system identifier, where this role may ask for it.
    pub(super) system: Option<String>,
    /// How long ago the last commit was made that a standby has.
    pub(super) behind: Option<Duration>,
}

/// A connection that could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("could not resolve `{0}`")]
    Unresolved(String, #[source] io::Error),
    #[error("PostgreSQL refused the connection")]
    Refused(#[from] tokio_postgres::Error),
    #[error("PostgreSQL refused the connection a moment ago: {0}")]
    RefusedLately(String),
    #[error("PostgreSQL did not answer within {0:?}")]
    OutOfTime(Duration),
    #[error(
        "another session answers than before: this is a pooler that keeps none, such as PgBouncer \
         with `pool_mode=transaction`; connect to PostgreSQL, or set `pool_mode=session`"
    )]
    Pooled,
}

/// An open connection.
pub(super) struct Connection {
    client: Client,
    session_name: String,
    statements: Mutex<BTreeMap<&'static str, Arc<OnceCell<Statement>>>>,
    opened_at: Instant,
    ends: CancellationToken,
    warned: Arc<AtomicBool>,
    /// Whether what this server held when the connection was opened is known to be on its standby.
    settled: AtomicBool,
    backend: String,
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
            tls: ha_runtime::postgres::tls(database.tls, database.root_cert.as_ref())?,
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
        include_str!("queries/session.sql")
            .replace("{role}", ROLE)
            .replace("{statement}", &millis(self.statement_timeout))
            .replace("{lock}", &millis(self.lock_timeout))
            .replace("{idle}", &millis(IDLE_IN_TRANSACTION_TIMEOUT))
    }

    /// Returns what the server's name means now.
    pub(super) async fn resolve(&self, server: &Server) -> Result<Vec<Address>, ConnectError> {
        let found = |ip| Address {
            server: server.clone(),
            ip,
        };
        if server.host.starts_with('/') {
            return Ok(vec![found(None)]);
        }
        let name = (server.host.as_str(), server.port);
        let looked_up = time::timeout(self.connect_timeout, tokio::net::lookup_host(name));
        let unresolved = |source| ConnectError::Unresolved(server.host.clone(), source);
        let out_of_time = |_elapsed| ConnectError::OutOfTime(self.connect_timeout);
        let addresses = looked_up.await.map_err(out_of_time)?.map_err(unresolved)?;
        Ok(addresses.map(|it| found(Some(it.ip()))).collect())
    }

    /// Opens a connection, which lasts until it is dropped or `ends` is cancelled.
    pub(super) async fn connect(
        &self,
        address: &Address,
        ends: &CancellationToken,
    ) -> Result<(Connection, Answer), ConnectError> {
        let place = address.to_string();
        if let Some(refusal) = self.refusals().get(&place)
            && Instant::now() < refusal.until
        {
            return Err(ConnectError::RefusedLately(refusal.why.clone()));
        }
        let connecting = self.connect_patiently(address, ends);
        let out_of_time = |_elapsed| ConnectError::OutOfTime(self.connect_timeout);
        let connected = time::timeout(self.connect_timeout, connecting).await;
        let connected = connected.map_err(out_of_time)?;
        match &connected {
            Ok(_) => drop(self.refusals().remove(&place)),
            Err(ConnectError::Refused(error)) if failure::is_permanent(error) => {
                self.refused(&place, chain(error));
            }
            Err(_) => {}
        }
        connected
    }

    /// Leaves a server alone for a while that would refuse the next login like this one.
    fn refused(&self, place: &str, why: String) {
        let mut refusals = self.refusals();
        let refusal = refusals.entry(place.to_owned()).or_insert_with(|| Refusal {
            why: String::new(),
            pause: FIRST_REFUSED_PAUSE / 2,
            until: Instant::now(),
            complaint: Complaint::default(),
        });
        refusal.pause = LONGEST_REFUSED_PAUSE.min(refusal.pause * 2);
        refusal.until = Instant::now() + refusal.pause;
        if refusal.complaint.is_due() {
            warn!(address = place, error = why, "connections are refused");
        }
        refusal.why = why;
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<String, Refusal>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect_patiently(
        &self,
        address: &Address,
        ends: &CancellationToken,
    ) -> Result<(Connection, Answer), ConnectError> {
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
            let mut connection = std::pin::pin!(connection);
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
        let mut connection = Connection {
            client,
            backend: String::new(),
            session_name,
            statements: Mutex::default(),
            opened_at: Instant::now(),
            ends,
            warned,
            settled: AtomicBool::new(false),
        };
        let rows = connection.client.simple_query(&self.session()).await?;
        let answer = Answer::read(&rows);
        connection.backend.clone_from(&answer.backend);
        // What a server warns of at the door, such as an older collation, is no commit's.
        connection.has_warned();
        Ok((connection, answer))
    }

    /// Ends a connection whose statement nobody waits for any more, and asks the server to stop
    /// working on it if it only reads.
    ///
    /// A write is never cancelled: one that waits for a synchronous standby would be committed
    /// without it, and the next try would find its row and call it stored. The server ends any other
    /// by its own timeout.
    pub(super) fn abandon(&self, connection: &Connection, effect: Effect) {
        connection.end();
        if effect == Effect::Writes {
            return;
        }
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

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connection {
    /// Runs a statement, prepared at its first use, and returns its rows once the server has said
    /// that it is ready again: an error at the commit comes before that, and is returned.
    ///
    /// The first write on a connection is followed by a commit that waits for all which the server
    /// held before: see `queries/after_first_write.sql`.
    pub(super) async fn run(
        &self,
        query: &Query,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = {
            let mut statements = self
                .statements
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(statements.entry(query.name).or_default())
        };
        let prepare = || self.client.prepare(query.sql);
        let statement = statement.get_or_try_init(prepare).await?;
        let rows = self.client.query(statement, params).await?;
        // A commit that the server has warned of is not answered with a success anyway.
        let is_warned = || self.warned.load(Ordering::Relaxed);
        let is_settled = || self.settled.load(Ordering::Relaxed);
        if query.effect == Effect::Writes && !is_settled() && !is_warned() {
            let after = include_str!("queries/after_first_write.sql");
            self.client.simple_query(after).await?;
            self.settled.store(!is_warned(), Ordering::Relaxed);
        }
        Ok(rows)
    }

    /// Returns whether the server has warned since this was last asked. It warns of one thing here: a
    /// commit that was told not to wait for its standby any more, and is answered with a success.
    pub(super) fn has_warned(&self) -> bool {
        self.warned.swap(false, Ordering::Relaxed)
    }

    /// Returns when whatever was sent before has been answered.
    pub(super) async fn settle(&self) -> Result<(), tokio_postgres::Error> {
        self.client.simple_query("").await?;
        self.has_warned();
        Ok(())
    }

    /// Returns what the server calls the session, and no other.
    pub(super) fn session_name(&self) -> &str {
        &self.session_name
    }

    /// Ends the connection, whatever is under way on it.
    pub(super) fn end(&self) {
        self.ends.cancel();
    }

    /// Returns whether this program has ended the connection: an error on it says nothing about the
    /// server then.
    pub(super) fn was_ended(&self) -> bool {
        self.ends.is_cancelled()
    }

    /// Asks the server what it is.
    pub(super) async fn ask(&self) -> Result<Answer, ConnectError> {
        let answer = Answer::read(&self.client.simple_query(ROLE).await?);
        if answer.backend != self.backend {
            return Err(ConnectError::Pooled);
        }
        Ok(answer)
    }

    /// Returns whether a pooler gives this connection the sessions of others.
    pub(super) async fn has_other_sessions(&self) -> Result<bool, ConnectError> {
        for _ in 0..POOLED_ASKS {
            match self.ask().await {
                Ok(_same) => {}
                Err(ConnectError::Pooled) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Returns the client, for what needs a transaction of its own.
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Carries what is said on a connection, until it ends.
async fn talk<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    warned: Arc<AtomicBool>,
) -> Result<(), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notice(notice) = message? {
            debug!(
                severity = notice.severity(),
                message = notice.message(),
                "PostgreSQL noted"
            );
            if *notice.code() == SqlState::WARNING {
                warned.store(true, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

impl Answer {
    fn read(rows: &[SimpleQueryMessage]) -> Self {
        let row = rows.iter().find_map(|message| {
            if let SimpleQueryMessage::Row(row) = message {
                return Some(row);
            }
            None
        });
        let column = |index| -> Option<&str> { row?.try_get(index).ok().flatten() };
        let text = |index| column(index).unwrap_or_default().to_owned();
        // A clock that is ahead of the primary's makes no row newer than it is.
        let seconds = column(5).map(|it| it.parse().unwrap_or(0));
        Self {
            writable: column(0) == Some("off"),
            started_at: text(1),
            backend: text(2),
            timeline: column(3).and_then(|it| it.parse().ok()),
            system: column(4).map(str::to_owned),
            behind: seconds.map(Duration::from_secs),
        }
    }

    /// Returns which history of which database the server is on.
    pub(super) fn history(&self) -> (Option<&str>, Option<u32>) {
        (self.system.as_deref(), self.timeline)
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
