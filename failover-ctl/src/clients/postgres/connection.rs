//! A connection that is kept: a question that is not answered in time stays asked.

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

/// How long one turn waits for an answer.
const TURN: Duration = Duration::from_secs(1);

/// After how long another connection is tried beside one that does not answer: its backend alone may be
/// frozen. Until that one is open, the old one is kept, since a server may have no other left.
const RECONNECT_AFTER: Duration = Duration::from_secs(3);

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

type Pending = std::pin::Pin<Box<dyn Future<Output = Result<Row, Error>> + Send>>;

/// Returns how this host connects to its own server. No statement waits for a standby: a proof is of this
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

/// Connects to this host's own server, or says why not.
pub(crate) async fn connect(config: &Config, tasks: &Tasks) -> Result<Client, LocalConnectError> {
    let tls = postgres::tls(SslMode::Disable, None)?;
    Ok(postgres::connect(config, tls, CONNECT_TIMEOUT, tasks).await?)
}

/// A server that could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalConnectError {
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] postgres::TlsError),
    /// It could not be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum QueryOutcome {
    /// One row.
    Answered(Box<Row>),
    /// The server says that it is starting or shutting down.
    NotYet,
    /// The server says that every connection is taken.
    NoConnectionLeft,
    /// The server was asked at this moment, and has not answered yet.
    Waiting(HostInstant),
    /// The server answers that it does not do what it is asked; what that means for a write.
    Refused(WriteProbeFailure),
    /// It could not be connected to.
    Failed,
}

/// A connection to this host's own server.
pub(super) struct ServerConnection {
    config: Config,
    client: Option<Arc<Client>>,
    pending: Option<(HostInstant, Pending)>,
    /// What the server said last when it refused.
    refused: Option<String>,
}

impl ServerConnection {
    pub(super) const fn new(config: Config) -> Self {
        Self {
            config,
            client: None,
            pending: None,
            refused: None,
        }
    }

    /// Connects, if there is no connection.
    pub(super) async fn open(&mut self, tasks: &Tasks) {
        if self.client.as_ref().is_none_or(|client| client.is_closed()) {
            self.pending = None;
            match connect(&self.config, tasks).await {
                Ok(client) => self.client = Some(Arc::new(client)),
                Err(error) => drop(self.not_connected(&error)),
            }
        }
    }

    /// Asks, or goes on waiting for the answer to what was asked before.
    pub(super) async fn ask(&mut self, question: &'static str, tasks: &Tasks) -> QueryOutcome {
        if self.client.as_ref().is_none_or(|client| client.is_closed()) {
            self.pending = None;
            match connect(&self.config, tasks).await {
                Ok(client) => self.client = Some(Arc::new(client)),
                Err(error) => return self.not_connected(&error),
            }
        }
        let Some(client) = self.client.clone() else {
            return QueryOutcome::Failed;
        };
        let (since, mut pending) = self.pending.take().unwrap_or_else(|| {
            let asking = async move { client.query_one(question, &[]).await };
            (clock::now(), Box::pin(asking))
        });
        match time::timeout(TURN, &mut pending).await {
            Ok(Ok(row)) => {
                self.refused = None;
                QueryOutcome::Answered(Box::new(row))
            }
            Ok(Err(error)) => {
                // An error of the statement is an answer, over a connection that is as good as before; a
                // closed one is opened anew.
                let Some(code) = error.code() else {
                    self.client = None;
                    return QueryOutcome::Failed;
                };
                self.refused_with(code, &error)
            }
            Err(_elapsed) => {
                self.pending = Some((since, pending));
                if clock::now().elapsed_upper_bound(since) >= RECONNECT_AFTER {
                    return self.try_another(since, tasks).await;
                }
                QueryOutcome::Waiting(since)
            }
        }
    }

    async fn try_another(&mut self, since: HostInstant, tasks: &Tasks) -> QueryOutcome {
        match connect(&self.config, tasks).await {
            Ok(client) => {
                (self.client, self.pending) = (Some(Arc::new(client)), None);
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
        self.refused_with(code, error)
    }

    /// Takes in that the server has answered with an error.
    fn refused_with(&mut self, code: &SqlState, error: &Error) -> QueryOutcome {
        match *code {
            SqlState::CANNOT_CONNECT_NOW => return QueryOutcome::NotYet,
            SqlState::TOO_MANY_CONNECTIONS => return QueryOutcome::NoConnectionLeft,
            _ => {}
        }
        let said = causeway_runtime::telemetry::chain(error);
        if self.refused.as_ref() != Some(&said) {
            warn!(error = said, "PostgreSQL query rejected");
            self.refused = Some(said);
        }
        QueryOutcome::Refused(meaning(code))
    }
}

/// Returns what a server's error means for a write. Whoever is not let in, or has lost a right, knows nothing
/// of how others fare; the classes are those of appendix A of PostgreSQL's documentation.
fn meaning(code: &SqlState) -> WriteProbeFailure {
    // Invalid authorization, no such database, no right to it, and one that takes no connection.
    const NOT_LET_IN: [&str; 4] = ["28", "3D", "42", "55"];
    match *code {
        SqlState::PROGRAM_LIMIT_EXCEEDED => WriteProbeFailure::XidLimit,
        SqlState::DISK_FULL => WriteProbeFailure::DiskFull,
        _ if NOT_LET_IN.iter().any(|class| code.code().starts_with(class)) => WriteProbeFailure::Refused,
        _ => WriteProbeFailure::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_not_let_in_then_told_from_a_server_that_cannot_write() {
        let meaning = |code| meaning(&SqlState::from_code(code));
        for code in ["28000", "28P01", "3D000", "42501", "55000"] {
            assert_eq!(meaning(code), WriteProbeFailure::Refused, "{code}");
        }
        for code in ["XX001", "58030", "53200"] {
            assert_eq!(meaning(code), WriteProbeFailure::Error, "{code}");
        }
        assert_eq!(meaning("53100"), WriteProbeFailure::DiskFull);
        assert_eq!(meaning("54000"), WriteProbeFailure::XidLimit);
    }
}
