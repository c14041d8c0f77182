//! Members, users and beers in the database. A row is created once for the key of its request, and lists
//! are ordered by their keys.

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::lists::{Listed, listed_by_id};
use super::queries::Query;
use super::query_error::{DatabaseError, read_all};
use super::{Store, queries};
use crate::domain::{Beer, Member, NewBeer, NewMember, NewUser, SEED, User};

/// The beginning of the year 1, in seconds since 1970. PostgreSQL cannot store the earliest times that
/// `Timestamp` can.
const EARLIEST: Timestamp = Timestamp::constant(-62_135_596_800, 0);

type Read<T> = Result<T, tokio_postgres::Error>;

impl Store {
    /// Stores a member once for `key`. After [`DatabaseError`] the member may have been stored.
    pub(crate) async fn create_member(
        &self,
        key: Uuid,
        NewMember { name, age }: &NewMember,
        deadline: Instant,
    ) -> Result<Member, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 3] = [&key, name, age];
        self.once(&queries::MEMBER_CREATE, &params, deadline).await
    }

    /// Stores a user once for `key`.
    pub(crate) async fn create_user(
        &self,
        key: Uuid,
        NewUser { name, email }: &NewUser,
        deadline: Instant,
    ) -> Result<User, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 3] = [&key, name, email];
        self.once(&queries::USER_CREATE, &params, deadline).await
    }

    pub(crate) async fn user(
        &self,
        id: i64,
        deadline: Instant,
    ) -> Result<Option<User>, DatabaseError> {
        let rows = self.run(&queries::USER_GET, &[&id], deadline).await?;
        Ok(read_all(&rows, user)?.pop())
    }

    /// Stores a beer once for `key`.
    pub(crate) async fn create_beer(
        &self,
        key: Uuid,
        NewBeer { name, style, abv }: &NewBeer,
        deadline: Instant,
    ) -> Result<Beer, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 4] = [&key, name, style, abv];
        self.once(&queries::BEER_CREATE, &params, deadline).await
    }

    /// Stores those of the seed beers whose name no beer has, and returns them.
    pub(crate) async fn seed_beers(&self, deadline: Instant) -> Result<Vec<Beer>, DatabaseError> {
        let names = SEED.map(|(name, _style, _abv)| name);
        let styles = SEED.map(|(_name, style, _abv)| style);
        let strengths = SEED.map(|(_name, _style, abv)| abv);
        let params: [&(dyn ToSql + Sync); 3] = [&&names[..], &&styles[..], &&strengths[..]];
        let rows = self.run(&queries::BEERS_SEED, &params, deadline).await?;
        read_all(&rows, beer)
    }
}

listed_by_id!(User, USERS_LIST, USERS_LIST_END, user);
listed_by_id!(Beer, BEERS_LIST, BEERS_LIST_END, beer);

impl Listed for Member {
    type Key = (Timestamp, Uuid);
    const PAGE: &'static Query = &queries::MEMBERS_LIST;
    const END: &'static Query = &queries::MEMBERS_LIST_END;

    fn parameters(after: Option<&Self::Key>) -> Vec<Box<dyn ToSql + Sync + Send>> {
        let (created_at, id) = after.copied().unzip();
        let created_at = created_at.map(|at: Timestamp| at.max(EARLIEST));
        vec![Box::new(created_at), Box::new(id)]
    }

    fn read(row: &Row) -> Read<Self> {
        Ok(Self {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            age: row.try_get(2)?,
            created_at: row.try_get(3)?,
            updated_at: row.try_get(4)?,
        })
    }

    fn read_key(row: &Row) -> Read<Self::Key> {
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    fn key(&self) -> Self::Key {
        (self.created_at, self.id)
    }
}

fn user(row: &Row) -> Read<User> {
    Ok(User {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        email: row.try_get(2)?,
    })
}

fn beer(row: &Row) -> Read<Beer> {
    Ok(Beer {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        style: row.try_get(2)?,
        abv: row.try_get(3)?,
    })
}
