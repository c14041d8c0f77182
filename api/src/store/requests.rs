//! Requests that make a row: carried out once, however often they are sent.
//!
//! Each carries a key, the client's or our own. One statement looks for the key, and makes the row
//! and remembers the answer under the key if nobody has. Both are committed together, so whoever
//! sees no answer asks again and finds what was done. Of two at once under one key, the second waits
//! at the primary key of `api_requests`, fails (23505), and finds the first one's answer when
//! [`Store::run`] asks again.
//!
//! To find an answer writes too: that commit waits for the standby that the first one may not have
//! waited for, so nobody is told of a row that a failover can still lose. It also keeps the answer
//! for another day.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{self, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Store;
use super::queries::{self, Query};
use super::query_error::{NotStored, Unavailable, read_all};

/// Answers are kept for a day. Whether they are deleted some minutes sooner or later does not
/// matter, so replicas draw their pauses, from nothing to this, and rarely meet.
const EXPIRY_PAUSE: Duration = Duration::from_mins(20);
/// The first pause is shorter: a program that is started often would never come to it.
const FIRST_EXPIRY_PAUSE: Duration = Duration::from_secs(5);
/// So many are deleted at once: few enough that their locks are held for milliseconds.
const EXPIRY_BATCH: i64 = 1000;
/// The pause where there are more: four batches a second keep up with thousands of requests.
const BATCH_PAUSE: Duration = Duration::from_millis(500);
/// How long that may take, tries included.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Runs a statement that makes a row under a request key, and returns the answer, which is the
    /// first one's if the request has been carried out before.
    pub(super) async fn once<T: DeserializeOwned>(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<T, NotStored> {
        let rows = match self.run(query, params, deadline).await {
            // The row that has the value may be this request's own: an earlier try of it, committed
            // after this one had looked for the key. A second look sees it.
            Err(Unavailable::Constraint(_)) => self.run(query, params, deadline).await?,
            Ok(rows) if rows.is_empty() => self.run(query, params, deadline).await?,
            ran => ran?,
        };
        // What answers another request has another shape.
        let read = |row: &Row| {
            let is_same: bool = row.try_get(0)?;
            is_same.then(|| row.try_get(1)).transpose()
        };
        match read_all(&rows, read)?.pop() {
            Some(Some(Json(answer))) => Ok(answer),
            Some(None) => Err(NotStored::KeyReused),
            None => Err(NotStored::Taken),
        }
    }

    /// Deletes answers that are older than a day, now and then, until told to stop.
    pub(crate) async fn expire_requests(self, stop: CancellationToken) {
        let expiring = async {
            let mut longest_pause = FIRST_EXPIRY_PAUSE;
            loop {
                time::sleep(longest_pause.mul_f64(rand::random_range(0.0..1.0))).await;
                let deadline = Instant::now() + EXPIRY_TIMEOUT;
                let query = &queries::REQUESTS_EXPIRE;
                longest_pause = match self.run(query, &[&EXPIRY_BATCH], deadline).await {
                    Ok(expired) if i64::try_from(expired.len()) == Ok(EXPIRY_BATCH) => BATCH_PAUSE,
                    Ok(_all) => EXPIRY_PAUSE,
                    Err(why) => {
                        warn!(?why, "old answers could not be deleted; trying again later");
                        EXPIRY_PAUSE
                    }
                };
            }
        };
        let _stopped: Option<()> = stop.run_until_cancelled(expiring).await;
    }
}
