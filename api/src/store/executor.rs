//! How a statement is run: on which connections, how often, and for how long.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{self, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::{debug, error};

use super::pool::{Pool, PooledConnection, PrimaryConnection};
use super::queries::{ConnectionKind, Effect, Query};
use super::query_error::{ErrorClass, QueryError};
use super::{Store, Unavailable};

/// The first pause before another try is drawn from nothing to this.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// No pause is longer than this. Whoever waits for a primary is woken sooner, when there is one.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The server ends a statement by itself after its own timeout; one that has not said so this much
/// later is frozen or cut off.
pub(super) const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// A read that has no answer by now is sent again elsewhere: its backend may be frozen.
const HEDGE_AFTER: Duration = Duration::from_millis(250);

impl Store {
    /// Runs a statement until it has an answer or `deadline` has come.
    pub(super) async fn run(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Unavailable> {
        let mut longest_pause = FIRST_PAUSE;
        loop {
            match self.attempt(query, params, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    let pause = self.pause(query, &error, &mut longest_pause, deadline);
                    pause.await?;
                }
            }
        }
    }

    /// Returns when it is time for another try, or what to tell the caller if there is to be none.
    pub(super) async fn pause(
        &self,
        query: &Query,
        error: &QueryError,
        longest: &mut Duration,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        if query.effect == Effect::Writes && error.is_unknown_outcome() {
            self.metrics.db_commit_unknown.inc();
        }
        let text = causeway_runtime::telemetry::chain(error);
        debug!(stmt = query.name, error = text, "statement failed");
        if let Some(name) = error.constraint() {
            return Err(Unavailable::Constraint(name.to_owned()));
        }
        let reason = match error.class() {
            ErrorClass::ServerLost => "server-lost",
            ErrorClass::ServerReadOnly => "read-only",
            ErrorClass::ServerSilent => "server-silent",
            ErrorClass::ConnectionSpent => "connection-spent",
            ErrorClass::Passing => "passing",
            ErrorClass::Final => return Err(unavailable(error)),
            ErrorClass::Bug => {
                error!(stmt = query.name, error = text, "statement is wrong");
                return Err(Unavailable::Bug);
            }
        };
        let pause = longest.mul_f64(rand::random_range(0.0..1.0));
        *longest = LONGEST_PAUSE.min(*longest * 2);
        if Instant::now() + pause >= deadline {
            return Err(unavailable(error));
        }
        self.metrics.db_retries.with_label_values(&[reason]).inc();
        time::sleep(pause).await;
        Ok(())
    }

    /// Runs a statement once, and a read once more elsewhere if it has no answer soon.
    pub(super) async fn attempt(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, QueryError> {
        self.wait_for_schema(deadline).await?;
        let pool = match query.kind {
            ConnectionKind::Shared => &self.shared,
            ConnectionKind::Lists => &self.lists,
            ConnectionKind::Creates => &self.creates,
            ConnectionKind::Birthdays => &self.puts,
        };
        let first = self.attempt_on(pool, query, params, deadline);
        let attempted = if query.effect == Effect::Reads {
            self.hedge(first, query, params, deadline).await
        } else {
            first.await
        };
        if let Err(error) = &attempted {
            let class = error.sqlstate_class();
            self.metrics.db_errors.with_label_values(&[class]).inc();
        }
        attempted
    }

    async fn hedge(
        &self,
        first: impl Future<Output = Result<Vec<Row>, QueryError>>,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, QueryError> {
        let mut first = pin!(first);
        if let Ok(answered) = time::timeout(HEDGE_AFTER, &mut first).await {
            return answered;
        }
        let second = Box::pin(async {
            let _hedge = query.hedges.acquire().await;
            loop {
                self.metrics.db_retries.with_label_values(&["hedge"]).inc();
                let attempted = self.attempt_on(&self.lists, query, params, deadline).await;
                if let Ok(rows) = attempted {
                    break rows;
                }
                time::sleep(HEDGE_AFTER).await;
            }
        });
        tokio::select! {
            answered = &mut first => answered,
            rows = second => Ok(rows),
        }
    }

    async fn attempt_on(
        &self,
        pool: &Arc<Pool>,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, QueryError> {
        let (connection, _lock_turn) = acquire(pool, query, deadline).await?;
        let answer = {
            let mut answer = pin!(self.answer(&connection.opened, query, params, deadline));
            if let Ok(answer) = time::timeout(HEDGE_AFTER, &mut answer).await {
                answer
            } else {
                connection.suspect(self.settings.statement_timeout + ANSWER_GRACE);
                answer.await
            }
        };
        let is_locked = answer.as_ref().is_err_and(QueryError::is_lock_timeout);
        // Where a write waits it may be for one row, which is nothing to the others.
        let is_locked = is_locked && query.effect == Effect::Reads;
        query.is_locked.store(is_locked, Ordering::Relaxed);
        match answer.as_ref().map_err(QueryError::class) {
            Err(_) if matches!(answer, Err(QueryError::OutOfTime(_))) => drop(connection),
            Err(ErrorClass::ServerSilent) => drop(connection),
            Ok(_) | Err(ErrorClass::Passing | ErrorClass::Final | ErrorClass::Bug) => {
                connection.release()
            }
            Err(
                ErrorClass::ServerLost | ErrorClass::ServerReadOnly | ErrorClass::ConnectionSpent,
            ) => {
                connection.close();
            }
        }
        answer
    }

    /// Returns what the server answers on this connection; if it should be left, it is.
    async fn answer(
        &self,
        opened: &PrimaryConnection,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, QueryError> {
        let connection = &opened.connection;
        let began = Instant::now();
        let silent_at = began + self.settings.statement_timeout + ANSWER_GRACE;
        let running = connection.run(query, params);
        let answered = time::timeout_at(deadline.min(silent_at), running).await;
        let took = began.elapsed();
        self.metrics
            .db_query_duration
            .with_label_values(&[query.name])
            .observe(took.as_secs_f64());
        let error = match answered {
            Ok(Ok(_)) if query.effect == Effect::Writes && connection.has_warned() => {
                QueryError::Unreplicated
            }
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) if error.code().is_none() && connection.was_ended() => QueryError::Ended,
            Ok(Err(error)) => QueryError::Statement(error),
            Err(_elapsed) if deadline < silent_at => QueryError::OutOfTime(took),
            Err(_elapsed) => QueryError::Unanswered(took),
        };
        self.primary.record_error(opened.generation, &error);
        Err(error)
    }

    async fn wait_for_schema(&self, deadline: Instant) -> Result<(), QueryError> {
        let mut has_schema = self.has_schema.subscribe();
        let waited = time::timeout_at(deadline, has_schema.wait_for(|it| *it)).await;
        matches!(waited, Ok(Ok(_)))
            .then_some(())
            .ok_or(QueryError::NoSchema)
    }
}

/// Acquires a connection; alone, if the statement waited for a lock last.
async fn acquire(
    pool: &Arc<Pool>,
    query: &'static Query,
    deadline: Instant,
) -> Result<(PooledConnection, Option<SemaphorePermit<'static>>), QueryError> {
    let mut turn = None;
    loop {
        let connection = pool.acquire(query.effect, deadline).await?;
        if turn.is_some() || !query.is_locked.load(Ordering::Relaxed) {
            return Ok((connection, turn));
        }
        connection.release();
        let waited = time::timeout_at(deadline, query.lock_turn.acquire()).await;
        turn = waited.map_err(|_elapsed| QueryError::PoolExhausted)?.ok();
    }
}

fn unavailable(error: &QueryError) -> Unavailable {
    let is_read_only = matches!(error, QueryError::NoPrimary { read_only: true });
    if is_read_only || error.class() == ErrorClass::ServerReadOnly {
        Unavailable::ReadOnly
    } else if matches!(error, QueryError::PoolExhausted) {
        Unavailable::Busy
    } else {
        Unavailable::Away
    }
}
