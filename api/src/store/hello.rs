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

/// A name whose date of birth is asked for.
#[derive(Debug)]
pub(super) struct Name(Username);

/// When a person was born, on its way to the table.
#[derive(Clone, Debug)]
pub(super) struct Birthday {
    username: Username,
    date_of_birth: Date,
    /// Whether it is to be written even if it seems to be there: an earlier try may have been
    /// committed on a primary that was ended before its standby had it.
    rewrite: bool,
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
        match case {
            Case::Sensitive => self.date_of_birth_by_name(username, deadline).await,
            Case::Insensitive => self.date_of_birth_in_any_case(username, deadline).await,
        }
    }

    async fn date_of_birth_by_name(
        &self,
        username: &Username,
        deadline: Instant,
    ) -> Result<Option<Date>, Unavailable> {
        let mut patience = Patience::new(Name::QUERY, deadline);
        loop {
            let name = Name(username.clone());
            match self.names.submit(name, deadline, &self.primary).await {
                Ok(found) => return Ok(found),
                Err(failure) => self.pause(&mut patience, &failure).await?,
            }
        }
    }

    async fn date_of_birth_in_any_case(
        &self,
        username: &Username,
        deadline: Instant,
    ) -> Result<Option<Date>, Unavailable> {
        let name = username.folded();
        let query = &queries::HELLO_GET_ANY_CASE;
        let rows = self.run(query, &[&name.as_str()], deadline).await?;
        Ok(read_all(&rows, |row| row.try_get(0))?.into_iter().next())
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
        let mut birthday = Birthday {
            username,
            date_of_birth,
            rewrite: false,
        };
        let mut patience = Patience::new(Birthday::QUERY, deadline);
        loop {
            let submitted = self
                .birthdays
                .submit(birthday.clone(), deadline, &self.primary);
            match submitted.await {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    birthday.rewrite |= failure.is_unknown_outcome();
                    self.pause(&mut patience, &failure).await?;
                }
            }
        }
    }
}

impl Item for Name {
    const QUERY: &'static Query = &queries::HELLO_GET;
    /// One waits for the server while another is made up; more would only be smaller.
    const STATEMENTS: usize = 2;

    type Answer = Option<Date>;

    async fn run(
        items: Vec<&Self>,
        store: &Store,
        deadline: Instant,
    ) -> Result<Vec<Self::Answer>, Failure> {
        let names: Vec<&str> = items.iter().map(|it| it.0.as_str()).collect();
        let rows = store.attempt(Self::QUERY, &[&names], deadline).await?;
        let mut found = BTreeMap::new();
        for row in &rows {
            let name: &str = row.try_get(0).map_err(Failure::Unreadable)?;
            let date: Date = row.try_get(1).map_err(Failure::Unreadable)?;
            found.insert(name, date);
        }
        Ok(names.iter().map(|it| found.get(it).copied()).collect())
    }
}

impl Item for Birthday {
    const QUERY: &'static Query = &queries::HELLO_PUT;
    /// A flush to the disk is most of what a write waits for, and several can wait for one. Measured
    /// beside 1, 2, 8 and 16 with 64 clients: 2 are a fifth slower, 8 take twice the processor time.
    const STATEMENTS: usize = 4;

    type Answer = ();

    /// A name that comes twice may not be twice in one statement (SQLSTATE 21000). Whoever came
    /// first is answered as if overwritten a moment later.
    async fn run(
        items: Vec<&Self>,
        store: &Store,
        deadline: Instant,
    ) -> Result<Vec<Self::Answer>, Failure> {
        let mut latest: BTreeMap<&str, (Date, bool)> = BTreeMap::new();
        for it in &items {
            let (date, rewrite) = latest.entry(it.username.as_str()).or_default();
            *date = it.date_of_birth;
            *rewrite |= it.rewrite;
        }
        let names: Vec<&str> = latest.keys().copied().collect();
        let (dates, rewrites): (Vec<Date>, Vec<bool>) = latest.into_values().unzip();
        store
            .attempt(Self::QUERY, &[&names, &dates, &rewrites], deadline)
            .await?;
        Ok(vec![(); items.len()])
    }
}
