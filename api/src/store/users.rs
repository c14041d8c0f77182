//! Users in the database.

use tokio::time::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

use super::requests::NotStored;
use super::{Store, Unavailable, queries, read_all};
use crate::domain::{NewUser, User};

impl Store {
    /// Stores a user once for `key`.
    ///
    /// # Errors
    ///
    /// [`NotStored`]; it may be stored all the same when the database was unavailable.
    pub async fn create_user(
        &self,
        key: Uuid,
        user: &NewUser,
        deadline: Instant,
    ) -> Result<User, NotStored> {
        let NewUser { name, email } = user;
        self.once(&queries::USER_CREATE, &[&key, name, email], deadline)
            .await
    }

    /// Returns a user.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub async fn user(&self, id: i64, deadline: Instant) -> Result<Option<User>, Unavailable> {
        let rows = self.run(&queries::USER_GET, &[&id], deadline).await?;
        Ok(read_all(&rows, user)?.pop())
    }

    /// Returns at most `most` users, from the first after the id `after`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub async fn users(
        &self,
        after: i64,
        most: i64,
        deadline: Instant,
    ) -> Result<Vec<User>, Unavailable> {
        let rows = self
            .run(&queries::USERS_LIST, &[&after, &most], deadline)
            .await?;
        read_all(&rows, user)
    }
}

fn user(row: &Row) -> Result<User, tokio_postgres::Error> {
    Ok(User {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        email: row.try_get(2)?,
    })
}
