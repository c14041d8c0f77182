//! People and their birthdays.

use std::sync::Arc;

use causeway_runtime::shutdown::Tasks;
use jiff::civil::Date;
use tokio::time::Instant;

use super::Store;
pub(crate) use super::batcher::LEAST_TIME;
use super::batcher::{BatchRunner as _, Batcher};
use super::birthday_batches::{Birthday, BirthdayReader, BirthdayWriter, PutOutcome};
use super::queries;
use super::query_error::{Unavailable, read_all};
use crate::config::Case;
use crate::domain::Username;

/// Stores and finds dates of birth.
#[derive(Debug)]
pub(crate) struct Birthdays {
    store: Store,
    reads: Arc<Batcher<BirthdayReader>>,
    writes: Arc<Batcher<BirthdayWriter>>,
}

impl Birthdays {
    pub(crate) fn start(store: &Store, tasks: &Tasks) -> Self {
        let writer = BirthdayWriter::new(store.clone());
        Self {
            reads: Batcher::start(BirthdayReader(store.clone()), &store.primary, tasks),
            writes: Batcher::start(writer, &store.primary, tasks),
            store: store.clone(),
        }
    }

    /// Returns when a person was born, or `None` for a stranger.
    pub(crate) async fn date_of_birth(
        &self,
        username: &Username,
        case: Case,
        deadline: Instant,
    ) -> Result<Option<Date>, Unavailable> {
        if case == Case::Insensitive {
            let name = username.folded();
            let query = &queries::HELLO_GET_ANY_CASE;
            let rows = self.store.run(query, &[&name.as_str()], deadline).await?;
            return Ok(read_all(&rows, |row| row.try_get(0))?.into_iter().next());
        }
        let mut retry = self.store.retry(BirthdayReader::QUERY, deadline);
        loop {
            match self.reads.submit(username.clone(), deadline).await {
                Ok(found) => return Ok(found),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    /// Stores when a person was born. When this returns, it has been committed; and if the database was
    /// unavailable, it may have been, but will not be later than another that is acknowledged.
    pub(crate) async fn put_date_of_birth(
        &self,
        username: &Username,
        case: Case,
        date_of_birth: Date,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let username = match case {
            Case::Sensitive => username.clone(),
            Case::Insensitive => username.folded(),
        };
        let mut birthday = Birthday {
            username,
            date_of_birth,
            arrived: Instant::now(),
            since: None,
            rewrite: false,
        };
        let mut retry = self.store.retry(BirthdayWriter::QUERY, deadline);
        loop {
            // One for all attempts: a later one must not replace what was stored since.
            let since = match birthday.since {
                Some(since) => Ok(since),
                None => self.writes.runner.server_time(deadline).await,
            };
            let submitted = match since {
                Ok(since) => {
                    birthday.since = Some(since);
                    self.writes.submit(birthday.clone(), deadline).await
                }
                Err(error) => Err(Arc::new(error)),
            };
            match submitted {
                Ok(PutOutcome::Stored) => return Ok(()),
                Ok(PutOutcome::Rejected { since }) => birthday.since = since,
                Err(error) => {
                    birthday.rewrite |= error.is_unknown_outcome();
                    retry.pause(&error).await?;
                }
            }
        }
    }
}
