//! Requests that create a row: executed once, however often they are sent (idempotency).
//!
//! Each carries a key, the client's or a generated one. One statement looks up the key, and if it is absent creates the
//! row and stores the answer under the key. Both are committed together, so a request without an answer is repeated and
//! finds it. Of two concurrent requests with one key, the second waits for the primary key of `api_requests`, fails
//! (23505), and finds the first one's answer when [`Store::run`] repeats it.
//!
//! Finding an answer writes too: that commit waits for the standby that the first one may not have waited for, so no
//! client receives a row that a failover can still lose. It also keeps the answer for another day.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{self, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Store;
use super::queries::{self, Query};
use super::query_error::{DatabaseError, read_all};

/// The longest interval between two deletions of answers that are older than a day. Each is random, from
/// nothing to this, so that replicas rarely delete at once.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(20);
/// The longest first interval: a program that is restarted often must delete as well.
const FIRST_EXPIRY_INTERVAL: Duration = Duration::from_secs(5);
/// The answers that are deleted at once: few enough that their locks are held for milliseconds.
const EXPIRY_BATCH: i64 = 1000;
/// The longest interval where there are more: four batches a second keep up with thousands of requests.
const BATCH_INTERVAL: Duration = Duration::from_millis(500);
/// The time for one deletion, with its retries.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Runs a statement that creates a row under a request key, and returns the answer: the first one's if
    /// the request has been executed before.
    pub(super) async fn once<T: DeserializeOwned>(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<T, DatabaseError> {
        let rows = match self.run(query, params, deadline).await {
            // The row with the value may be this request's own: an earlier attempt, committed after this
            // one had looked for the key. A second look finds it.
            Err(DatabaseError::Constraint(_)) => self.run(query, params, deadline).await?,
            Ok(rows) if rows.is_empty() => self.run(query, params, deadline).await?,
            ran => ran?,
        };
        // The answer to another request has another shape.
        let read = |row: &Row| {
            let is_same: bool = row.try_get(0)?;
            is_same.then(|| row.try_get(1)).transpose()
        };
        match read_all(&rows, read)?.pop() {
            Some(Some(Json(answer))) => Ok(answer),
            Some(None) => Err(DatabaseError::KeyReused),
            None => Err(DatabaseError::Taken),
        }
    }

    /// Deletes answers that are older than a day, from time to time, until `stop` is cancelled.
    pub(crate) async fn expire_requests(self, stop: CancellationToken) {
        let expiring = async {
            let mut longest_interval = FIRST_EXPIRY_INTERVAL;
            loop {
                time::sleep(longest_interval.mul_f64(rand::random_range(0.0..1.0))).await;
                let deadline = Instant::now() + EXPIRY_TIMEOUT;
                let query = &queries::REQUESTS_EXPIRE;
                longest_interval = match self.run(query, &[&EXPIRY_BATCH], deadline).await {
                    Ok(rows) if i64::try_from(rows.len()) == Ok(EXPIRY_BATCH) => BATCH_INTERVAL,
                    Ok(_all) => EXPIRY_INTERVAL,
                    Err(why) => {
                        warn!(?why, "deletion of old answers failed");
                        EXPIRY_INTERVAL
                    }
                };
            }
        };
        let _stopped: Option<()> = stop.run_until_cancelled(expiring).await;
    }
}
