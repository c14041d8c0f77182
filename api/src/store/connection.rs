//! An open connection: its statements, the status of its server, and its end by this program.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row, SimpleQueryMessage, Statement};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::lock::lock;
use super::queries::{Effect, Query};
use super::query_error::QueryError;

/// So many statements show a busy pooler, which runs some of them in another session.
const POOLED_ASKS: usize = 10;
/// The query for a server's status.
pub(super) const ROLE: &str = include_str!("queries/role.sql");

/// The status of a server, as it reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerStatus {
    /// Whether it accepts writes.
    pub(super) writable: bool,
    /// When its postmaster was started: each run of the server has another.
    pub(super) started_at: String,
    /// The process that answered.
    pub(super) backend: String,
    /// Its timeline, unless it is in recovery.
    pub(super) timeline: Option<u32>,
    /// Its system identifier, where this role may query it.
    pub(super) system: Option<String>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) session_name: String,
    pub(super) statements: Mutex<BTreeMap<&'static str, Arc<OnceCell<Statement>>>>,
    pub(super) ends: CancellationToken,
    pub(super) warned: Arc<AtomicBool>,
    /// Whether the standby is known to have everything that this server had when the connection was opened.
    pub(super) settled: AtomicBool,
    pub(super) backend: String,
}

impl Connection {
    /// Runs a statement, prepared at its first use, and returns its rows once the server has reported that
    /// it is ready again: an error at the commit comes before that, and is returned.
    ///
    /// The first write on a connection is followed by a commit that waits for all WAL before it: see
    /// `queries/after_first_write.sql`.
    pub(super) async fn run(
        &self,
        query: &Query,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = Arc::clone(lock(&self.statements).entry(query.name).or_default());
        let prepare = || self.client.prepare(query.sql);
        let statement = statement.get_or_try_init(prepare).await?;
        let rows = self.client.query(statement, params).await?;
        // A commit with a warning is not answered with a success anyway.
        let is_warned = || self.warned.load(Ordering::Relaxed);
        let is_settled = || self.settled.load(Ordering::Relaxed);
        if query.effect == Effect::Writes && !is_settled() && !is_warned() {
            // `pg_stat_activity` shows which write it follows.
            let after = include_str!("queries/after_first_write.sql");
            let after = format!("-- {}, {after}", query.name);
            self.client.simple_query(&after).await?;
            self.settled.store(!is_warned(), Ordering::Relaxed);
        }
        Ok(rows)
    }

    /// Returns whether the server has sent a warning since the last call. It warns of one thing here: a
    /// commit that was cancelled while it waited for its standby, and is answered with a success.
    pub(super) fn has_warned(&self) -> bool {
        self.warned.swap(false, Ordering::Relaxed)
    }

    /// Waits until everything that was sent before has been answered.
    pub(super) async fn wait_for_responses(&self) -> Result<(), tokio_postgres::Error> {
        self.client.simple_query("").await?;
        self.has_warned();
        Ok(())
    }

    /// Ends the connection, and fails the statements that are under way on it.
    pub(super) fn end(&self) {
        self.ends.cancel();
    }

    /// Returns whether this program has ended the connection. Then an error on it does not concern the
    /// server.
    pub(super) fn was_ended(&self) -> bool {
        self.ends.is_cancelled()
    }

    pub(super) async fn query_status(&self) -> Result<ServerStatus, QueryError> {
        let status = ServerStatus::read(&self.client.simple_query(ROLE).await?)?;
        if status.backend != self.backend {
            return Err(QueryError::Pooled);
        }
        Ok(status)
    }

    /// Queries so often that a pooler is detected, which runs statements in the sessions of others.
    pub(super) async fn check_session(&self) -> Result<(), QueryError> {
        for _ in 0..POOLED_ASKS {
            self.query_status().await?;
        }
        Ok(())
    }
}

/// Drives a connection until it ends.
pub(super) async fn drive_connection<S, T>(
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
                "notice from PostgreSQL"
            );
            if *notice.code() == SqlState::WARNING {
                warned.store(true, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

impl ServerStatus {
    pub(super) fn read(rows: &[SimpleQueryMessage]) -> Result<Self, QueryError> {
        let row = rows.iter().find_map(|message| {
            if let SimpleQueryMessage::Row(row) = message {
                return Some(row);
            }
            None
        });
        let column = |index| -> Option<&str> { row?.try_get(index).ok().flatten() };
        let no_status = || QueryError::OtherServer("it did not report its status".to_owned());
        let text = |index| column(index).map(str::to_owned).ok_or_else(no_status);
        Ok(Self {
            writable: column(0) == Some("off"),
            started_at: text(1)?,
            backend: text(2)?,
            timeline: column(3).and_then(|timeline| timeline.parse().ok()),
            system: column(4).map(str::to_owned),
        })
    }

    /// Returns the system identifier and the timeline.
    pub(super) fn history(&self) -> (Option<&str>, Option<u32>) {
        (self.system.as_deref(), self.timeline)
    }
}
