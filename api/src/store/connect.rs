//! One connection to one address: TLS, timeouts, what the server is, and an end that can be ordered.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha_runtime::postgres::{Tls, TlsError};
use ha_runtime::shutdown::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::time::{self, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row, SimpleQueryMessage, Statement};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::queries::{Effect, Query};
use crate::config::{Database, Server};

/// A lock is waited for no longer than a client would wait for the statement behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The same on a connection that statements share, where others wait behind it: it is tried again.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_millis(100);
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

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: Tls,
    connect_timeout: Duration,
    statement_timeout: Duration,
    lock_timeout: Duration,
    pub(super) tasks: Tasks,
}

/// Where a server was found: its name, for TLS, and what the name meant just then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    server: Server,
    ip: Option<IpAddr>,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.server.port).fmt(f),
            None => write!(f, "{}:{}", self.server.host, self.server.port),
        }
    }
}

/// What a server said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether it accepts writes.
    pub(super) writable: bool,
    /// When its postmaster was started: another value is another run of the server.
    pub(super) started_at: String,
}

/// A connection that could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("could not resolve `{0}`")]
    Unresolved(String, #[source] io::Error),
    #[error("PostgreSQL refused the connection")]
    Refused(#[from] tokio_postgres::Error),
    #[error("PostgreSQL did not answer within {0:?}")]
    OutOfTime(Duration),
}

/// An open connection.
pub(super) struct Connection {
    client: Client,
    statements: Mutex<BTreeMap<&'static str, Arc<OnceCell<Statement>>>>,
    opened_at: Instant,
    ends: CancellationToken,
    warned: Arc<AtomicBool>,
    /// Whether what this server held when the connection was opened is known to be on its standby.
    settled: AtomicBool,
}

impl Connector {
    pub(super) fn new(database: &Database, tasks: Tasks) -> Result<Self, TlsError> {
        let mut config = Config::new();
        config
            .user(&database.user)
            .dbname(&database.name)
            .application_name(concat!("api/", env!("CARGO_PKG_VERSION")))
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
            tasks,
        })
    }

    /// Returns one for connections that statements share.
    pub(super) fn for_sharing(&self) -> Self {
        Self {
            lock_timeout: SHARED_LOCK_TIMEOUT,
            ..self.clone()
        }
    }

    fn session(&self) -> String {
        include_str!("queries/session.sql")
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
        let connecting = self.connect_patiently(address, ends);
        let out_of_time = |_elapsed| ConnectError::OutOfTime(self.connect_timeout);
        time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(out_of_time)?
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
        let connection = Connection {
            client,
            statements: Mutex::default(),
            opened_at: Instant::now(),
            ends,
            warned,
            settled: AtomicBool::new(false),
        };
        let rows = connection.client.simple_query(&self.session()).await?;
        let answer = answer(&rows);
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
    pub(super) async fn ask(&self) -> Result<Answer, tokio_postgres::Error> {
        let rows = self
            .client
            .simple_query(include_str!("queries/role.sql"))
            .await?;
        Ok(answer(&rows))
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

fn answer(rows: &[SimpleQueryMessage]) -> Answer {
    let row = rows.iter().find_map(|it| {
        if let SimpleQueryMessage::Row(row) = it {
            return Some(row);
        }
        None
    });
    let column = |index| row.and_then(|it| it.try_get(index).ok().flatten());
    Answer {
        writable: column(0) == Some("off"),
        started_at: column(1).unwrap_or_default().to_owned(),
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
