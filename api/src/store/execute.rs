//! Runs statements on the primary: on which connections, how often, and for how long.

use std::borrow::Borrow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use causeway_runtime::retry::{self, RetryClass, RetryPolicy};
use causeway_runtime::telemetry::chain;
use tokio::sync::SemaphorePermit;
use tokio::time::{self, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::{debug, error};

use super::Store;
use super::pool::{Pool, PooledConnection};
use super::queries::{ConnectionKind, Effect, Query};
use super::query_error::{DatabaseError, QueryError};

/// The pauses between two attempts. A request that waits for a primary is woken when there is one.
const RETRY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(25),
    max_backoff: Duration::from_millis(400),
};
/// A read without an answer by now is sent again elsewhere: its backend may be frozen.
const HEDGE_AFTER: Duration = Duration::from_millis(250);

impl Store {
    /// Runs a statement until it has an answer or `deadline` has come.
    pub(super) async fn run(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, DatabaseError> {
        let attempt = || self.attempt(query, params, deadline);
        self.retry(query, deadline, attempt).await
    }

    /// Calls `attempt` until it has an answer, another would be of no use, or `deadline` has come.
    pub(super) async fn retry<T, E: Borrow<QueryError>, F: Future<Output = Result<T, E>>>(
        &self,
        query: &Query,
        deadline: Instant,
        attempt: impl FnMut() -> F,
    ) -> Result<T, DatabaseError> {
        let classify = |error: &E| {
            let error = error.borrow();
            if query.effect == Effect::Writes && error.is_unknown_outcome() {
                self.metrics.db_commit_unknown.inc();
            }
            debug!(stmt = query.name, error = chain(error), "statement failed");
            match error.retry_reason() {
                Some(_) => RetryClass::Transient,
                None => RetryClass::Permanent,
            }
        };
        let count = |error: &E| {
            if let Some(reason) = error.borrow().retry_reason() {
                let retries = &self.metrics.db_retries;
                retries.with_label_values(&[reason]).inc();
            }
        };
        let answer = retry::until_notify(deadline, RETRY, classify, count, attempt).await;
        answer.map_err(|error| {
            let (why, error) = (chain(error.borrow()), error.borrow().into());
            if error == DatabaseError::Bug {
                error!(stmt = query.name, error = why, "statement rejected");
            }
            error
        })
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
            ConnectionKind::Pipelined => &self.pipelined,
            ConnectionKind::Lists => &self.lists,
            ConnectionKind::Creates => &self.creates,
            ConnectionKind::Birthdays => &self.birthdays,
        };
        let first = self.attempt_on(pool, query, params, deadline);
        let attempted = match query.effect {
            Effect::Reads => self.hedge(first, query, params, deadline).await,
            Effect::Writes => first.await,
        };
        attempted.inspect_err(|error| {
            let class = error.sqlstate_class();
            self.metrics.db_errors.with_label_values(&[class]).inc();
        })
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

    /// Runs a statement on one connection, and then releases or closes the connection.
    async fn attempt_on(
        &self,
        pool: &Arc<Pool>,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, QueryError> {
        let (pooled, _lock_turn) = acquire(pool, query, deadline).await?;
        let connection = &pooled.opened.connection;
        let began = Instant::now();
        let silent_at = began + self.answer_timeout;
        let answered = {
            let mut running = pin!(connection.run(query, params));
            let (soon, end) = (began + HEDGE_AFTER, deadline.min(silent_at));
            let mut answered = time::timeout_at(soon.min(end), &mut running).await;
            if answered.is_err() && soon < end {
                pooled.suspect(self.answer_timeout);
                answered = time::timeout_at(end, running).await;
            }
            answered
        };
        let took = began.elapsed();
        let durations = &self.metrics.db_query_duration;
        let duration = durations.with_label_values(&[query.name]);
        duration.observe(took.as_secs_f64());
        let is_write = query.effect == Effect::Writes;
        let answer = match answered {
            Ok(Ok(_)) if is_write && connection.has_warned() => Err(QueryError::Unreplicated),
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) if error.code().is_none() && connection.was_ended() => {
                Err(QueryError::Ended)
            }
            Ok(Err(error)) => Err(QueryError::Statement(error)),
            Err(_elapsed) if deadline < silent_at => Err(QueryError::OutOfTime(took)),
            Err(_elapsed) => Err(QueryError::Unanswered(took)),
        };
        // A write may wait for one row, which does not concern others.
        let is_locked = !is_write && answer.as_ref().is_err_and(QueryError::is_lock_timeout);
        query.is_locked.store(is_locked, Ordering::Relaxed);
        let Err(error) = &answer else {
            pooled.release();
            return answer;
        };
        self.primary.record_error(pooled.opened.generation, error);
        if matches!(error, QueryError::OutOfTime(_) | QueryError::Unanswered(_)) {
            // The statement is still under way.
            drop(pooled);
        } else if error.ends_connection() {
            pooled.close();
        } else {
            pooled.release();
        }
        answer
    }

    async fn wait_for_schema(&self, deadline: Instant) -> Result<(), QueryError> {
        let mut has_schema = self.has_schema.subscribe();
        let waited =
            time::timeout_at(deadline, has_schema.wait_for(|has_schema| *has_schema)).await;
        let has_schema = matches!(waited, Ok(Ok(_)));
        has_schema.then_some(()).ok_or(QueryError::NoSchema)
    }
}

/// Acquires a connection. After a lock timeout, one request of the statement at a time has one.
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
