//! Connection with a timeout for each statement. A server that hangs, or a lock that is never
//! released, would otherwise block a backup and all later backups of its timer.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Client whose statements fail after a timeout.
pub(crate) struct BoundedClient {
    client: Client,
    timeout: Duration,
    setting: &'static str,
}

/// Statements with a timeout of their own.
pub(super) struct Bounded<'a> {
    client: &'a Client,
    timeout: Duration,
    setting: &'static str,
}

impl BoundedClient {
    /// Returns a client with this statement timeout, which `setting` sets.
    pub(super) fn new(client: Client, timeout: Duration, setting: &'static str) -> Self {
        Self {
            client,
            timeout,
            setting,
        }
    }

    /// Returns whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Returns the same connection with another timeout.
    pub(super) fn with_timeout(&self, timeout: Duration, setting: &'static str) -> Bounded<'_> {
        Bounded {
            client: &self.client,
            timeout,
            setting,
        }
    }

    fn with_default_timeout(&self) -> Bounded<'_> {
        self.with_timeout(self.timeout, self.setting)
    }

    /// Returns all rows.
    pub(super) async fn query(
        &self,
        sql: &str,
        values: Parameters<'_>,
    ) -> anyhow::Result<Vec<Row>> {
        let usual = self.with_default_timeout();
        usual.answer(sql, usual.client.query(sql, values)).await
    }

    /// Returns the only row.
    pub(super) async fn query_one(&self, sql: &str, values: Parameters<'_>) -> anyhow::Result<Row> {
        self.with_default_timeout().query_one(sql, values).await
    }

    /// Returns the row, if there is one.
    pub(super) async fn query_opt(
        &self,
        sql: &str,
        values: Parameters<'_>,
    ) -> anyhow::Result<Option<Row>> {
        let usual = self.with_default_timeout();
        usual.answer(sql, usual.client.query_opt(sql, values)).await
    }

    /// Executes statements without parameters.
    pub(super) async fn batch_execute(&self, sql: &str) -> anyhow::Result<()> {
        let usual = self.with_default_timeout();
        usual.answer(sql, usual.client.batch_execute(sql)).await
    }
}

impl Bounded<'_> {
    /// Returns the only row.
    pub(super) async fn query_one(&self, sql: &str, values: Parameters<'_>) -> anyhow::Result<Row> {
        self.answer(sql, self.client.query_one(sql, values)).await
    }

    async fn answer<T>(
        &self,
        sql: &str,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> anyhow::Result<T> {
        let answer = time::timeout(self.timeout, answer).await;
        let answer = answer.with_context(|| {
            format!(
                "the server did not respond to `{sql}` within {} s (`{}`)",
                self.timeout.as_secs(),
                self.setting
            )
        })?;
        Ok(answer?)
    }
}
