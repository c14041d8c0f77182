//! People and their birthdays.

use std::collections::BTreeMap;

use jiff::civil::Date;
use tokio::time::Instant;

use super::failure::Failure;
use super::gather::Item;
use super::queries::{self, Query};
use super::{Patience, Store, Unavailable, read_all};
use crate::config::Case;
use crate::domain::Username;

/// When a person was born, on its way to the table.
#[derive(Clone, Debug)]
pub(super) struct Birthday {
    username: Username,
    date_of_birth: Date,
}

impl Store {
    /// Returns when a person was born, or `None` for a stranger.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub async fn date_of_birth(
        &self,
        username: &Username,
        case: Case,
        deadline: Instant,
    ) -> Result<Option<Date>, Unavailable> {
        let rows = match case {
            Case::Sensitive => {
                let name = username.as_str();
                self.run(&queries::HELLO_GET, &[&name], deadline).await?
            }
            Case::Insensitive => {
                let name = username.folded();
                self.run(&queries::HELLO_GET_ANY_CASE, &[&name.as_str()], deadline)
                    .await?
            }
        };
        Ok(read_all(&rows, |row| row.try_get(0))?.pop())
    }

    /// Stores when a person was born. When this returns, it has been committed.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`; it may or may not be stored then.
    pub async fn remember(
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
        let birthday = Birthday {
            username,
            date_of_birth,
        };
        let mut patience = Patience::new(Birthday::QUERY, deadline);
        loop {
            match self.birthdays.submit(birthday.clone(), deadline).await {
                Ok(()) => return Ok(()),
                Err(failure) => self.pause(&mut patience, &failure).await?,
            }
        }
    }
}

impl Item for Birthday {
    const QUERY: &'static Query = &queries::HELLO_PUT;

    /// A name that comes twice may not be twice in one statement (SQLSTATE 21000). Whoever came
    /// first is answered as if overwritten a moment later.
    async fn write(items: Vec<&Self>, store: &Store, deadline: Instant) -> Result<(), Failure> {
        let pairs = items
            .iter()
            .map(|it| (it.username.as_str(), it.date_of_birth));
        let latest: BTreeMap<&str, Date> = pairs.collect();
        let names: Vec<&str> = latest.keys().copied().collect();
        let dates: Vec<Date> = latest.into_values().collect();
        store
            .attempt(Self::QUERY, &[&names, &dates], deadline)
            .await?;
        Ok(())
    }
}
