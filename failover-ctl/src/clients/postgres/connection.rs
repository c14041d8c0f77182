//! Persistent connection to the local server. A query that is not answered in time stays pending.

use std::sync::Arc;
use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::agent::WriteProbeFailure;
use causeway_runtime::clock;
use causeway_runtime::postgres::{self, ConnectError, SslMode};
use causeway_runtime::shutdown::Tasks;
use tokio::time;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, Row};
use tracing::{debug, warn};

use crate::config::PostgresSettings;

/// Time that a call waits for the answer of a query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Time after which a second connection is tried, because only the backend of the first may be frozen. The first is kept
/// until the second is open: the server may have no other connection left.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of an attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

type Pending = std::pin::Pin<Box<dyn Future<Output = Result<Row, Error>> + Send>>;

/// Returns the configuration of a local connection. Its commits do not wait for standbys, because a write probe tests this
/// server alone.
pub(crate) fn local(settings: &PostgresSettings, name: &str) -> Config {
    let mut config = Config::new();
    config
        .host_path(&settings.socket_directory)
        .port(settings.port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(name)
        .options(
            "-c client_min_messages=warning -c synchronous_commit=local -c statement_timeout=0",
        )
        .ssl_mode(SslMode::Disable.on_the_wire());
    config
}

/// Connects to the local server.
pub(crate) async fn connect(config: &Config, tasks: &Tasks) -> Result<Client, LocalConnectError> {
    let tls = postgres::tls(SslMode::Disable, None)?;
    Ok(postgres::connect(config, tls, CONNECT_TIMEOUT, tasks).await?)
}

/// Error of a connection to the local server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalConnectError {
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] postgres::TlsError),
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Result of a query.
#[derive(Debug)]
pub(super) enum QueryOutcome {
    /// One row.
    Answered(Box<Row>),
    /// The server is starting or shutting down.
    NotYet,
    /// Every connection is in use.
    NoConnectionLeft,
    /// The query was sent at this time and has no answer yet.
    Waiting(HostInstant),
    /// The server rejected the query; the consequence for writes.
    Refused(WriteProbeFailure),
    /// The connection failed.
    Failed,
}

/// Persistent connection to the local server.
pub(super) struct ServerConnection {
    config: Config,
    client: Option<Arc<Client>>,
    pending: Option<(HostInstant, Pending)>,
    /// Number of connections opened so far: a server that was restarted needs another.
    opened: u64,
    /// Last rejection, to log it once.
    refused: Option<String>,
}

impl ServerConnection {
    pub(super) const fn new(config: Config) -> Self {
        Self {
            config,
            client: None,
            pending: None,
            opened: 0,
            refused: None,
        }
    }

    /// Connects unless a connection is open.
    pub(super) async fn open(&mut self, tasks: &Tasks) {
        if self.client.as_ref().is_none_or(|client| client.is_closed()) {
            self.pending = None;
            match connect(&self.config, tasks).await {
                Ok(client) => self.keep(client),
                Err(error) => drop(self.not_connected(&error)),
            }
        }
    }

    fn keep(&mut self, client: Client) {
        self.client = Some(Arc::new(client));
        self.opened += 1;
    }

    /// Returns the number of connections opened so far.
    pub(super) const fn opened(&self) -> u64 {
        self.opened
    }

    /// Sends a query, or continues to wait for the pending one.
    pub(super) async fn query(&mut self, statement: &'static str, tasks: &Tasks) -> QueryOutcome {
        if self.client.as_ref().is_none_or(|client| client.is_closed()) {
            self.pending = None;
            match connect(&self.config, tasks).await {
                Ok(client) => self.keep(client),
                Err(error) => return self.not_connected(&error),
            }
        }
        let Some(client) = self.client.clone() else {
            return QueryOutcome::Failed;
        };
        let (since, mut pending) = self.pending.take().unwrap_or_else(|| {
            let query = async move { client.query_one(statement, &[]).await };
            (clock::now(), Box::pin(query))
        });
        match time::timeout(QUERY_TIMEOUT, &mut pending).await {
            Ok(Ok(row)) => {
                self.refused = None;
                QueryOutcome::Answered(Box::new(row))
            }
            Ok(Err(error)) => {
                // An error of the statement is an answer over a working connection; a closed connection is replaced.
                let Some(code) = error.code() else {
                    self.client = None;
                    return QueryOutcome::Failed;
                };
                self.record_rejection(code, &error)
            }
            Err(_elapsed) => {
                self.pending = Some((since, pending));
                if clock::now().elapsed_upper_bound(since) >= RECONNECT_TIMEOUT {
                    return self.query_second_connection(since, tasks).await;
                }
                QueryOutcome::Waiting(since)
            }
        }
    }

    async fn query_second_connection(&mut self, since: HostInstant, tasks: &Tasks) -> QueryOutcome {
        match connect(&self.config, tasks).await {
            Ok(client) => {
                self.keep(client);
                self.pending = None;
                QueryOutcome::Waiting(since)
            }
            Err(error) => match self.not_connected(&error) {
                QueryOutcome::NoConnectionLeft => QueryOutcome::NoConnectionLeft,
                QueryOutcome::Answered(_)
                | QueryOutcome::NotYet
                | QueryOutcome::Refused(_)
                | QueryOutcome::Waiting(_)
                | QueryOutcome::Failed => QueryOutcome::Waiting(since),
            },
        }
    }

    fn not_connected(&mut self, error: &LocalConnectError) -> QueryOutcome {
        let refusal = match error {
            LocalConnectError::Connect(ConnectError::Refused(error)) => {
                error.code().map(|code| (code, error))
            }
            LocalConnectError::Connect(ConnectError::OutOfTime(_)) | LocalConnectError::Tls(_) => {
                None
            }
        };
        let Some((code, error)) = refusal else {
            debug!(
                error = causeway_runtime::telemetry::chain(error),
                "PostgreSQL query not sent"
            );
            return QueryOutcome::Failed;
        };
        self.record_rejection(code, error)
    }

    /// Records an error response of the server.
    fn record_rejection(&mut self, code: &SqlState, error: &Error) -> QueryOutcome {
        match *code {
            SqlState::CANNOT_CONNECT_NOW => return QueryOutcome::NotYet,
            SqlState::TOO_MANY_CONNECTIONS => return QueryOutcome::NoConnectionLeft,
            _ => {}
        }
        let text = causeway_runtime::telemetry::chain(error);
        if self.refused.as_ref() != Some(&text) {
            warn!(error = text, "PostgreSQL query rejected");
            self.refused = Some(text);
        }
        QueryOutcome::Refused(classify(code))
    }
}

/// Classifies an error of the server for writes. An authentication or permission error of the agent does not describe
/// other clients; the classes are those of appendix A of PostgreSQL's documentation.
fn classify(code: &SqlState) -> WriteProbeFailure {
    // Invalid authorization, unknown database, missing privilege, database that accepts no connections.
    const ACCESS_CLASSES: [&str; 4] = ["28", "3D", "42", "55"];
    match *code {
        SqlState::PROGRAM_LIMIT_EXCEEDED => WriteProbeFailure::XidLimit,
        SqlState::DISK_FULL => WriteProbeFailure::DiskFull,
        _ if ACCESS_CLASSES
            .iter()
            .any(|class| code.code().starts_with(class)) =>
        {
            WriteProbeFailure::Refused
        }
        _ => WriteProbeFailure::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_denied_access_then_not_a_write_failure() {
        let classify = |code| classify(&SqlState::from_code(code));
        for code in ["28000", "28P01", "3D000", "42501", "55000"] {
            assert_eq!(classify(code), WriteProbeFailure::Refused, "{code}");
        }
        for code in ["XX001", "58030", "53200"] {
            assert_eq!(classify(code), WriteProbeFailure::Error, "{code}");
        }
        assert_eq!(classify("53100"), WriteProbeFailure::DiskFull);
        assert_eq!(classify("54000"), WriteProbeFailure::XidLimit);
    }
}
