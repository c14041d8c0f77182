//! A connection that is kept: a question that is not answered in time stays asked.

use std::sync::Arc;
use std::time::Duration;

use ha_core::Moment;
use ha_core::agent::WriteFailure;
use ha_runtime::clock;
use ha_runtime::postgres::ConnectError;
use ha_runtime::shutdown::Tasks;
use tokio::time;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, Row};
use tracing::debug;

use super::{AskError, connect};

/// How long one turn waits for an answer.
const TURN: Duration = Duration::from_secs(1);

/// After how long another connection is tried beside one that does not answer: its backend alone may be
/// frozen. Until that one is open, the old one is kept, since a server may have no other left.
const RECONNECT_AFTER: Duration = Duration::from_secs(3);

type Pending = std::pin::Pin<Box<dyn Future<Output = Result<Row, Error>> + Send>>;

/// What came of asking.
#[derive(Debug)]
pub(super) enum Asked {
    /// One row.
    Answered(Box<Row>),
    /// The server says that it is starting or shutting down.
    NotYet,
    /// The server says that every connection is taken.
    NoConnectionLeft,
    /// The server was asked at this moment, and has not answered yet.
    Waiting(Moment),
    /// It could not be connected to, or answered with an error.
    Failed,
}

/// A connection to this host's own server.
pub(super) struct Line {
    config: Config,
    client: Option<Arc<Client>>,
    pending: Option<(Moment, Pending)>,
    failure: WriteFailure,
}

impl Line {
    pub(super) const fn new(config: Config) -> Self {
        Self {
            config,
            client: None,
            pending: None,
            failure: WriteFailure::Error,
        }
    }

    /// Returns what the last error means for a write.
    pub(super) const fn failure(&self) -> WriteFailure {
        self.failure
    }

    /// Asks, or goes on waiting for the answer to what was asked before.
    pub(super) async fn ask(&mut self, question: &'static str, tasks: &Tasks) -> Asked {
        if self.client.as_ref().is_none_or(|client| client.is_closed()) {
            self.pending = None;
            match connect(&self.config, tasks).await {
                Ok(client) => self.client = Some(Arc::new(client)),
                Err(error) => return self.refused(&error),
            }
        }
        let Some(client) = self.client.clone() else {
            return Asked::Failed;
        };
        let (since, mut pending) = self.pending.take().unwrap_or_else(|| {
            let asking = async move { client.query_one(question, &[]).await };
            (clock::now(), Box::pin(asking))
        });
        match time::timeout(TURN, &mut pending).await {
            Ok(Ok(row)) => Asked::Answered(Box::new(row)),
            Ok(Err(error)) => {
                debug!(
                    error = ha_runtime::telemetry::chain(&error),
                    "the server was not understood"
                );
                self.client = None;
                self.failure = meaning(&error);
                Asked::Failed
            }
            Err(_elapsed) => {
                self.pending = Some((since, pending));
                if clock::now().longest_since(since) >= RECONNECT_AFTER {
                    return self.try_another(since, tasks).await;
                }
                Asked::Waiting(since)
            }
        }
    }

    async fn try_another(&mut self, since: Moment, tasks: &Tasks) -> Asked {
        match connect(&self.config, tasks).await {
            Ok(client) => {
                (self.client, self.pending) = (Some(Arc::new(client)), None);
                Asked::Waiting(since)
            }
            Err(error) => match self.refused(&error) {
                Asked::NoConnectionLeft => Asked::NoConnectionLeft,
                Asked::Answered(_) | Asked::NotYet | Asked::Waiting(_) | Asked::Failed => {
                    Asked::Waiting(since)
                }
            },
        }
    }

    fn refused(&mut self, error: &AskError) -> Asked {
        debug!(
            error = ha_runtime::telemetry::chain(error),
            "the server was not asked"
        );
        self.failure = WriteFailure::Error;
        let code = match error {
            AskError::Connect(ConnectError::Refused(error)) => error.code(),
            AskError::Connect(ConnectError::OutOfTime(_)) | AskError::Tls(_) => None,
        };
        match code {
            Some(code) if *code == SqlState::CANNOT_CONNECT_NOW => Asked::NotYet,
            Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => Asked::NoConnectionLeft,
            Some(_) | None => Asked::Failed,
        }
    }
}

fn meaning(error: &Error) -> WriteFailure {
    match error.code() {
        Some(code) if *code == SqlState::PROGRAM_LIMIT_EXCEEDED => WriteFailure::XidLimit,
        Some(code) if *code == SqlState::DISK_FULL => WriteFailure::DiskFull,
        Some(_) | None => WriteFailure::Error,
    }
}
