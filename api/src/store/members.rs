//! Members in the database.

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

use super::requests::NotStored;
use super::{Store, Unavailable, queries, read_all};
use crate::domain::{Member, NewMember, StoredMember};

/// The beginning of the year 1, in seconds since 1970. PostgreSQL has no room for the earliest times
/// that can be written down here.
const EARLIEST: Timestamp = Timestamp::constant(-62_135_596_800, 0);

impl Store {
    /// Stores a member once for `key`.
    ///
    /// # Errors
    ///
    /// [`NotStored`]; it may be stored all the same when the database was unavailable.
    pub async fn create_member(
        &self,
        key: Uuid,
        member: &NewMember,
        deadline: Instant,
    ) -> Result<Member, NotStored> {
        let NewMember { name, age } = member;
        self.once(&queries::MEMBER_CREATE, &[&key, name, age], deadline)
            .await
    }

    /// Returns at most `most` members that were not deleted, by time and id, from the first after
    /// `after`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub async fn members(
        &self,
        after: Option<(Timestamp, Uuid)>,
        most: i64,
        deadline: Instant,
    ) -> Result<Vec<StoredMember>, Unavailable> {
        let (created_at, id) = after.unzip();
        let created_at = created_at.map(|it| it.max(EARLIEST));
        let rows = self
            .run(&queries::MEMBERS_LIST, &[&created_at, &id, &most], deadline)
            .await?;
        read_all(&rows, member)
    }
}

fn member(row: &Row) -> Result<StoredMember, tokio_postgres::Error> {
    Ok(StoredMember {
        member: Member {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            age: row.try_get(2)?,
        },
        created_at: row.try_get(3)?,
        updated_at: row.try_get(4)?,
    })
}
