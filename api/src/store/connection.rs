//! An open connection: statements, what the server is, and an end that can be ordered.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row, SimpleQueryMessage, Statement};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::lock::lock;
use super::queries::{Effect, Query};
use super::query_error::QueryError;

/// A pooler that is busy gives some of so many statements to another session.
const POOLED_ASKS: usize = 10;
/// What a server is asked about itself.
pub(super) const ROLE: &str = include_str!("queries/role.sql");

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

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) session_name: String,
    pub(super) statements: Mutex<BTreeMap<&'static str, Arc<OnceCell<Statement>>>>,
    pub(super) opened_at: Instant,
    pub(super) ends: CancellationToken,
    pub(super) warned: Arc<AtomicBool>,
    /// Whether what this server held when the connection was opened is known to be on its standby.
    pub(super) settled: AtomicBool,
    pub(super) backend: String,
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
        let statement = Arc::clone(lock(&self.statements).entry(query.name).or_default());
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
    pub(super) async fn ask(&self) -> Result<Answer, QueryError> {
        let answer = Answer::read(&self.client.simple_query(ROLE).await?);
        if answer.backend != self.backend {
            return Err(QueryError::Pooled);
        }
        Ok(answer)
    }

    /// Asks so often that a pooler shows, which gives this connection the sessions of others.
    pub(super) async fn check_session(&self) -> Result<(), QueryError> {
        for _ in 0..POOLED_ASKS {
            self.ask().await?;
        }
        Ok(())
    }
}

/// Carries what is said on a connection, until it ends.
pub(super) async fn talk<S, T>(
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
    pub(super) fn read(rows: &[SimpleQueryMessage]) -> Self {
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
